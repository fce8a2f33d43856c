"""The link to a host with several addresses or a mute name server, and at its end: the same on both event loops."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stockworker.adapters.mqtt import LinkDown, LinkUp
from stockworker.adapters.mqtt_connection import Connection, LinkSettings
from stockworker.adapters.mqtt_wire import ConnectionEnd
from stockworker.errors import ConnectionFailed
from tests.harness.broker import Broker
from tests.harness.link_recorder import LinkRecorder, connected, running, settings_for

HOST = "broker.test"
CONNACK = bytes.fromhex("20 03 00 00 00")
NOT_AUTHORIZED = bytes.fromhex("20 03 00 87 00")
GOOD, BAD, WORSE = "127.0.0.1", "127.0.0.2", "127.0.0.3"

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(scenario: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(scenario)

    return run


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the addresses of `HOST`."""

    def resolve(*addresses: str) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda _host, port, **_: [entry(each, port) for each in addresses])

    def entry(address: str, port: int) -> tuple[Any, ...]:
        return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))

    return resolve


@asynccontextmanager
async def peer(port: int, address: str, answer: bytes) -> AsyncIterator[int]:
    """Accepts connections, and answers CONNECT with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(answer)
        while await reader.read(65_536):
            pass
        writer.close()

    async with await asyncio.start_server(serve, address, port) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def black_hole() -> Iterator[int]:
    """The port of a peer at `BAD` that drops each SYN."""
    with ExitStack() as stack:
        full = stack.enter_context(closing(socket.socket()))
        full.bind((BAD, 0))
        full.listen(0)
        for _ in range(2):
            filler = stack.enter_context(closing(socket.socket()))
            filler.settimeout(0)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def settings(port: int, **changes: Any) -> LinkSettings:
    return LinkSettings(HOST, port, "w1", **({"backoff_first_s": 0.05} | changes))


async def reason(recorder: LinkRecorder, number: int = 1) -> str:
    run = asyncio.create_task(recorder.link.run())
    found = (await recorder.next(LinkDown, number)).reason
    await recorder.link.close()
    await run
    return found


def test_a_dead_address_does_not_keep_the_link_from_a_living_one(
    run: Run, resolve: Callable[..., None], black_hole: int
) -> None:
    async def scenario() -> None:
        resolve(BAD, GOOD)
        async with peer(black_hole, GOOD, CONNACK), running(LinkRecorder(settings(black_hole))) as recorder:
            assert recorder.all(LinkDown) == []

    run(scenario())


def test_a_closed_port_at_one_address_does_not_either(run: Run, resolve: Callable[..., None]) -> None:
    async def scenario() -> None:
        resolve(BAD, GOOD)
        async with peer(0, GOOD, CONNACK) as port, running(LinkRecorder(settings(port))) as recorder:
            assert recorder.all(LinkDown) == []
            assert recorder.link._connection is not None
            taken = recorder.link._connection.wire._transport.get_extra_info("socket")
            assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "words"), [(b"", "waiting for CONNACK at 127.0.0.2"), (NOT_AUTHORIZED, "127.0.0.2: the broker refused")]
)
def test_an_address_that_accepts_and_serves_nothing_comes_last_next_time(
    run: Run, resolve: Callable[..., None], answer: bytes, words: str
) -> None:
    async def scenario() -> None:
        resolve(BAD, GOOD)
        recorder = LinkRecorder(settings(0, connect_timeout_s=0.5))
        async with peer(0, GOOD, CONNACK) as port, peer(port, BAD, answer):
            recorder = LinkRecorder(settings(port, connect_timeout_s=0.5))
            async with running(recorder):
                (down,) = recorder.all(LinkDown)
                assert words in down.reason

    run(scenario())


def test_a_broker_that_refuses_at_each_address_refuses_for_good(run: Run, resolve: Callable[..., None]) -> None:
    async def scenario() -> None:
        resolve(BAD, GOOD)
        async with peer(0, GOOD, NOT_AUTHORIZED) as port, peer(port, BAD, NOT_AUTHORIZED):
            with pytest.raises(ConnectionFailed, match="not authorized"):
                await LinkRecorder(settings(port)).link.run()

    run(scenario())


def test_the_reason_names_each_address(run: Run, resolve: Callable[..., None]) -> None:
    async def scenario() -> None:
        resolve(BAD, WORSE)
        with closing(socket.create_server((GOOD, 0))) as unused:
            found = await reason(LinkRecorder(settings(unused.getsockname()[1])))
        assert found.endswith(
            ": 127.0.0.2, 127.0.0.3: connection refused: is the broker running, and is this its port?"
        )

    run(scenario())


def test_addresses_that_do_not_answer_are_named(run: Run, resolve: Callable[..., None], black_hole: int) -> None:
    async def scenario() -> None:
        resolve(BAD)
        found = await reason(LinkRecorder(settings(black_hole, connect_timeout_s=0.5)))
        assert "no answer within 0.5 s, waiting for the TCP connection at 127.0.0.2" in found

    run(scenario())


class MuteResolver:
    """Answers once it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.answered = threading.Event()
        self.asked = 0

    def __call__(self, _host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        self.release.wait(20)
        self.answered.set()
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (GOOD, port))]


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[MuteResolver]:
    mute = MuteResolver()
    monkeypatch.setattr(socket, "getaddrinfo", mute)
    yield mute
    mute.release.set()


