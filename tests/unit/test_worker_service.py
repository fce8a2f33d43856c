"""The worker as it ships, except for the broker, the disk and the processes of jobs: every step of its beat, in order."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stockworker.adapters.cgroup import Delegation
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.adapters.systemd import Notifier
from stockworker.errors import ConfigError, StoreError
from stockworker.handlers.spec import HandlerSpec, Limits, PythonHandler
from stockworker.logs.worker_events import HandlerLog
from stockworker.protocol import codec, topics
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    ControlAction,
    Disconnect,
    Heartbeat,
    LeaseStatus,
    Progress,
    Register,
    Report,
    Request,
    Unregister,
)
from stockworker.protocol.topics import Role, TopicKind
from stockworker.worker import service as module
from stockworker.worker.journal import Journal
from stockworker.worker.service import WorkerService, WorkerSettings
from stockworker.worker.work import Began, ExecutorEvent, HandlerLogged, Progressed, Work
from tests.harness.service_steps import RecordingJournal, Steps, play, recording
from tests.harness.waiting import until
from tests.harness.working import (
    A1,
    B1,
    BACKTEST,
    INTERVALS,
    JOB_A,
    WORKER,
    ack,
    assign,
    attempt,
    finished,
    order,
)

BEAT = "commit begins", "commit", "acknowledge", "start", "send"
HANDLER = PythonHandler("module:function")


class RecordingExecutor:
    """Runs nothing, and records what it must do.

    Attributes:
        begins: whether a job begins to run when it starts.
    """

    must_exit_by: float | None = None
    waiting = 0
    begins = False

    def __init__(
        self, steps: Steps, handlers: Mapping[JobType, HandlerSpec], deliver: Callable[[ExecutorEvent], None]
    ) -> None:
        self.steps = steps
        self.handlers = handlers
        self.module_paths: tuple[str, ...] = ()
        self.deliver = deliver
        self.running: frozenset[Token] = frozenset()

    def start(self, work: Work) -> None:
        self.steps.note("start", work.token)
        if self.begins:
            self.deliver(Began(work.token))

    def stop(self, token: Token) -> None:
        self.steps.note("stop", token)

    def reload(self, handlers: Mapping[JobType, HandlerSpec], module_paths: Sequence[str]) -> None:
        self.handlers = handlers
        self.module_paths = tuple(module_paths)

    async def close(self) -> None:
        self.steps.note("executor closed")


class Desk:
    """A worker, and what it is made of."""

    def __init__(self, steps: Steps, notifier: Notifier) -> None:
        self.settings = WorkerSettings(
            WORKER,
            LinkSettings("localhost", 1, "host-1"),
            slots=1,
            tags=(),
            handlers={BACKTEST: HANDLER},
            handler_paths=(),
            intervals=INTERVALS,
            drain_timeout_s=0.0,
            stop_grace_s=1.0,
            recycle_after=1,
            quota_bytes=1_000_000,
        )
        self.steps = steps
        self.journal = RecordingJournal(steps)
        self.groups: Delegation | None = None
        self.broken: ConfigError | None = None
        self._notifier = notifier
        self._services: list[WorkerService] = []
        self._executors: list[RecordingExecutor] = []

    def service(self) -> WorkerService:
        journal = cast("Journal", self.journal)
        service = WorkerService(self.settings, journal, self._reread, self._notifier, self.groups)
        self._services.append(service)
        return service

    def executor(self, handlers: Mapping[JobType, HandlerSpec], _slots: int, deliver: Any, **_options: object) -> Any:
        self._executors.append(RecordingExecutor(self.steps, handlers, deliver))
        return self.running_executor

    def _reread(self) -> WorkerSettings:
        if self.broken is not None:
            raise self.broken
        return self.settings

    @property
    def running_service(self) -> WorkerService:
        return self._services[-1]

    @property
    def running_executor(self) -> RecordingExecutor:
        return self._executors[-1]

    def play(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            await play(self.service(), story, stop=False)

        asyncio.run(main())


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    with recording(monkeypatch) as steps:
        yield steps


@pytest.fixture
def desk(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with closing(Notifier()) as notifier:
        desk = Desk(steps, notifier)
        monkeypatch.setattr(module, "Executor", desk.executor)
        yield desk


# --- decide, commit, acknowledge, perform -----------------------------------------------------------------------------


@pytest.mark.parametrize("busy", [False, True], ids=["on the loop", "in the thread"])
def test_it_commits_then_acknowledges_then_starts_then_sends(steps: Steps, desk: Desk, *, busy: bool) -> None:
    async def story() -> None:
        desk.running_executor.running = frozenset({B1}) if busy else frozenset()
        await steps.until_sent(Request)
        steps.all.clear()
        (packet,) = steps.link.receive(assign(JOB_A))
        await steps.until_noted("start")
        desk.running_executor.deliver(Began(A1))
        await steps.until_sent(Request)
        assert steps.kinds(*BEAT) == [*BEAT]
        assert steps.of("commit", "acknowledge", "start") == [
            ("commit", ("Accept", "MarkStarted")),
            ("acknowledge", packet),
            ("start", A1),
        ]

    desk.play(story)


@pytest.mark.parametrize(
    ("inputs", "running", "small"),
    [
        ([], [], True),
        ([finished(A1)], [], True),
        ([finished(A1)], [B1], False),
        ([Began(A1)], [A1], True),
        ([Began(A1), finished(B1)], [A1], False),
    ],
    ids=["nothing", "the last result", "a result beside a job", "a start", "a start and a result"],
)
def test_a_turn_keeps_the_loop_from_running_jobs_only_if_it_commits_nothing(
    desk: Desk, inputs: list[Any], running: list[Token], *, small: bool
) -> None:
    async def story() -> None:
        desk.running_executor.running = frozenset(running)
        assert desk.running_service.is_small(inputs) is small

    desk.play(story)


def test_nothing_starts_while_the_disk_is_slow(steps: Steps, desk: Desk) -> None:
    """A job that takes its machine down must be in the journal first, or it would start again and again."""

    async def story() -> None:
        desk.running_executor.running = frozenset({B1})
        await steps.until_sent(Request)
        steps.all.clear()
        steps.disk.clear()
        (packet,) = steps.link.receive(assign(JOB_A))
        await steps.until_noted("commit begins")
        for _ in range(20):
            await asyncio.sleep(0)
        assert steps.of("commit", "acknowledge", "start", "send") == []
        steps.disk.set()
        await steps.until_noted("start")
        assert steps.of("acknowledge") == [("acknowledge", packet)]

    desk.play(story)


@pytest.mark.parametrize("busy", [False, True], ids=["on the loop", "in the thread"])
def test_nothing_starts_if_the_commit_fails(steps: Steps, desk: Desk, *, busy: bool) -> None:
    async def story() -> None:
        desk.running_executor.running = frozenset({B1}) if busy else frozenset()
        steps.broken = StoreError("the disk is full")
        steps.link.receive(assign(JOB_A))
        await until(lambda: False, "the service ends")

    with pytest.raises(StoreError, match="full"):
        desk.play(story)
    assert steps.of("acknowledge", "start") == []


def test_a_result_is_committed_before_it_is_reported_and_forgotten_once_it_is_stored(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        steps.link.receive(assign(JOB_A))
        await steps.until_noted("start")
        steps.all.clear()
        desk.running_executor.deliver(Began(A1))
        desk.running_executor.deliver(finished(A1))
        assert (await steps.until_sent(Report)).attempts == (attempt(JOB_A),)
        assert steps.kinds("commit", "send") == ["commit", "send"]
        assert steps.of("commit") == [("commit", ("RecordOutcome",))]
        (packet,) = steps.link.receive(ack(stored=[A1]))
        await steps.until_noted("acknowledge")
        assert steps.of("commit", "acknowledge")[1:] == [("commit", ("Forget",)), ("acknowledge", packet)]

    desk.play(story)
    assert desk.journal.load() == []


def test_a_job_that_starts_needs_no_turn_of_its_own(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        desk.running_executor.begins = True
        steps.link.receive(assign(JOB_A))
        await steps.until_noted("start")
        for _ in range(10):
            await asyncio.sleep(0)
        assert desk.running_service._machine.running == 0
        request = await steps.until_sent(Request, 2)
        assert [lease.status for lease in request.leases] == [LeaseStatus.RUNNING]

    desk.play(story)


def test_an_order_to_stop_a_job_reaches_the_executor(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        steps.link.receive(assign(JOB_A))
        await steps.until_noted("start")
        steps.link.receive(order(ControlAction.CANCEL, A1))
        await steps.until_noted("stop")
        assert steps.of("stop") == [("stop", A1)]

    desk.play(story)


def test_progress_is_sent_and_lines_of_a_handler_are_logged_with_their_job(
    steps: Steps, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        steps.link.receive(assign(JOB_A))
        await steps.until_noted("start")
        desk.running_executor.deliver(HandlerLogged(A1, logging.ERROR, "no such symbol"))
        desk.running_executor.deliver(HandlerLogged(B1, logging.ERROR, "of no job"))
        desk.running_executor.deliver(Progressed(A1, 0.5, "half"))
        assert (await steps.until_sent(Progress)).text == "half"

    desk.play(story)
    lines = [
        (record, event) for record in caplog.records if isinstance(event := getattr(record, "event", None), HandlerLog)
    ]
    ((record, line),) = lines
    assert (line.job, line.type, line.attempt, line.message) == ("a", BACKTEST, 1, "no such symbol")
    assert record.levelno == logging.ERROR


# --- the link ---------------------------------------------------------------------------------------------------------


def test_the_broker_keeps_nothing_for_a_worker_and_announces_its_loss(steps: Steps, desk: Desk) -> None:
    async def main() -> str:
        desk.service()
        running = desk.running_service
        async with asyncio.timeout(60):
            task = asyncio.create_task(running.run())
            await steps.until_sent(Register)
            running.stop()
            await task
        return steps.sent(Register)[0].incarnation

    incarnation = asyncio.run(main())
    settings = steps.link.settings
    assert (settings.clean_start, settings.session_expiry_s) == (True, 0)
    assert settings.will == codec.encode(Disconnect(WORKER, incarnation))
    assert settings.subscriptions == topics.subscriptions(Role.WORKER, WORKER)
    assert settings.echo_topic == topics.of_worker(TopicKind.WORKER_ECHO, WORKER)
    assert settings.echo_every_s == INTERVALS.heartbeat_interval_s


def test_a_stop_waits_for_the_end_of_running_jobs_and_leaves_last(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        steps.link.receive(assign(JOB_A))
        await steps.until_noted("start")
        desk.running_service.stop()
        await steps.until_noted("stop")  # its time is up immediately
        desk.running_executor.deliver(AttemptResult(A1, Outcome.CANCELLED))
        await steps.until_sent(Report)
        steps.link.receive(ack(stored=[A1]))
        await steps.until_noted("store closed")

    desk.play(story)
    assert [kind for kind, _ in steps.all[-4:]] == ["send", "link closed", "executor closed", "store closed"]
    assert len(steps.sent(Unregister)) == 1


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_reload_changes_handlers_tags_and_the_link(steps: Steps, desk: Desk) -> None:
    other = JobType("import")

    async def story() -> None:
        await steps.until_sent(Request)
        link = replace(desk.settings.link, username="renewed")
        desk.settings = replace(desk.settings, link=link, handlers={other: HANDLER}, handler_paths=("/new",), slots=9)
        desk.running_service.reload()
        await steps.until_noted("renew")
        assert steps.of("renew") == [("renew", link)]
        assert desk.running_executor.handlers == {other: HANDLER}
        assert desk.running_executor.module_paths == ("/new",)
        newest = steps.sent(Request)[-1]
        assert (newest.types, newest.slots) == ((other,), 1)  # the number of slots needs a restart

    desk.play(story)


def test_a_configuration_that_can_not_be_used_changes_nothing(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        await steps.until_sent(Request)
        desk.broken = ConfigError("broken")
        desk.running_service.reload()
        await steps.until_noted("renew")  # the files of the certificate may have changed
        assert desk.running_executor.handlers == {BACKTEST: HANDLER}

    desk.play(story)


@pytest.mark.parametrize(
    ("controllers", "warned"),
    [(None, True), ({"memory"}, True), ({"cpu", "memory"}, False)],
    ids=["process groups", "memory", "cpu and memory"],
)
def test_a_limit_that_can_not_be_enforced_is_logged(
    desk: Desk, caplog: pytest.LogCaptureFixture, controllers: set[str] | None, *, warned: bool
) -> None:
    limited = replace(HANDLER, limits=Limits(processors=1.5))
    desk.settings = replace(desk.settings, handlers={BACKTEST: limited, JobType("import"): HANDLER})
    if controllers is not None:
        desk.groups = cast("Delegation", SimpleNamespace(controllers=frozenset(controllers)))

    async def main() -> None:
        desk.service()

    asyncio.run(main())
    types = [event.type for record in caplog.records if (event := getattr(record, "event", None)) is not None]
    assert types == ([BACKTEST] if warned else [])


def test_a_full_disk_refuses_new_jobs(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        desk.journal.free = 0
        await until(lambda: any(sent.disk_pressure for sent in steps.sent(Request)), "the dispatcher is informed")
        steps.link.receive(assign(JOB_A))
        (refused,) = (await steps.until_sent(Report)).attempts
        assert refused.outcome is Outcome.RELEASED

    desk.play(story)


def test_an_attempt_that_should_be_gone_is_a_deadline(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        await steps.until_sent(Heartbeat)
        assert [*desk.running_service.deadlines()] == []
        desk.running_executor.must_exit_by = 123.0
        (deadline,) = desk.running_service.deadlines()
        assert deadline.by == 123.0

    desk.play(story)


def test_its_status_counts_jobs_and_results(steps: Steps, desk: Desk) -> None:
    async def story() -> None:
        steps.link.receive(assign(JOB_A))
        await steps.until_noted("start")
        desk.running_executor.deliver(Began(A1))
        await until(lambda: [*desk.running_service.status_parts()] == ["1/1 slots busy"], "it runs")
        desk.running_executor.deliver(finished(A1))
        await steps.until_sent(Report)
        assert [*desk.running_service.status_parts()] == ["0/1 slots busy", "1 results waiting"]

    desk.play(story)


def test_its_last_status_says_how_the_link_is(steps: Steps, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Notifier, "stopping", lambda _notifier, status: told.append(status))

    async def at_once() -> None:
        desk.service().stop()

    async def once_connected() -> None:
        await steps.until_sent(Request)
        desk.running_service.stop()

    asyncio.run(at_once())
    desk.play(once_connected)
    assert told == [f"draining, {link} to localhost:1, 0/1 slots busy" for link in ("connecting", "connected")]
