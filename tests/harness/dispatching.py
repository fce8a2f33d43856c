"""Stories of the dispatcher: its playbook, and short forms of messages and effects."""

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from stockworker.dispatcher.effects import (
    Answered,
    Effect,
    Event,
    LimitOutputs,
    Offer,
    Prune,
    RunQuery,
    SaveAttempt,
    SaveDrain,
    SaveJob,
    SaveOutput,
    SavePause,
    ShowStats,
)
from stockworker.dispatcher.machine import DispatcherMachine
from stockworker.dispatcher.measures import unaccounted
from stockworker.dispatcher.policy import JobDefaults, Policy
from stockworker.dispatcher.ready_queue import ReadExpired, ReadyQueue, Refill
from stockworker.dispatcher.tally import Tally
from stockworker.dispatcher.turn import DispatcherTurns
from stockworker.logs.events import LogEvent
from stockworker.protocol import messages
from stockworker.protocol.ids import ClientId, JobId, JobType, Tag, Token, WorkerId, owner_of
from stockworker.protocol.job import JobRecord, JobSpec, Outcome, Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.messages import (
    ALL_CONNECTIONS,
    Ack,
    AttemptReport,
    CancelJob,
    Control,
    ControlAction,
    LeaseStatus,
    Monitor,
    Notice,
    NoticeEntry,
    Notices,
    Presence,
    Receipt,
    ReceiptEntry,
    ReceiptStatus,
    Reply,
    Report,
    ReportedLease,
    Request,
    RetryJob,
    SetDrain,
    SetPause,
    Stats,
    StatsRequest,
    Submission,
    Submit,
    Transition,
)
from stockworker.shell.turn import LinkChanged, Now, Send
from tests.harness.entropy import Counting
from tests.harness.memory_store import MemoryJobStore
from tests.harness.playbook import Playbook, VirtualClock

LogEventT = TypeVar("LogEventT", bound=LogEvent)

MIDDAY = 1_700_000_000.0
DAY = 86_400.0
NEVER_AGED = float("-inf")

A, B, C, D = JobId("a"), JobId("b"), JobId("c"), JobId("d")
W1, W2, W3 = WorkerId("w1"), WorkerId("w2"), WorkerId("w3")
BACKTEST, IMPORT = JobType("backtest"), JobType("import")
UNKNOWN_TOKEN = Token("unknown")
REPLY = Reply(ClientId("client"), "1")
DRAIN, RESUME = ControlAction.DRAIN, ControlAction.RESUME
WAITING, RUNNING, FINISHED = LeaseStatus.WAITING, LeaseStatus.RUNNING, LeaseStatus.FINISHED

POLICY = Policy(defaults=JobDefaults(backoff_s=8.0))
PRESENCE = Presence(online=True, incarnation="epoch", version="1.0")
CONNECTED, CUT_OFF = LinkChanged(up=True), LinkChanged(up=False)


def a_job(
    job_id: JobId,
    state: State = State.QUEUED,
    *,
    priority: Priority = Priority.NORMAL,
    of_type: JobType = BACKTEST,
    tags: Collection[Tag] = (),
    not_before: float | None = None,
    expires_at: float | None = None,
    ready_at: float = 0.0,
    sequence: int = 1,
) -> JobRecord:
    """A job for tests that need no dispatcher."""
    spec = JobSpec(
        job_id=job_id,
        type=of_type,
        priority=priority,
        not_before=not_before,
        expires_at=expires_at,
        timeout_s=60.0,
        max_attempts=3,
        backoff_s=8.0,
        backoff_max_s=600.0,
        max_crashes=3,
        tags=frozenset(tags),
        payload_digest=b"\0\xff" * 8,
    )
    return JobRecord(spec, sequence, state, submitted_at=0.0, ready_at=ready_at)


def a_queue(*jobs: JobRecord) -> ReadyQueue:
    """A queue of these jobs."""
    queue = ReadyQueue()
    for job in jobs:
        queue.add(job)
    return queue


class RecordingMachine(DispatcherMachine):
    """Keeps what went into its last turn, and what came out of it."""

    events: Sequence[Event] = ()
    effects: Sequence[Effect] = ()

    def handle(self, events: Sequence[Event], now: Now) -> list[Effect]:
        effects = super().handle(events, now)
        self.events, self.effects = events, effects
        return effects