def test_a_mute_name_server_is_named_and_no_end_waits_for_it(run: Run, mute: MuteResolver) -> None:
    async def scenario() -> None:
        found = await reason(LinkRecorder(settings(1, connect_timeout_s=0.1)))
        assert "no answer within 0.1 s, waiting for the name server (DNS)" in found

    run(scenario())
    assert not mute.answered.is_set()


def test_a_late_answer_of_the_name_server_serves_the_next_attempt(run: Run, mute: MuteResolver) -> None:
    async def scenario() -> None:
        async with peer(0, GOOD, CONNACK) as port:
            recorder = LinkRecorder(settings(port, connect_timeout_s=0.2))
            work = asyncio.create_task(recorder.link.run())
            await recorder.next(LinkDown)
            mute.release.set()
            await recorder.next(LinkUp)
            await recorder.link.close()
            await work

    run(scenario())
    assert mute.asked == 1


def test_a_host_name_with_a_dot_at_its_end_fits_the_certificate(
    run: Run, resolve: Callable[..., None], tmp_path: Path
) -> None:
    async def scenario(broker: Broker) -> None:
        resolve(GOOD)
        async with connected(broker, "w1", host="localhost."):
            pass

    with Broker(tmp_path, "user w1\ntopic readwrite t/#\n") as broker:
        run(scenario(broker))


@pytest.mark.parametrize("end", ["abort", "disconnect"])
def test_a_link_that_looks_at_its_connection_in_the_moment_of_its_end_goes_on(
    run: Run, resolve: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("stockworker.adapters.mqtt._CHECKS_PER_KEEPALIVE", 1e9)  # it looks all the time

    async def scenario(broker: Broker) -> None:
        resolve(GOOD)
        async with connected(broker, "w1") as recorder:
            assert recorder.link._connection is not None
            getattr(recorder.link._connection.wire, end)(ConnectionEnd("a test"))
            await recorder.next(LinkUp, 2)

    with Broker(tmp_path, "user w1\ntopic readwrite t/#\n") as broker:
        run(scenario(broker))


def test_a_link_that_is_closed_in_the_moment_it_connects_ends(
    run: Run, resolve: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    establish = Connection._establish

    async def scenario(broker: Broker) -> None:
        resolve(GOOD)
        recorder = LinkRecorder(settings_for(broker, "w1"))
        closed = asyncio.get_running_loop().create_future()

        def close() -> None:
            closed.set_result(asyncio.create_task(recorder.link.close()))

        async def establish_and_close(connection: Connection) -> None:
            await establish(connection)
            asyncio.get_running_loop().call_soon(close)

        monkeypatch.setattr(Connection, "_establish", establish_and_close)
        async with running(recorder):
            done, _ = await asyncio.wait({await closed}, timeout=10)
            assert done, "close() waits for the link, which has forgotten its cancellation"

    with Broker(tmp_path, "user w1\ntopic readwrite t/#\n") as broker:
        run(scenario(broker))
