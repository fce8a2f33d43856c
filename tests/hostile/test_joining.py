"""Strangers at the authority's server for new machines, and servers that pretend to be the authority."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from stockworker.errors import CertificateRefused, ConnectionFailed
from stockworker.pki.certificates import Subject, make_p256, make_request
from stockworker.pki.join_client import Invitation, Joined, JoiningMachine, join
from stockworker.pki.join_limits import BURST, FAILURE_COSTS, MOST_OF_ONE
from stockworker.pki.join_protocol import LONGEST_LINE, TIME_LIMIT_S, encoded
from stockworker.pki.join_token import JoinToken
from stockworker.pki.registry import CertificateKind
from tests.harness.joining import HERE, Serving, anything_goes, authority, serving

REFUSED = "unknown, expired or used already"


async def joined(invitation: Invitation, folder: Path, name: str = "edge-7-1") -> Joined:
    return await join(invitation, JoiningMachine(folder, name, "1"), name, make_p256)


async def said(server: Serving, line: bytes) -> bytes:
    """What the server answers to a line of a stranger."""
    reader, writer = await asyncio.open_connection(HERE, server.port, ssl=anything_goes())
    try:
        await reader.readline()
        writer.write(line)
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def against(folder: Path, attack: Callable[[Serving], Awaitable[None]], time_limit_s: float = TIME_LIMIT_S) -> None:
    async def run() -> None:
        async with serving(folder / "ca", time_limit_s=time_limit_s) as server:
            await attack(server)

    asyncio.run(run())


def test_a_used_token_gives_nothing(tmp_path: Path) -> None:
    async def attack(server: Serving) -> None:
        invitation = server.invitation()
        await joined(invitation, tmp_path / "1")
        with pytest.raises(CertificateRefused, match=REFUSED):
            await joined(invitation, tmp_path / "2", "edge-8-1")
        assert server.names() == ["edge-7-1"]

    against(tmp_path, attack)


def test_of_many_uses_at_the_same_time_one_succeeds(tmp_path: Path) -> None:
    async def attack(server: Serving) -> None:
        invitation = server.invitation()
        tries = [joined(invitation, tmp_path / str(number), f"edge-{number}-1") for number in range(5)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(each, Joined) for each in results) == 1
        assert len(server.names()) == 1

    against(tmp_path, attack)


def test_an_expired_token_gives_nothing(tmp_path: Path) -> None:
    async def attack(server: Serving) -> None:
        token = server.token(valid=timedelta(seconds=-1))
        with pytest.raises(CertificateRefused, match=REFUSED):
            await joined(server.invitation(token), tmp_path / "1")
        assert server.names() == []

    against(tmp_path, attack)


def test_a_token_gives_no_other_name_and_no_name_of_another(tmp_path: Path) -> None:
    async def attack(server: Serving) -> None:
        for pattern, name, text in (
            ("edge-*", "shop-1", "is for workers"),
            ("*", "edge-9-1", "has a certificate"),
            ("*", "admin", "already has a certificate of kind operator"),
            ("*", "dispatcher", "default name of the dispatcher"),
        ):
            token = server.token(pattern)
            with pytest.raises(CertificateRefused, match=text):
                await joined(server.invitation(token), tmp_path / name, name)
            await joined(server.invitation(token), tmp_path / f"{name}-new", f"edge-{name}")  # it was not used up
        assert server.names()[2:] == ["edge-shop-1", "edge-edge-9-1", "edge-admin", "edge-dispatcher"]

    folder = tmp_path / "ca"
    authority(folder).issue(CertificateKind.WORKER, Subject("edge-9-1"))
    authority(folder).issue(CertificateKind.OPERATOR, Subject("admin"))
    against(tmp_path, attack)


def test_a_request_decides_nothing_but_its_key_and_name(tmp_path: Path) -> None:
    async def attack(server: Serving) -> None:
        token = str(server.token())
        for pem in ("", "garbage", make_request("../../ca")[0].decode(), make_request("+")[0].decode()):
            assert b'"error"' in await said(server, encoded(token=token, request=pem))
        assert server.names() == []

    against(tmp_path, attack)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"GET / HTTP/1.1\r\n",
        b"[" * 5000 + b"\n",
        b'{"token": 1, "request": 2}\n',
        b'{"error": "x"}\n',
        b"\0" * 100 + b"\n",
    ],
    ids=["empty", "http", "deep", "numbers", "error", "zeros"],
)
def test_garbage_is_answered_and_costs_nothing(tmp_path: Path, line: bytes) -> None:
    async def attack(server: Serving) -> None:
        assert b'"error"' in await said(server, line)
        await joined(server.invitation(), tmp_path / "1")

    against(tmp_path, attack)


def test_a_huge_request_is_not_read(tmp_path: Path) -> None:
    async def attack(server: Serving) -> None:
        line = encoded(token=str(server.token()), request="A" * 50 * LONGEST_LINE)
        assert await said(server, line) == b""
        await joined(server.invitation(), tmp_path / "1")
        assert any("refused" in each for each in server.lines)

    against(tmp_path, attack)


def test_plain_bytes_and_silence_end_and_hold_no_place(tmp_path: Path) -> None:
    async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.transport.abort()

    async def attack(server: Serving) -> None:
        plain = await asyncio.open_connection(HERE, server.port)
        plain[1].write(b"this is not TLS\n")
        await ended(*plain)
        silent = [await asyncio.open_connection(HERE, server.port) for _ in range(MOST_OF_ONE)]
        await ended(*await asyncio.open_connection(HERE, server.port))  # all places of this address are taken
        assert [each.partition(HERE)[0] for each in server.lines] == ["refused ", "closed a connection of "]
        for each in silent:
            await ended(*each)
        assert sum("refused" in each for each in server.lines) == 1 + MOST_OF_ONE

    against(tmp_path, attack, time_limit_s=1.0)


def test_a_client_that_stops_in_the_middle_is_left(tmp_path: Path) -> None:
    async def attack(server: Serving) -> None:
        reader, writer = await asyncio.open_connection(HERE, server.port, ssl=anything_goes())
        await reader.readline()
        writer.write(b'{"token": "')
        with suppress(ConnectionError):
            assert await reader.read() == b""
        assert any("too slow" in each for each in server.lines)

    against(tmp_path, attack, time_limit_s=1.0)


def test_a_guesser_is_stopped_and_logged(tmp_path: Path) -> None:
    async def attack(server: Serving) -> None:
        real = server.token()
        guess = encoded(token=str(JoinToken(real.id, "A" * 32, real.fingerprint)), request="")
        answered = 0
        for _ in range(int(BURST)):
            try:
                answered += b"unknown, expired" in await said(server, guess)
            except OSError:
                break
        assert BURST // (FAILURE_COSTS + 1) <= answered <= 2 * BURST // FAILURE_COSTS
        assert sum("unknown, expired" in each for each in server.lines) == answered
        assert any("too many attempts" in each for each in server.lines)

    against(tmp_path, attack)


# --- a server in the middle -------------------------------------------------------------------------------------------


def test_the_server_of_another_authority_gets_no_token(tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path / "ca") as honest, serving(tmp_path / "evil") as evil:
            invitation = Invitation(honest.token(), HERE, evil.port)
            with pytest.raises(CertificateRefused, match=r"is not the authority of this join token\. Nothing was sent"):
                await joined(invitation, tmp_path / "1")
            assert evil.lines == []  # the machine closed the connection without a word
            assert not (tmp_path / "1").exists()

    asyncio.run(run())


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"garbage\n",
        b"x" * 3 * LONGEST_LINE + b"\n",
        encoded(join=2, authority=""),
        encoded(join=1, authority="garbage"),
        encoded(error="\x1b[2J"),
    ],
    ids=["nothing", "text", "long", "version", "certificate", "error"],
)
def test_a_server_that_sends_garbage_gets_and_changes_nothing(tmp_path: Path, greeting: bytes) -> None:
    received = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if not greeting:
            writer.close()
        with suppress(ConnectionError):
            received.extend(await reader.read())
        writer.transport.abort()

    async def run() -> None:
        async with serving(tmp_path / "ca") as honest:
            token = honest.token()
        own = authority(tmp_path / "evil").issue(CertificateKind.BROKER, Subject(HERE, (HERE,)))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert own.key is not None
        context.load_cert_chain(own.certificate, own.key)
        async with await asyncio.start_server(pretend, HERE, 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(CertificateRefused):
                await joined(Invitation(token, HERE, port), tmp_path / "1")

    asyncio.run(run())
    assert not received
    assert not (tmp_path / "1").exists()


def test_a_server_that_only_shows_the_authority_gets_no_token(tmp_path: Path) -> None:
    """It has the public certificate of the authority, and a certificate of its own."""
    received = bytearray()

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encoded(join=1, authority=(tmp_path / "ca" / "ca.crt").read_text()))
        with suppress(ConnectionError):
            received.extend(await reader.read())

    async def run() -> None:
        async with serving(tmp_path / "ca") as honest:
            token = honest.token()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own = authority(tmp_path / "evil").issue(CertificateKind.BROKER, Subject(HERE, (HERE,)))
        context.load_cert_chain(own.certificate, own.key)
        async with await asyncio.start_server(pretend, HERE, 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionFailed, match="does not prove that name"):
                await joined(Invitation(token, HERE, port), tmp_path / "1")

    asyncio.run(run())
    assert not received


def test_the_certificate_of_a_worker_does_not_make_a_server(tmp_path: Path) -> None:
    """A member of the fleet can't receive the tokens of new machines."""

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encoded(join=1, authority=(tmp_path / "ca" / "ca.crt").read_text()))
        with suppress(ConnectionError):
            received.extend(await reader.read())

    async def run() -> None:
        async with serving(tmp_path / "ca") as honest:
            token = honest.token()
        worker = authority(tmp_path / "ca").issue(CertificateKind.WORKER, Subject("localhost"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(worker.certificate, worker.key)
        async with await asyncio.start_server(pretend, HERE, 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionFailed, match="does not prove that name"):
                await joined(Invitation(token, "localhost", port), tmp_path / "1")

    received = bytearray()
    asyncio.run(run())
    assert not received