class DispatcherBook(Playbook[Event, Effect]):
    """A story of one dispatcher, its store included.

    Saves show in `job`, `orders`, `prunes` and `store`, the log in `log`, the steps of jobs for the monitor in `steps`. A
    test must expect every other effect. After each turn, every stored job must be accounted for. Each event of the log to which messages alone have led must have a limit of lines.
    """

    def __init__(self, policy: Policy = POLICY, clock: VirtualClock | None = None) -> None:
        super().__init__(clock or VirtualClock(MIDDAY, MIDDAY))
        self.store = MemoryJobStore()
        self.log: list[LogEvent] = []
        self.steps: list[Transition] = []
        self.orders: list[SavePause | SaveDrain] = []
        self.prunes: list[Prune] = []
        self._policy = policy
        self._entropy = Counting()
        self.restart()
        self.connect()

    def restart(self) -> None:
        """Continue as a new process from the store; not yet connected."""
        self.expect()
        self.machine = RecordingMachine(
            self._policy, self._entropy, PRESENCE, self.store.load(self.clock.steady), self.now()
        )
        self._turns = DispatcherTurns(self.machine, self.store, self._policy.lease_s)
        self._asked: RunQuery | ShowStats | None = None

    def turn(self, events: Sequence[Event]) -> list[Effect]:
        answered, self._asked = self._asked, None
        output = self._turns.take([*events, Answered()] if answered else events, self.now())
        assert unaccounted(self.machine.ledger, self.tally) == 0, "a job is in the store or in the ledger alone"
        self._asked = output.asked
        story: list[Effect] = []
        for effect in self.machine.effects:
            match effect:
                case SaveJob() | SaveAttempt() | SaveOutput() | LimitOutputs() | Refill() | ReadExpired():
                    pass
                case SavePause() | SaveDrain():
                    self.orders.append(effect)
                case Prune():
                    self.prunes.append(effect)
                case LogEvent():
                    by_peers = bool(events) and all(type(event).__module__ == messages.__name__ for event in events)
                    assert not by_peers or effect.cause.lines_a_minute, f"peers can cause {effect.name} without a limit"
                    self.log.append(effect)
                case Send(message=Monitor(transitions=steps)):
                    self.steps.extend(steps)
                case _:
                    story.append(effect)
        return story

    @property
    def tally(self) -> Tally:
        """What this process has committed."""
        return self._turns.tally

    def only(self, kind: type[LogEventT]) -> LogEventT:
        """The one log event of this kind."""
        (found,) = [event for event in self.log if isinstance(event, kind)]
        return found

    @property
    def logged(self) -> list[str]:
        """The names of the log events, in their order."""
        return [event.name for event in self.log]

    def next_in_s(self) -> float:
        return self._turns.next_in_s(self.now())

    def now(self) -> Now:
        return Now(self.clock.steady, self.clock.wall)

    def connect(self) -> None:
        """The link comes up."""
        self.tell(CONNECTED)
        self.expect(Send(PRESENCE))

    def job(self, job_id: JobId) -> JobRecord:
        """The job as saved."""
        return self.store.jobs[job_id]

    def state(self, job_id: JobId) -> State:
        return self.job(job_id).state

    def token(self, job_id: JobId) -> Token:
        """The token of the newest lease."""
        token = self.job(job_id).token
        assert token is not None
        return token

    def offer(self, worker_id: WorkerId, *job_ids: JobId) -> Offer:
        """The offer of these jobs, as saved, to a worker."""
        jobs = tuple(map(self.job, job_ids))
        assert all(job.worker == worker_id and job.token is not None for job in jobs)
        return Offer(worker_id, jobs)

    def claim(self, job_id: JobId, status: LeaseStatus) -> ReportedLease:
        """A worker's claim to the newest lease of a job."""
        return ReportedLease(job_id, self.token(job_id), status)

    def ended(self, job_id: JobId, outcome: Outcome = Outcome.OK, **details: Any) -> AttemptReport:
        """A worker's report on the newest attempt at a job."""
        return AttemptReport(self.token(job_id), outcome, job_id=job_id, **details)

    def notice(self, job_id: JobId, result: str | None = None) -> Send:
        """The notice that a job has ended, as it is saved."""
        job = self.job(job_id)
        return Send(Notice(job_id, job.spec.type, job.state, job.attempt, job.worker, result, job.reason))

    def announced(self, job_id: JobId, result: str | None = None) -> list[Send]:
        """The notices of a job that has ended, for its owner's connections and for all who watch."""
        notice, owner = self.notice(job_id, result), owner_of(job_id)
        if owner is None:
            return [notice]
        job = self.job(job_id)
        entry = NoticeEntry(job_id, job.spec.type, job.state, job.attempt, job.worker, result, job.reason)
        return [Send(Notices(owner, ALL_CONNECTIONS, (entry,))), notice]

    def run_to(self, state: State, job_id: JobId = A, worker_id: WorkerId = W1, **options: Any) -> None:
        """Submit a job with `max_attempts` 1, and lead it to `state` on a worker with one slot."""
        if state is State.SCHEDULED:
            options["not_before"] = self.clock.wall + DAY
        if state is State.EXPIRED:
            options["expires_at"] = self.clock.wall + 1
        self.tell(submit(job_id, reply=None, max_attempts=1, **options))
        if state in (State.ASSIGNED, State.RUNNING, State.COMPLETED, State.FAILED):
            self.tell(request(worker_id))
            self.expect(self.offer(worker_id, job_id))
        if state is State.RUNNING:
            self.tell(request(worker_id, self.claim(job_id, RUNNING)))
            self.expect(ack(worker_id))
        elif state in (State.COMPLETED, State.FAILED):
            outcome = Outcome.OK if state is State.COMPLETED else Outcome.ERROR
            ended = self.ended(job_id, outcome, result="1" if outcome is Outcome.OK else None)
            self.tell(Report(worker_id, (ended,)))
            self.expect(ack(worker_id, stored=[ended.token]), *self.announced(job_id, ended.result))
        elif state is State.CANCELLED:
            self.tell(cancel(job_id, reply=None))
            self.expect(*self.announced(job_id))
        elif state is State.EXPIRED:
            self.after(1)
            self.expect(*self.announced(job_id))
        assert self.state(job_id) is state

    def stats(self) -> Stats:
        """Ask for statistics."""
        self.expect()
        (answer,) = self.turn([StatsRequest(None)])
        assert isinstance(answer, ShowStats)
        return answer.stats

    def counter(self, name: str) -> int:
        return dict(self.stats().counters).get(name, 0)


