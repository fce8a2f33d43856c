"""Stories of a worker: its playbook, and short names for what happens in them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from stockworker.logs.event import LogEvent
from stockworker.protocol import codec
from stockworker.protocol.attempt import AttemptOutput, AttemptResult
from stockworker.protocol.ids import JobId, JobType, Token, WorkerId
from stockworker.protocol.job import Outcome
from stockworker.protocol.messages import (
    Ack,
    Assign,
    Assignment,
    AttemptReport,
    Control,
    ControlAction,
    Heartbeat,
    LeaseStatus,
    Presence,
    Register,
    Report,
    Request,
)
from stockworker.shell.turn import LinkChanged, Now, Send
from stockworker.worker.effects import (
    Accept,
    Capabilities,
    Effect,
    Entry,
    Event,
    Forget,
    Leave,
    MarkStarted,
    RecordOutcome,
    Start,
)
from stockworker.worker.leases import JournalEntry
from stockworker.worker.machine import Intervals, WorkerIdentity, WorkerMachine
from stockworker.worker.turn import WorkerTurns
from stockworker.worker.work import Began, Work
from tests.harness.playbook import Playbook, VirtualClock

WORKER = WorkerId("host-1")
BACKTEST = JobType("backtest")
A, B, C = JobId("a"), JobId("b"), JobId("c")
A1, A2, B1, C1 = Token("a-1"), Token("a-2"), Token("b-1"), Token("c-1")
CAPABILITIES = Capabilities(slots=1, types=(BACKTEST,), tags=())
INTERVALS = Intervals(poll_interval_s=5.0, heartbeat_interval_s=30.0)
CONNECTED, CUT_OFF = LinkChanged(up=True), LinkChanged(up=False)
WAITING, RUNNING, FINISHED = LeaseStatus.WAITING, LeaseStatus.RUNNING, LeaseStatus.FINISHED


class MemoryJournal:
    """A journal in memory; it asserts that its entries fit together."""

    def __init__(self) -> None:
        self._entries: dict[Token, JournalEntry] = {}

    def load(self) -> list[JournalEntry]:
        return list(self._entries.values())

    def commit(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            match entry:
                case Accept(assignment=assignment, start_by=start_by):
                    assert assignment.token not in self._entries
                    kept = replace(assignment, expires_in_s=None)  # `start_by` has it
                    self._entries[kept.token] = JournalEntry(kept, started=False, report=None, start_by=start_by)
                case MarkStarted(token=token):
                    assert self._entries[token].report is None
                    kept = replace(self._entries[token].assignment, payload="")
                    self._entries[token] = replace(self._entries[token], assignment=kept, started=True)
                case RecordOutcome(report=report):
                    before = self._entries[report.token]
                    assert before.report is None or report in changes_of(before.report, report.error)
                    kept = replace(before.assignment, payload="")
                    self._entries[report.token] = replace(before, assignment=kept, report=report)
                case Forget(token=token):
                    del self._entries[token]


class WorkerBook(Playbook[Event, Effect]):
    """A story of one worker, its journal included.

    What it commits is in `journal`. Its regular messages are in `requests` and `heartbeats`, its log is in `logged`,
    with the names of the events in `notes`. The story must expect everything else.
    """

    def __init__(self, capabilities: Capabilities = CAPABILITIES, quota_bytes: int = 1_000_000) -> None:
        super().__init__(VirtualClock(1000.0, 0.0))
        self.journal = MemoryJournal()
        self.requests: list[Request] = []
        self.heartbeats: list[Heartbeat] = []
        self.notes: list[str] = []
        self.logged: list[LogEvent] = []
        self.quota_bytes = quota_bytes
        self._capabilities = capabilities
        self._incarnation = 0
        self.restart()

    def restart(self) -> None:
        """Start a new process from the journal; it is not connected yet."""
        self.expect()
        self._incarnation += 1
        journal = self.journal.load()
        self.machine = WorkerMachine(
            self.identity, INTERVALS, self._capabilities, journal, self.clock.steady, quota_bytes=self.quota_bytes
        )
        self.turns = WorkerTurns(self.machine, self.journal)

    @property
    def identity(self) -> WorkerIdentity:
        return WorkerIdentity(WORKER, f"boot-{self._incarnation}", "1.0")

    def turn(self, events: Sequence[Event]) -> list[Effect]:
        output = self.turns.take(events, Now(self.clock.steady, self.clock.wall))
        story: list[Effect] = [*output.orders]
        for packet in output.packets:
            match codec.decode(packet):
                case Request() as request:
                    self.requests.append(request)
                case Heartbeat() as heartbeat:
                    self.heartbeats.append(heartbeat)
                case message:
                    story.append(Send(message))
        self.logged += output.log
        self.notes += [event.name for event in output.log]
        return [*story, Leave()] if output.leave else story

    def next_in_s(self) -> float:
        return self.turns.next_in_s(Now(self.clock.steady, self.clock.wall))

    def connect(self, *again: AttemptReport) -> None:
        """The link comes up; the worker sends unacknowledged reports again."""
        self.tell(CONNECTED)
        self.expect(self.introduction(), *([reported(*again)] if again else []))

    def introduction(self) -> Send:
        return Send(
            Register(WORKER, self.identity.incarnation, "1.0", self._capabilities.slots, self._capabilities.types, ())
        )

    def run(self, *jobs: Assignment) -> None:
        """These jobs are assigned, and run."""
        self.tell(assign(*jobs))
        self.expect(*map(start, jobs))
        self.tell(*(Began(job.token) for job in jobs))

    def claims(self) -> dict[Token, LeaseStatus]:
        """The leases in the newest request."""
        return {lease.token: lease.status for lease in self.requests[-1].leases}


def job(job_id: JobId, token: Token, attempt: int = 1) -> Assignment:
    return Assignment(job_id, BACKTEST, attempt, token, 60.0, '{"job": 1}')


JOB_A, JOB_B, JOB_C = job(A, A1), job(B, B1), job(C, C1)
JOB_A_AGAIN = job(A, A2, attempt=2)

# --- what comes in ----------------------------------------------------------------------------------------------------


def assign(*jobs: Assignment) -> Assign:
    return Assign(WORKER, 30.0, jobs)


def ack(*, stored: Sequence[Token] = (), stale: Sequence[Token] = (), lease_s: float = 30.0) -> Ack:
    return Ack(WORKER, tuple(stored), tuple(stale), lease_s)


def order(action: ControlAction, token: Token | None = None) -> Control:
    return Control(WORKER, action, token)


def finished(
    token: Token, outcome: Outcome = Outcome.OK, *, error: str | None = None, ran_s: float = 10.0
) -> AttemptResult:
    """An attempt has ended; its result is its token."""
    result = f'"{token}"' if outcome is Outcome.OK else None
    return AttemptResult(token, outcome, result, error, permanent=False, ran_s=ran_s)


def dispatcher(incarnation: str, *, online: bool = True) -> Presence:
    return Presence(online, incarnation, "1.0")


# --- what comes out ---------------------------------------------------------------------------------------------------


def start(job: Assignment) -> Start:
    work = Work(job.token, job.job_id, job.type, job.attempt, job.payload, job.timeout_s, alone=job.no_crash_budget)
    return Start(work)


def attempt(
    job: Assignment, outcome: Outcome = Outcome.OK, *, error: str | None = None, ran_s: float | None = 10.0
) -> AttemptReport:
    """The report of an attempt that `finished` ends."""
    result = f'"{job.token}"' if outcome is Outcome.OK else None
    return AttemptReport(job.token, outcome, result, error, permanent=False, ran_s=ran_s, job_id=job.job_id)


def changes_of(report: AttemptReport, error: str | None) -> Iterator[AttemptReport]:
    """What a report that lacks room may become: without its output, or without its result."""
    if report.output is not None:
        omitted = report.output.omitted + len(report.output.text.encode())
        yield replace(report, output=AttemptOutput("", omitted))
    if report.result is not None:
        yield evicted(report, error)


def evicted(report: AttemptReport, error: str | None) -> AttemptReport:
    """The report of an attempt whose result was evicted."""
    assert report.result is not None
    return replace(report, outcome=Outcome.ERROR, result=None, error=error)


def reported(*attempts: AttemptReport) -> Send:
    return Send(Report(WORKER, attempts))
