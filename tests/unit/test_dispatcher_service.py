"""The dispatcher as it ships, except for the broker and the disk: every step of its beat, and in which order."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.start_mark import StartMark
from stockworker.adapters.systemd import Notifier
from stockworker.dispatcher.safe_start import BAD_STARTS_MAX
from stockworker.dispatcher.service import SESSION_EXPIRY_S, DispatcherService, DispatcherSettings
from stockworker.errors import ConnectionFailed, StoreError
from stockworker.logs.events import SessionDiscarded
from stockworker.protocol import codec, topics
from stockworker.protocol.ids import ClientId, JobId
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import Ack, Answer, Assign, Notice, Presence, Query, Receipt, ReceiptStatus
from stockworker.protocol.packet import Packet
from stockworker.protocol.topics import Role
from tests.harness.dispatching import BACKTEST, POLICY, REPLY, W1, A, B, cancel, pause, request, resume, submit
from tests.harness.service_steps import RecordingJobStore, Steps, play, recording
from tests.harness.waiting import until

BEAT = "commit begins", "commit", "acknowledge", "send"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    with recording(monkeypatch) as steps:
        yield steps


class Desk:
    """A dispatcher, and what it is made of."""

    def __init__(self, steps: Steps, folder: Path, notifier: Notifier) -> None:
        link = LinkSettings("localhost", 1, "dispatcher")
        self.settings = DispatcherSettings(ClientId("dispatcher"), link, POLICY, frozenset())
        self.store = RecordingJobStore(steps)
        self.mark = StartMark(folder / "jobs.sqlite3")
        self._notifier = notifier
        self._services: list[DispatcherService] = []

    def service(self) -> DispatcherService:
        service = DispatcherService(self.settings, self.store, self.mark, lambda: self.settings, self._notifier)
        self._services.append(service)
        return service

    @property
    def running(self) -> DispatcherService:
        return self._services[-1]


@pytest.fixture
def desk(steps: Steps, tmp_path: Path) -> Iterator[Desk]:
    with closing(Notifier()) as notifier:
        yield Desk(steps, tmp_path, notifier)


def played(desk: Desk, steps: Steps, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a dispatcher through a story."""

    async def main() -> None:
        await play(desk.service(), story)
        assert len(steps.links) == 1

    asyncio.run(main())


async def looks() -> None:
    """Let the event loop do whatever it could do."""
    for _ in range(20):
        await asyncio.sleep(0)


def many(count: int) -> list[Packet]:
    """More messages than the turns on the event loop have."""
    return [codec.encode(submit(JobId(f"job-{number}"))) for number in range(count)]


# --- decide, commit, acknowledge, perform -----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 9], ids=["on the loop", "in the thread"])
def test_it_commits_then_acknowledges_then_sends(steps: Steps, desk: Desk, count: int) -> None:
    async def story() -> None:
        packets = steps.link.receive(*many(count))
        await steps.until_sent(Receipt)
        assert [packet for _, packet in steps.of("acknowledge")] == packets

    played(desk, steps, story)
    assert steps.kinds(*BEAT)[-4:] == [*BEAT]
    assert len(desk.store.jobs) == count


@pytest.mark.parametrize(("jobs", "small"), [(20, True), (100, False)], ids=["a few jobs", "many jobs"])
def test_a_turn_with_many_jobs_leaves_the_loop_to_what_arrives(
    steps: Steps, desk: Desk, *, jobs: int, small: bool
) -> None:
    message = codec.encode(submit(*[None] * jobs))
    played(desk, steps, looks)
    assert desk.running.is_small([message]) is small


def test_nothing_leaves_while_the_disk_is_slow(steps: Steps, desk: Desk) -> None:
    """The broker forgets what is acknowledged, so a kill at this moment must find every message at the broker."""

    async def story() -> None:
        steps.disk.clear()
        packets = steps.link.receive(*many(9))
        await steps.until_noted("commit begins")
        await looks()
        assert steps.of("commit", "acknowledge", "send") == []
        steps.disk.set()
        await steps.until_sent(Receipt)
        assert [packet for _, packet in steps.of("acknowledge")] == packets

    played(desk, steps, story)


@pytest.mark.parametrize("count", [1, 9], ids=["on the loop", "in the thread"])
def test_nothing_leaves_if_the_commit_fails(steps: Steps, desk: Desk, count: int) -> None:
    async def story() -> None:
        steps.broken = StoreError("the disk is full")
        steps.link.receive(*many(count))
        await until(lambda: False, "the service ends")

    with pytest.raises(StoreError, match="full"):
        played(desk, steps, story)
    assert steps.of("acknowledge") == []
    assert (steps.sent(Receipt), desk.store.jobs) == ([], {})


