"""The shell of the services: in which order it does what, and how a service ends that has a fault."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import pytest

from stockworker.adapters import clock
from stockworker.adapters.mqtt import Delivery, LinkItem, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.mqtt_reasons import NO_MATCHING_SUBSCRIBERS
from stockworker.adapters.systemd import Notifier
from stockworker.errors import ConfigError, ConnectionFailed
from stockworker.logs.events import MessagesDropped, Ready, SenderIgnored
from stockworker.protocol.packet import Packet
from stockworker.shell import service as shell
from stockworker.shell.metrics_writer import MetricsWriter
from stockworker.shell.refusals import MOST_REFUSED
from stockworker.shell.service import Service
from stockworker.shell.turn import CommonInput, LinkChanged, Now, TurnOutput

MESSAGE = Packet("jobs/request/w1", b"{}")
ANSWER = Packet("jobs/assign/w1", b"{}")
FAREWELL = Packet("workers/unregister/w1", b"{}")
ORDER = "order"
UP = LinkUp()


@dataclass(frozen=True)
class Tag:
    """What a turn attaches to a packet."""


class Record:
    """What happened, in order."""

    def __init__(self) -> None:
        self.steps: list[object] = []

    def of(self, *kinds: str) -> list[object]:
        return [step for step in self.steps if isinstance(step, tuple) and step[0] in kinds]


class RecordingLink:
    """Connects, delivers one message, and records what it is asked for."""

    record: Record
    arrivals: Sequence[LinkItem] = (UP, Delivery(MESSAGE, packet_id=7))
    give_up_at = None

    def __init__(self, _settings: LinkSettings, deliver: Callable[[LinkItem], None]) -> None:
        self._deliver = deliver
        self._closed = asyncio.Event()

    async def run(self) -> None:
        for item in self.arrivals:
            self._deliver(item)
        await self._closed.wait()

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        self.record.steps += [("acknowledge", item.packet) for item in deliveries]

    async def send(self, packets: Sequence[Packet]) -> None:
        self.record.steps += [("send", packet) for packet in packets]

    async def drain(self, _timeout_s: float) -> bool:
        return True

    async def close(self) -> None:
        self.record.steps.append(("close",))
        self._closed.set()


class RefusedLink(RecordingLink):
    """The broker refuses the client for good."""

    async def run(self) -> None:
        raise ConnectionFailed("the broker refuses the certificate")


class PlayedTurns:
    """Answers each message, and commits; leaves what is more than `most` at a time; `broken` raises instead."""

    most = 9

    def __init__(self, record: Record) -> None:
        self.record = record
        self.items: list[object] = []
        self.batches: list[list[object]] = []
        self.broken: Exception | None = None

    def take(self, items: Sequence[CommonInput | Tag], _now: Now) -> TurnOutput:
        self.items += items
        self.batches.append(list(items))
        if self.broken is not None:
            raise self.broken
        packets = [item for item in items if isinstance(item, Packet)]
        messages = packets[: self.most]
        self.record.steps += [("commit", packet) for packet in messages]
        return TurnOutput(tuple(ANSWER for _ in messages), (Ready(id="w1"),), left=len(packets) - len(messages))

    def next_in_s(self, _now: Now) -> float:
        return 1000.0

    def close(self) -> None:
        self.record.steps.append(("store closed",))


class PlayedService(Service[Tag, TurnOutput]):
    """A service that stops once it has answered."""

    store_name = "store"
    stop_status = "stopping"
    small = True
    turns_to_stop = 1

    def __init__(self, turns: PlayedTurns, notifier: Notifier) -> None:
        super().__init__("w1", LinkSettings("localhost", 1, "w1"), turns, turns, clock.SteadyClock(), notifier)
        self.record = turns.record
        self.after_turn: Callable[[], None] = self.stop

    def is_small(self, inputs: Sequence[CommonInput | Tag]) -> bool:  # noqa: ARG002 (a port)
        return self.small

    def begin_stop(self) -> None:
        self._done = True

    def reconfigure(self) -> tuple[LinkSettings, Tag]:
        raise ConfigError("broken")

    def status_parts(self) -> Sequence[str]:
        return ()

    def carry_out(self, output: TurnOutput) -> None:
        if output.packets:
            self.record.steps.append(("order", ORDER))
            self.turns_to_stop -= 1
            if not self.turns_to_stop:
                self.after_turn()

    def last_packets(self) -> Sequence[Packet]:
        return [FAREWELL]


def run(prepare: Callable[[PlayedService, PlayedTurns], None] = lambda _service, _turns: None) -> PlayedTurns:
    """Run a service until it ends."""
    turns = PlayedTurns(RecordingLink.record)

    async def main() -> None:
        with closing(Notifier()) as notifier:
            service = PlayedService(turns, notifier)
            prepare(service, turns)
            async with asyncio.timeout(30):
                await service.run()

    asyncio.run(main())
    return turns


@pytest.fixture(autouse=True)
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    record = Record()
    monkeypatch.setattr(RecordingLink, "record", record, raising=False)
    monkeypatch.setattr(shell, "Link", RecordingLink)
    return record


@pytest.mark.parametrize("small", [True, False], ids=["on the loop", "in the thread"])
def test_it_commits_then_acknowledges_then_orders_then_sends(
    record: Record, monkeypatch: pytest.MonkeyPatch, *, small: bool
) -> None:
    monkeypatch.setattr(PlayedService, "small", small)
    run()
    assert record.of("commit", "acknowledge", "order", "send")[:4] == [
        ("commit", MESSAGE),
        ("acknowledge", MESSAGE),
        ("order", ORDER),
        ("send", ANSWER),
    ]


def test_what_a_turn_leaves_is_acknowledged_after_the_turn_that_handles_it(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Packet("jobs/request/w2", b"{}")
    monkeypatch.setattr(RecordingLink, "arrivals", (UP, Delivery(MESSAGE, packet_id=7), Delivery(other, packet_id=8)))
    monkeypatch.setattr(PlayedTurns, "most", 1)
    monkeypatch.setattr(PlayedService, "turns_to_stop", 2)
    run()
    assert record.of("commit", "acknowledge") == [
        ("commit", MESSAGE),
        ("acknowledge", MESSAGE),
        ("commit", other),
        ("acknowledge", other),
    ]


def test_what_arrives_between_turns_does_not_wait_until_all_others_were_handled(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood is waiting when the event loop could read the message of another sender."""
    flood = [Packet("jobs/request/evil", b"x" * 60_000) for _ in range(10)]
    monkeypatch.setattr(RecordingLink, "arrivals", (UP, *(Delivery(packet) for packet in flood)))
    monkeypatch.setattr(PlayedTurns, "most", 1)
    monkeypatch.setattr(PlayedService, "turns_to_stop", 11)

    def arrive_soon(service: PlayedService, _turns: PlayedTurns) -> None:
        def act(output: TurnOutput) -> None:
            if len(record.of("commit")) == 1:
                asyncio.get_running_loop().call_soon(service._arrived, Delivery(MESSAGE))
            carry_out(output)

        carry_out = service.carry_out
        monkeypatch.setattr(service, "carry_out", act)

    run(arrive_soon)
    assert len(record.of("commit")) == 11
    assert ("commit", MESSAGE) in record.of("commit")[:3]


