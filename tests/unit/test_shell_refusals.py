"""What a service reads of a sender whose messages are malformed: the first ones of each second."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from stockworker.adapters.mqtt import Delivery, LinkUp
from stockworker.logs.events import SenderIgnored
from stockworker.protocol.packet import Packet
from stockworker.shell.arrivals import Arrivals
from stockworker.shell.refusals import MOST_REFUSED, Refusals
from stockworker.shell.turn import CommonInput, Now, TurnOutput
from tests.unit import test_shell_service as shell

EVIL, OTHER, BARE = "jobs/report/host-9", "jobs/report/host-1", "jobs/cancel/anything"


def test_a_sender_is_ignored_from_its_last_tolerated_message_until_the_second_is_over() -> None:
    refusals = Refusals()
    assert list(refusals.note(["host-9"] * (MOST_REFUSED - 1), 10.0)) == []
    assert not refusals.ignores("host-9", 10.5)
    assert list(refusals.note(["host-9", "host-9", "host-1"], 10.6)) == ["host-9"]
    assert refusals.ignores("host-9", 10.9)
    assert not refusals.ignores("host-1", 10.9)
    assert not refusals.ignores("host-9", 11.0)
    assert list(refusals.note(["host-9"] * MOST_REFUSED, 11.1)) == ["host-9"]


def test_messages_of_two_seconds_do_not_add_up() -> None:
    refusals = Refusals()
    for second in range(3):
        assert list(refusals.note(["host-9"] * (MOST_REFUSED - 1), float(second))) == []


def test_a_sender_without_a_proven_name_is_never_ignored() -> None:
    refusals = Refusals()
    assert list(refusals.note([None] * 10 * MOST_REFUSED, 0.0)) == []
    assert not refusals.ignores(None, 0.1)


def test_what_is_dropped_is_acknowledged_in_order() -> None:
    arrivals: Arrivals[object] = Arrivals()
    first, evil, last, late = (
        Delivery(Packet(topic, b"{}"), number) for number, topic in enumerate([OTHER, EVIL, EVIL, EVIL])
    )
    for item in (first, evil, last):
        arrivals.put(item)
    assert arrivals.handled(arrivals.drop("host-9")) == []
    assert arrivals.skip(late) == []
    assert arrivals.take() == [first]
    assert arrivals.handled([first]) == [first, evil, last, late]
    assert not arrivals


class RefusingTurns(shell.PlayedTurns):
    """Refuses what a worker with a bad name sends."""

    def take(self, items: Sequence[CommonInput | shell.Tag], now: Now) -> TurnOutput:
        output = super().take(items, now)
        bad = [item.topic for item in items if isinstance(item, Packet) and item.body == b"bad"]
        self.record.steps += [("refused", topic) for topic in bad]
        senders = tuple(None if topic == BARE else "host-9" for topic in bad)
        return TurnOutput(output.packets, (), refused=senders)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> shell.Record:
    record = shell.Record()
    monkeypatch.setattr(shell.RecordingLink, "record", record, raising=False)
    monkeypatch.setattr("stockworker.shell.service.Link", shell.RecordingLink)
    monkeypatch.setattr(shell, "PlayedTurns", RefusingTurns)
    monkeypatch.setattr(RefusingTurns, "most", 10_000)
    monkeypatch.setattr("stockworker.shell.service.clock.monotonic", lambda: 5.0)
    monkeypatch.setattr(shell.PlayedService, "turns_to_stop", 1000)
    return record


def deliver(monkeypatch: pytest.MonkeyPatch, packets: Sequence[Packet]) -> Callable[..., None]:
    """Deliver these packets, and stop once all are acknowledged."""
    monkeypatch.setattr(shell.RecordingLink, "arrivals", (LinkUp(), *(Delivery(packet, 1) for packet in packets)))

    def stop_at_end(service: shell.PlayedService, _turns: shell.PlayedTurns) -> None:
        def look() -> None:
            if len(service.record.of("acknowledge")) >= len(packets):
                service.stop()
            else:
                asyncio.get_running_loop().call_soon(look)

        asyncio.get_running_loop().call_soon(look)

    return stop_at_end


def test_a_flood_of_malformed_messages_costs_a_bounded_number_of_refusals(
    refusing: shell.Record, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All are acknowledged, and the messages of others are handled. The time does not change in this test."""
    flood = [Packet(EVIL, b"bad")] * 5000
    others = [Packet(OTHER, f"good {number}".encode()) for number in range(10)]
    shell.run(deliver(monkeypatch, [*flood, *others]))
    assert MOST_REFUSED <= len(refusing.of("refused")) <= MOST_REFUSED + 1000  # and the rest of one turn
    assert len(refusing.of("acknowledge")) == 5010
    assert {("commit", packet) for packet in others} < set(refusing.of("commit"))
    ignored = [getattr(line, "event", None) for line in caplog.records]
    assert [event.sender for event in ignored if isinstance(event, SenderIgnored)] == ["host-9"]


def test_messages_without_a_proven_sender_are_all_read(refusing: shell.Record, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.run(deliver(monkeypatch, [Packet(BARE, b"bad")] * 2000))
    assert len(refusing.of("refused")) == 2000