def test_a_query_is_answered_with_the_changes_of_its_own_turn_and_so_is_the_next_one(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        steps.link.receive(submit(A), Query((A,), None, with_results=False, reply=REPLY))
        answer = await steps.until_sent(Answer)
        assert [job.job_id for job in answer.jobs] == [A]
        steps.link.receive(Query((B,), None, with_results=False, reply=REPLY))
        assert (await steps.until_sent(Answer, 2)).jobs == ()

    played(desk, steps, story)


def test_a_query_that_can_not_be_answered_ends_the_service(
    steps: Steps, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise StoreError("the disk is gone")

    async def story() -> None:
        monkeypatch.setattr("stockworker.dispatcher.service.respond", fail)
        steps.link.receive(Query((A,), None, with_results=False, reply=REPLY))
        await until(lambda: False, "the service ends")

    with pytest.raises(StoreError, match="gone"):
        played(desk, steps, story)


def test_an_assignment_that_reached_nobody_is_taken_back(steps: Steps, desk: Desk) -> None:
    """Otherwise the job would wait until its lease ends, and would be blamed for a crash."""

    async def story() -> None:
        steps.link.unreachable.add(topics.of_worker(topics.TopicKind.ASSIGN, W1))
        steps.link.receive(request(W1), submit(A))
        await steps.until_sent(Assign)
        await until(lambda: desk.store.jobs[A].state is State.QUEUED, "the job is queued again")

    played(desk, steps, story)
    assert desk.store.jobs[A].crashes == 0
    assert [attempt.outcome for attempt in desk.store.attempts(A)] == ["released"]


# --- the session at the broker ----------------------------------------------------------------------------------------


def test_the_broker_keeps_what_arrives_for_a_dispatcher_that_is_down(steps: Steps, desk: Desk) -> None:
    desk.service()
    settings = steps.link.settings
    assert (settings.clean_start, settings.session_expiry_s, settings.discard_session) == (
        False,
        SESSION_EXPIRY_S,
        False,
    )
    assert settings.subscriptions == topics.subscriptions(Role.DISPATCHER, ClientId("dispatcher"))
    assert settings.echo_topic == topics.echo(ClientId("dispatcher"))
    assert settings.echo_topic in settings.subscriptions


def test_its_will_and_its_last_message_are_its_absence(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        await steps.until_sent(Presence)

    played(desk, steps, story)
    online, offline = steps.sent(Presence)
    assert (online.online, offline.online) == (True, False)
    assert online.incarnation == offline.incarnation
    assert steps.link.settings.will == codec.encode(offline)
    assert [kind for kind, _ in steps.all[-3:]] == ["send", "link closed", "store closed"]


# --- what else a service is for ---------------------------------------------------------------------------------------


def test_a_denied_worker_gets_nothing_from_the_first_message_on(steps: Steps, desk: Desk) -> None:
    desk.settings = replace(desk.settings, denied=frozenset({W1}))

    async def story() -> None:
        steps.link.receive(request(W1), submit(A))
        assert "denied workers" in ((await steps.until_sent(Ack)).error or "")
        await steps.until_sent(Receipt)

    played(desk, steps, story)
    assert desk.store.jobs[A].state is State.QUEUED


def test_a_reload_denies_workers_and_uses_the_new_certificate(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        await steps.until_sent(Presence)
        link = replace(desk.settings.link, username="renewed")
        desk.settings = replace(desk.settings, denied=frozenset({W1}), link=link)
        desk.running.reload()
        await steps.until_noted("renew")
        assert steps.of("renew") == [("renew", link)]
        steps.link.receive(request(W1))
        assert "denied workers" in ((await steps.until_sent(Ack)).error or "")

    played(desk, steps, story)


def test_a_full_disk_takes_no_new_jobs(steps: Steps, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk.store, "free_bytes", lambda: 0)

    async def story() -> None:
        await steps.until_sent(Presence)  # the first turn looks at the disk
        steps.link.receive(submit(A))
        (entry,) = (await steps.until_sent(Receipt)).entries
        assert entry.status is ReceiptStatus.REJECTED

    played(desk, steps, story)


def test_its_status_counts_jobs_and_workers(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        steps.link.receive(request(W1), pause(BACKTEST), submit(A), submit(B))
        await steps.until_sent(Receipt, 2)
        assert [*desk.running.status_parts()] == ["2 jobs waiting", "0 with workers", "1 workers connected"]
        steps.link.receive(cancel(B), resume(BACKTEST))
        await steps.until_sent(Notice)
        await steps.until_sent(Assign)
        assert [*desk.running.status_parts()] == ["0 jobs waiting", "1 with workers", "1 workers connected"]

    played(desk, steps, story)


# --- its mark ---------------------------------------------------------------------------------------------------------


def test_an_end_in_good_order_leaves_no_mark(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        await steps.until_sent(Presence)
        assert desk.mark.read() is not None

    played(desk, steps, story)
    assert desk.mark.read() is None


def test_a_refusal_by_the_broker_leaves_no_mark(steps: Steps, desk: Desk) -> None:
    async def main() -> None:
        service = desk.service()
        steps.link.refusal = ConnectionFailed("the broker refuses the certificate")
        async with asyncio.timeout(60):
            await service.run()

    with pytest.raises(ConnectionFailed):
        asyncio.run(main())
    assert desk.mark.read() is None


def test_the_kept_messages_are_discarded_only_after_several_bad_starts_in_a_row(steps: Steps, desk: Desk) -> None:
    """A process that was killed may have been killed for any reason, and not every client sends its messages again."""
    for _ in range(2 * BAD_STARTS_MAX + 1):
        desk.service()
    discards = [link.settings.discard_session for link in steps.links]
    assert discards == [*[False] * BAD_STARTS_MAX, True, *[False] * (BAD_STARTS_MAX - 1), True]


def test_a_discarded_session_is_logged_with_the_topics_of_the_last_turn(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.mark.write(f"{BAD_STARTS_MAX} jobs/queue/normal/echo/evil")
    desk.service()
    events = [
        event for record in caplog.records if isinstance(event := getattr(record, "event", None), SessionDiscarded)
    ]
    assert events == [SessionDiscarded(topics="jobs/queue/normal/echo/evil")]