def test_a_sender_with_too_many_messages_loses_those_without_acknowledgement(
    record: Record, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stockworker.shell.arrivals.MOST_WAITING", 10)
    first, lost = (Packet("jobs/queue/low/echo/evil", body, qos=0) for body in (b"x" * 20, b"lost"))
    sure, other = Packet("jobs/queue/low/echo/evil", b"sure"), Packet("workers/heartbeat/w1", b"{}", qos=0)
    arrivals = tuple(Delivery(packet) for packet in (first, lost, sure, other))
    monkeypatch.setattr(RecordingLink, "arrivals", (UP, *arrivals))
    run()
    committed = record.of("commit")
    assert len(committed) == 3
    assert all(("commit", packet) in committed for packet in (first, sure, other))
    assert record.of("acknowledge")[0] == ("acknowledge", lost)  # the link counts what is not acknowledged
    dropped = [getattr(line, "event", None) for line in caplog.records]
    assert [event.topic for event in dropped if isinstance(event, MessagesDropped)] == ["jobs/queue/low/echo/evil"]


def test_a_sender_of_malformed_messages_is_not_read_for_a_while(
    record: Record, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evil = Packet("jobs/queue/low/echo/evil", b"?")
    monkeypatch.setattr(RecordingLink, "arrivals", (UP,))

    def ignore_first(service: PlayedService, _turns: PlayedTurns) -> None:
        refused = TurnOutput((), (), refused=("evil",) * MOST_REFUSED)
        assert [*service._dropped(refused)] == []

        def arrive() -> None:
            for item in (Delivery(evil, packet_id=8), UP, Delivery(MESSAGE, packet_id=9)):
                service._arrived(item)

        asyncio.get_running_loop().call_soon(arrive)

    assert run(ignore_first).items == [LinkChanged(up=True), LinkChanged(up=True), MESSAGE]
    assert record.of("acknowledge") == [("acknowledge", evil), ("acknowledge", MESSAGE)]
    ignored = [getattr(line, "event", None) for line in caplog.records]
    assert [event.sender for event in ignored if isinstance(event, SenderIgnored)] == ["evil"]


@pytest.mark.parametrize(("tag", "turns"), [(None, 0), (Tag(), 1)], ids=["without a tag", "of the turns"])
def test_a_message_without_a_reader_makes_a_turn_only_where_that_concerns_one(
    record: Record, monkeypatch: pytest.MonkeyPatch, tag: Tag | None, turns: int
) -> None:
    unread = PublishRefused(replace(ANSWER, tag=tag), NO_MATCHING_SUBSCRIBERS)
    monkeypatch.setattr(RecordingLink, "arrivals", (unread,))

    def stop_soon(service: PlayedService, _turns: PlayedTurns) -> None:
        asyncio.get_running_loop().call_later(0.1, service.stop)

    assert len(run(stop_soon).batches) == turns + 1  # the last turn is that of the stop
    assert record.of("commit") == []


def test_it_takes_its_leave_after_the_last_turn(record: Record) -> None:
    run()
    assert record.steps[-3:] == [("send", FAREWELL), ("close",), ("store closed",)]


def test_its_metrics_are_removed_when_it_ends(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    async def close(_writer: MetricsWriter) -> None:
        record.steps.append(("metrics removed",))

    monkeypatch.setattr(MetricsWriter, "close", close)
    run()
    assert record.of("metrics removed") == [("metrics removed",)]


def test_a_failed_commit_acknowledges_and_sends_nothing(record: Record) -> None:
    with pytest.raises(OSError, match="disk"):
        run(lambda _service, turns: setattr(turns, "broken", OSError("disk")))
    assert record.of("acknowledge", "send") == []


def test_a_packet_that_did_not_arrive_comes_back_as_its_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = PublishRefused(Packet("jobs/assign/w1", b"", tag=Tag()), 0x10)
    monkeypatch.setattr(RecordingLink, "arrivals", (UP, refused, Delivery(MESSAGE)))
    assert run().items[:3] == [LinkChanged(up=True), Tag(), MESSAGE]


def test_an_exception_in_a_callback_ends_the_service() -> None:
    def fail() -> None:
        raise KeyError("a token that is not known")

    def plant(service: PlayedService, _turns: PlayedTurns) -> None:
        def fail_soon() -> None:
            asyncio.get_running_loop().call_soon(fail)

        service.after_turn = fail_soon

    with pytest.raises(KeyError, match="not known"):
        run(plant)


def test_a_refused_client_ends_in_good_order(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "Link", RefusedLink)
    with pytest.raises(ConnectionFailed, match="refuses"):
        run()
    assert record.steps[-1] == ("store closed",)


def test_the_next_turn_is_due_when_its_pause_is_over() -> None:
    due: list[float] = []

    def watch(service: PlayedService, _turns: PlayedTurns) -> None:
        def look() -> None:
            due[:] = [deadline.by for deadline in service._deadlines() if deadline.what == "the next turn"]
            if due:
                service.stop()
            else:
                asyncio.get_running_loop().call_soon(look)

        service.after_turn = look

    began = clock.monotonic()
    run(watch)
    assert began + 1000.0 <= due[0] <= clock.monotonic() + 1000.0


def test_a_configuration_that_cannot_be_used_changes_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecordingLink, "renew", lambda _link, _settings: None, raising=False)

    def reload_first(service: PlayedService, _turns: PlayedTurns) -> None:
        service.reload()

    run(reload_first)
    assert "config_refused" in [getattr(record, "event", Ready(id="")).name for record in caplog.records]