# --- what comes in ----------------------------------------------------------------------------------------------------


def submit(
    *job_ids: JobId | None,
    of_type: JobType = BACKTEST,
    priority: Priority = Priority.NORMAL,
    reply: Reply | None = REPLY,
    payload: str = "{}",
    **options: Any,
) -> Submit:
    client_id = None if job_ids[0] is None else owner_of(job_ids[0])
    jobs = tuple(Submission(job_id, of_type, priority, payload, **options) for job_id in job_ids)
    return Submit(jobs, reply, client_id)


def request(
    worker_id: WorkerId,
    *leases: ReportedLease,
    slots: int = 1,
    window: int | None = None,
    types: Sequence[JobType] = (BACKTEST,),
    tags: Sequence[Tag] = (),
    incarnation: str = "boot-1",
    short: bool = False,
) -> Request:
    window = slots if window is None else window
    return Request(worker_id, incarnation, slots, window, tuple(types), tuple(tags), "1.0", leases, short)


def cancel(job_id: JobId, reply: Reply | None = REPLY) -> CancelJob:
    return CancelJob(job_id, reply)


def retry(job_id: JobId, reply: Reply | None = REPLY) -> RetryJob:
    return RetryJob(job_id, reply)


def pause(job_type: JobType, reply: Reply | None = None) -> SetPause:
    return SetPause(job_type, paused=True, reply=reply)


def resume(job_type: JobType, reply: Reply | None = None) -> SetPause:
    return SetPause(job_type, paused=False, reply=reply)


def drain(worker_id: WorkerId, reply: Reply | None = None) -> SetDrain:
    return SetDrain(worker_id, drained=True, reply=reply)


def undrain(worker_id: WorkerId, reply: Reply | None = None) -> SetDrain:
    return SetDrain(worker_id, drained=False, reply=reply)


def report(worker_id: WorkerId, *attempts: AttemptReport) -> Report:
    return Report(worker_id, attempts)


# --- what comes out ---------------------------------------------------------------------------------------------------


def receipt(
    job_id: JobId | None, status: ReceiptStatus, reason: str | None = None, holder: JobId | None = None
) -> Send:
    return Send(Receipt(REPLY, (ReceiptEntry(job_id, status, reason, holder),)))


def ack(worker_id: WorkerId, *, stored: Sequence[Token] = (), stale: Sequence[Token] = ()) -> Send:
    return Send(Ack(worker_id, tuple(stored), tuple(stale), POLICY.lease_s))


def order(worker_id: WorkerId, action: ControlAction) -> Send:
    return Send(Control(worker_id, action))


def stop(worker_id: WorkerId, token: Token) -> Send:
    return Send(Control(worker_id, ControlAction.CANCEL, token))
