"""The client that submits tracers: its link is a recording one, and the time is that of the test."""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from stockworker.adapters.mqtt import Delivery, LinkDown, LinkUp, PublishRefused
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.dispatcher import tracer_client
from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.tracer_client import TracerClient
from stockworker.errors import ConnectionFailed
from stockworker.logs.event import LogEvent
from stockworker.logs.metrics_events import TracerLost, TracersRefused
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    NoticeEntry,
    Notices,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
    Submit,
)
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import DROPPED_BY_BROKER
from stockworker.shell.measures import Measures
from tests.harness.service_steps import RecordingLink, Steps
from tests.harness.waiting import until

OWN, PRICES = ClientId("dispatcher"), JobType("prices")
FIRST = JobId("dispatcher:stockworker-check-boot-1")
WORKER = Worker(WorkerId("w1"), "b", 1, 1, frozenset({PRICES}), frozenset(), "1.0", 0.0)
NOT_AUTHORIZED = 0x87


class Bench:
    """A tracer client, and everything around it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps, self.log, self.now = Steps(), list[LogEvent](), 0.0
        monkeypatch.setattr(tracer_client, "_TICK_S", 0.001)
        monkeypatch.setattr(
            tracer_client, "Link", lambda settings, deliver: RecordingLink(self.steps, settings, deliver)
        )
        monkeypatch.setattr(tracer_client, "log_event", lambda _log, event: self.log.append(event))
        monkeypatch.setattr(tracer_client, "clock", SimpleNamespace(monotonic=lambda: self.now))
        self.measures = Measures("dispatcher", "1.0")
        self.measures.link_changed(up=True)
        self.ended: list[asyncio.Task[None]] = []
        self.client = TracerClient(OWN, LinkSettings("localhost", 1, "x"), "boot")

    @property
    def link(self) -> RecordingLink:
        return self.steps.link

    def look(self) -> None:
        self.client.look([WORKER], self.measures)

    def count(self, name: str, *labels: str) -> object:
        measured = self.client.measured(0, 0)
        (found,) = (each.value for each in measured if (each.metric.name, each.labels) == (name, labels))
        return found

    def outcome(self, name: str) -> object:
        return self.count("stockworker_tracers_total", name)

    async def sent(self, times: int = 1) -> Submit:
        self.look()
        return await self.steps.until_sent(Submit, times)

    def play(self, story: Callable[[], Coroutine[Any, Any, None]], *faults: str) -> None:
        """Run the client during a story. It must end with these faults."""

        async def main() -> None:
            self.client.start(self.ended.append)
            try:
                await story()
            finally:
                await self.client.close()

        asyncio.run(main())
        assert [str(task.exception()) for task in self.ended if not task.cancelled() and task.exception()] == [*faults]
        assert self.steps.of("link closed")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def stored() -> Receipt:
    return Receipt(Reply(OWN, "c"), (ReceiptEntry(FIRST, ReceiptStatus.STORED),), notices=True)


def completed() -> Notices:
    return Notices(OWN, "tracer", (NoticeEntry(FIRST, PRICES, State.COMPLETED, 1, WorkerId("w1")),))


def test_a_tracer_is_submitted_as_a_client_does_and_its_return_is_measured(bench: Bench) -> None:
    async def story() -> None:
        submit = await bench.sent()
        (job,) = submit.jobs
        assert (job.job_id, job.type, job.payload) == ("stockworker-check-boot-1", PRICES, "")
        assert (submit.client_id, submit.notify) == (OWN, "tracer")
        bench.now = 1.5
        bench.link.receive(stored(), completed(), Packet("jobs/receipt/dispatcher", b"{"))
        await until(lambda: bench.outcome("completed") == 1, "the tracer has returned")
        assert len(bench.steps.of("acknowledge")) == 3

    bench.play(story)
    assert bench.link.settings.client_id.startswith("x-tracer-")
    assert bench.link.settings.subscriptions == (
        "jobs/receipt/dispatcher",
        "jobs/notice/dispatcher/tracer",
        DROPPED_BY_BROKER,
    )


def test_a_tracer_that_does_not_return_is_logged_and_counted(bench: Bench) -> None:
    async def story() -> None:
        await bench.sent()
        bench.link.receive(stored())
        await bench.steps.until_noted("acknowledge")
        bench.now = 20.0
        await until(lambda: bool(bench.log), "the tracer is lost")

    bench.play(story)
    assert bench.log == [TracerLost(type=PRICES, stage="notice")]
    assert bench.count("stockworker_lost") == 1


def test_one_that_the_broker_passes_to_no_dispatcher_is_lost(bench: Bench) -> None:
    async def story() -> None:
        bench.link.unreachable.add("jobs/queue/normal/prices/dispatcher")
        await bench.sent()
        await until(lambda: bool(bench.log), "the tracer is lost")

    bench.play(story)
    assert bench.log == [TracerLost(type=PRICES, stage="subscriber")]


def test_a_refusal_of_the_broker_is_logged_once_and_no_loss(bench: Bench) -> None:
    async def story() -> None:
        for number in (1, 2):
            await bench.sent(number)
            (*_, (_, packet)) = bench.steps.of("send")
            assert isinstance(packet, Packet)
            bench.link.deliver(PublishRefused(packet, NOT_AUTHORIZED))
            await until(lambda number=number: bench.outcome("refused") == number, "it is counted")  # type: ignore[misc]
            bench.now += 60.0

    bench.play(story)
    (event,) = bench.log
    assert isinstance(event, TracersRefused)
    assert bench.count("stockworker_lost") == 0


def test_a_broker_that_refuses_the_connection_ends_the_tracers_alone(bench: Bench) -> None:
    async def story() -> None:
        bench.link.refusal = ConnectionFailed("no second connection")
        await until(lambda: bool(bench.log), "the refusal is logged")

    bench.play(story)
    assert bench.log == [TracersRefused(reason="no second connection")]


@pytest.mark.parametrize("own", [True, False], ids=["its own connection", "that of the dispatcher"])
def test_while_a_connection_is_down_nothing_is_sent_and_nothing_is_lost(bench: Bench, *, own: bool) -> None:
    async def story() -> None:
        await bench.sent()
        if own:
            bench.link.deliver(LinkDown("gone"))
        else:
            bench.measures.link_changed(up=False)
            bench.look()
        await until(lambda: bench.outcome("inconclusive") == 1, "it is inconclusive")
        bench.now = 60.0
        bench.link.receive(
            Packet(DROPPED_BY_BROKER, b"3"),
            Packet(DROPPED_BY_BROKER, b"?"),
            Packet(DROPPED_BY_BROKER, b"5"),
        )
        await until(lambda: bench.count("stockworker_lost") == 3, "the drops are counted")
        assert len(bench.steps.sent(Submit)) == 1
        bench.link.deliver(LinkUp())
        bench.measures.link_changed(up=True)
        await bench.sent(2)

    bench.play(story)
    assert bench.log == []


def test_a_new_certificate_is_for_its_connection_too(bench: Bench) -> None:
    async def story() -> None:
        await bench.sent()
        bench.client.renew(LinkSettings("localhost", 1, "y"))

    bench.play(story)
    ((_, settings),) = bench.steps.of("renew")
    assert isinstance(settings, LinkSettings)
    assert settings.client_id.startswith("y-tracer-")


def test_a_fault_of_the_program_ends_the_service(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        def fail(_packet: Packet) -> None:
            raise RuntimeError("a fault")

        monkeypatch.setattr(codec, "decode", fail)
        bench.link.deliver(Delivery(Packet("jobs/receipt/dispatcher", b"{}")))
        await until(lambda: bool(bench.ended), "the client ends")

    bench.play(story, "a fault")
