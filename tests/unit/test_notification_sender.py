"""The part that delivers notifications: in a thread, beside the turns."""

import asyncio
import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from stockworker.adapters.delivery import DeliveryFailed, Recipient
from stockworker.dispatcher import notification_sender
from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.loss_meter import Losses
from stockworker.dispatcher.notification_sender import NotificationSender, NotificationSettings, Observed
from stockworker.dispatcher.notifications import NotificationSubject
from stockworker.logs.event import LogEvent
from stockworker.logs.events import JobFailed
from stockworker.logs.metrics_events import NotificationDelayed, NotificationLost
from stockworker.protocol.ids import ClientId, WorkerId
from tests.harness.waiting import until

FAILED = JobFailed(job="a", type="prices", attempt=1, worker="w1", outcome="error", reason="no")
MIDDAY, DAY = 1_700_000_000.0, 86_400.0


class Bench:
    """A sender whose deliveries are recorded, on the time of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.log = 0.0, list[LogEvent]()
        self.got: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.failures: list[DeliveryFailed] = []
        self.observed = Observed((), {}, Losses())
        monkeypatch.setattr(notification_sender, "_TICK_S", 0.001)
        monkeypatch.setattr(notification_sender, "deliver", self._deliver)
        monkeypatch.setattr(notification_sender, "log_event", lambda _log, event: self.log.append(event))
        times = SimpleNamespace(monotonic=lambda: self.now, wall=lambda: MIDDAY + self.now)
        monkeypatch.setattr(notification_sender, "clock", times)
        settings = NotificationSettings(Recipient(("x",)), frozenset(NotificationSubject), 10, 300.0)
        self.sender = NotificationSender(ClientId("hub"), settings)

    def _deliver(self, recipient: Recipient, body: bytes, variables: Mapping[str, str]) -> None:
        assert recipient == Recipient(("x",))
        if self.failures:
            raise self.failures.pop(0)
        self.got.append((json.loads(body), dict(variables)))

    def look(self, *log: LogEvent, after: float = 0.0) -> None:
        self.now += after
        self.sender.look(log, lambda: self.observed)

    def play(self, done: Callable[[], bool]) -> None:
        async def main() -> None:
            ended: list[object] = []
            self.sender.start(ended.append)
            try:
                await until(done, "the notification is delivered")
            finally:
                await self.sender.close()
            assert len(ended) == 1

        asyncio.run(main())


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_a_failed_job_is_delivered_with_everything_about_it(bench: Bench) -> None:
    bench.look(FAILED)
    bench.now = 5.0
    bench.play(lambda: bool(bench.got))
    ((body, variables),) = bench.got
    assert body == {
        "dispatcher": "hub",
        "time": "2023-11-14T22:13:25+00:00",
        "text": "job a (prices) failed: no",
        "counts": {"jobs": 1},
        "occurrences": [
            {
                "subject": "jobs",
                "text": "job a (prices) failed: no",
                "job": "a",
                "type": "prices",
                "outcome": "error",
                "reason": "no",
            }
        ],
        "omitted": 0,
    }
    assert variables == {
        "STOCKWORKER_DISPATCHER": "hub",
        "STOCKWORKER_SUBJECTS": "jobs",
        "STOCKWORKER_COUNT": "1",
    }


def test_what_is_left_out_is_counted(bench: Bench) -> None:
    bench.look(*[FAILED] * 47)
    bench.now = 5.0
    bench.play(lambda: bool(bench.got))
    ((body, variables),) = bench.got
    assert body["text"].endswith("\n37 more jobs failed")
    assert (body["omitted"], len(body["occurrences"]), variables["STOCKWORKER_COUNT"]) == (37, 10, "47")


def test_it_looks_at_everything_every_five_seconds(bench: Bench) -> None:
    offline = Worker(WorkerId("w1"), "b", 1, 1, frozenset(), frozenset(), "1", 0.0, online=False, certificate_days=2)
    bench.look()
    certificates = {"the broker b": MIDDAY + 9.5 * DAY, "the dispatcher d": None}
    bench.observed = Observed([offline], certificates, Losses(broker=1))
    bench.look(after=4.9)
    bench.look(after=0.1)
    bench.look(after=300.0)
    bench.play(lambda: bool(bench.got))
    ((body, _),) = bench.got
    assert body["text"].splitlines() == [
        "the certificate of worker w1 expires in 2 days",
        "the certificate of the broker b expires in 9 days",
        "jobs or messages may be lost (broker 1)",
        "worker w1 is missing: it has been offline for 300 s",
    ]


def test_a_failure_is_logged_once_until_a_notification_arrives(bench: Bench) -> None:
    def fail() -> None:
        bench.failures = [DeliveryFailed("refused", retryable=True) for _ in range(3)]
        bench.look(FAILED)

    def repeated() -> bool:
        bench.now += 10.0
        if len(bench.got) == 1 and not bench.failures and len(bench.log) == 1:
            fail()
        return len(bench.got) == 2

    fail()
    bench.play(repeated)
    assert bench.log == [NotificationDelayed(reason="refused")] * 2


def test_a_notification_that_is_given_up_is_logged(bench: Bench) -> None:
    bench.failures = [DeliveryFailed("refused", retryable=True), DeliveryFailed("wrong address", retryable=False)]
    bench.look(FAILED, FAILED)

    def given_up() -> bool:
        bench.now += 10.0
        return len(bench.log) == 2

    bench.play(given_up)
    assert bench.log == [NotificationDelayed(reason="refused"), NotificationLost(occurrences=2, reason="wrong address")]
    assert bench.got == []
