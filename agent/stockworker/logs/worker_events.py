"""The catalogue of log events, continued: the events of a worker. PURE."""

from stockworker.logs.event import HERE, EventOfAttempt, LogEvent, LogLevel, peer, work
from stockworker.logs.event import declare as _event


@_event(
    LogLevel.INFO,
    HERE,
    "confines jobs",
    "`by` is `control groups` or `process groups`. With control groups every process that a job has started ends with the "
    "job, and `controllers` lists what can be limited for a whole job. A process can leave its process group; `reason` explains "
    "why no control groups are used. See docs/packages.md.",
)
class Confined(LogEvent):
    by: str
    controllers: str | None = None
    reason: str | None = None


@_event(
    LogLevel.WARNING,
    work("type"),
    "a limit is not enforced here",
    "The limit is configured, but this machine can't enforce it.",
)
class LimitUnenforced(LogEvent):
    type: str
    limit: str
    reason: str


@_event(LogLevel.DEBUG, work("type"), "finished a job", "The result is in the worker's journal, and will be reported.")
class AttemptCompleted(EventOfAttempt):
    ran_s: float


@_event(
    LogLevel.WARNING,
    work("type"),
    "an attempt failed",
    "The handler raised an error, ran out of time or crashed. The dispatcher decides whether the job is tried again.",
)
class AttemptFailed(LogEvent):
    job: str
    type: str | None
    attempt: int
    outcome: str
    reason: str
    ran_s: float | None


@_event(LogLevel.INFO, work("type"), "handler", "A line that a handler logged, at the level that the handler chose.")
class HandlerLog(EventOfAttempt):
    message: str


@_event(
    LogLevel.INFO,
    work("type"),
    "a process of handlers printed",
    "Several jobs of this type run in the process, and nothing shows which of them printed the line: it came from C code, from "
    "another process, or from a thread. `print` and `context.log` name the job.",
)
class ProcessOutput(LogEvent):
    type: str
    message: str


@_event(
    LogLevel.WARNING,
    work("type"),
    "a job keeps the event loop",
    "The job computes or waits without `await`, so the jobs in the same process wait. `place` is the line that it "
    "executes. Use `await asyncio.to_thread(...)` for such a call, or a handler without `concurrency`.",
)
class EventLoopBlocked(EventOfAttempt):
    place: str


@_event(
    LogLevel.WARNING,
    work("type"),
    "refused a payload",
    "Security: the job was not run. Reasons: `plain` where sealed payloads are required, `unsigned`, `untrusted` (the "
    "submitter is not in the keyring), `forged` (a wrong signature), `not_allowed`, `moved` (sealed for another job), "
    "`expired`, `damaged`, `no_key` (another worker may have the key). `count`: how many since this worker started. See "
    "docs/encryption.md.",
)
class PayloadRefused(LogEvent):
    job: str
    type: str
    reason: str
    problem: str
    count: int


@_event(
    LogLevel.ERROR,
    peer(),
    "the dispatcher refused this worker's message",
    "`reason` has the cause: the worker is denied, or the versions of worker and dispatcher are too far apart.",
)
class RefusedByDispatcher(LogEvent):
    reason: str


@_event(
    LogLevel.INFO,
    work(),
    "a lease was withdrawn",
    "The job was cancelled, or another worker got it while this worker was cut off. It is stopped here.",
)
class LeaseWithdrawn(LogEvent):
    job: str
    type: str


@_event(
    LogLevel.ERROR,
    HERE,
    "started a new journal because the old one is damaged",
    "The dispatcher assigns the jobs in the old journal again, and results that were not reported are computed again. The "
    "damaged file is kept beside the new one. Check the disk, then delete the file.",
)
class JournalQuarantined(LogEvent):
    journal: str
    kept: str
    reason: str


@_event(
    LogLevel.WARNING,
    HERE,
    "the journal was written under another worker ID",
    "The ID of this worker has changed: the name of the machine, or `worker.id`. The dispatcher refuses the reports of its "
    "`leases` unfinished jobs and runs them again. Set `worker.id`, so that the ID does not depend on the name of the machine.",
)
class JournalOfAnother(LogEvent):
    journal: str
    id: str
    before: str | None
    leases: int


@_event(
    LogLevel.WARNING,
    peer(),
    "refused assignments",
    "Security: the dispatcher has assigned more than this worker asks for, or the disk is nearly full. The jobs are given "
    "back, and the worker keeps nothing of them. If it occurs again and again while the disk has room, the dispatcher or the "
    "broker is defective or compromised.",
)
class AssignmentsRefused(LogEvent):
    assignments: int
    reason: str
    leases: int
    payload_bytes: int


@_event(
    LogLevel.WARNING,
    work(),
    "evicted a result to save space",
    "The results that could not be reported exceed `worker.journal_quota`. The worker reports the job as failed for this "
    "reason, and the dispatcher tries it again while it has attempts left. Raise the quota for longer outages.",
)
class ResultEvicted(EventOfAttempt):
    bytes: int


@_event(
    LogLevel.WARNING,
    peer(),
    "takes no new jobs because space is short",
    "Results wait to be reported, or the journal's disk fills up. Jobs that the worker has still run.",
)
class SpaceShort(LogEvent):
    reason: str
    kept_bytes: int


@_event(LogLevel.INFO, peer(), "takes new jobs again", "The journal has room for results again.")
class SpaceEnough(LogEvent):
    kept_bytes: int


@_event(LogLevel.INFO, peer(), "draining", "The worker takes no new jobs, and finishes those that run.")
class DrainStarted(LogEvent):
    running: int


@_event(LogLevel.INFO, HERE, "drained", "No job runs on this worker any more.")
class Drained(LogEvent):
    pass


@_event(
    LogLevel.WARNING,
    peer(),
    "no dispatcher receives the requests of this worker",
    "The worker is connected, but the dispatcher of this fleet does not run, or it uses another broker. Check "
    "`queue.mqtt.host`, `queue.mqtt.port` and `tls` of the worker: without `tls` it connects in plain text, by default to a "
    "broker on its own machine. Then check the dispatcher.",
)
class DispatcherMissing(LogEvent):
    after_s: int


@_event(LogLevel.INFO, peer(), "a dispatcher receives the requests of this worker", "It had been missing.")
class DispatcherFound(LogEvent):
    pass
