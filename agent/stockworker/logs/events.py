"""The catalogue of log events: one class for each event, with its level, its text, its meaning and its fields. PURE."""

# A machine emits an event as an effect, and a shell logs it (`logs.record.log_event`). A misspelt event or field is
# therefore an error of the type checker. To add an event, add a class here (or in a module beside this one) and create it where it happens: the page
# `docs/logging.md` and the systemd journal's catalogue are generated from the classes.
#
# Each event declares what can cause it. A peer can cause some events as often as it likes, so their lines are limited, in
# a way that does not mute the lines about others.
#
# Levels: an event that occurs once per job on a busy machine is at debug, because `system/monitor` reports the same.
# An event that may need an operator is a warning. An event after which something is broken is an error.

from stockworker.logs.event import EVENTS, HERE, Cause, EventOfAttempt, LogEvent, LogLevel, peer, work
from stockworker.logs.event import declare as _event

__all__ = ["EVENTS", "HERE", "Cause", "LogEvent", "LogLevel", "peer", "work"]  # and the catalogue below


class _AttemptOfJob(EventOfAttempt):
    """An event about the newest attempt of a job, in the dispatcher. `worker` has, or last had, the lease."""

    worker: str | None


# --- both services ----------------------------------------------------------------------------------------------------


@_event(
    LogLevel.INFO,
    HERE,
    "ready",
    "The service has started. It is connected, or has tried to be, and keeps trying: `broker` and the line before this "
    "show it. A worker that is ready may still wait for a dispatcher: see `dispatcher_missing`.",
)
class Ready(LogEvent):
    id: str
    version: str | None = None
    broker: str | None = None


@_event(LogLevel.INFO, peer(), "connected to the broker", "Jobs flow again.")
class LinkUp(LogEvent):
    broker: str


@_event(
    LogLevel.WARNING,
    peer(),
    "lost the broker",
    "The connection broke or could not be made. Work continues, results are kept, and the service retries by itself.",
)
class LinkDown(LogEvent):
    broker: str
    reason: str


@_event(
    LogLevel.WARNING,
    peer(),
    "gives up a connection",
    "The connection was open, but no answer came back: a network drops idle connections, or the broker hangs. The "
    "service reconnects immediately. The stacks of all tasks show what waited for the connection.",
)
class ConnectionDead(LogEvent):
    reason: str


@_event(
    LogLevel.WARNING,
    peer("topic", "sender"),
    "refused a message",
    "The message is not valid, or its sender may not send it. It was dropped. `sender`: the client or worker, "
    "where the topic proves it. `count`: how many messages this worker has "
    "refused since it started; `stockworker stats` shows the dispatcher's count.",
)
class MessageRefused(LogEvent):
    topic: str
    reason: str
    sender: str | None = None
    count: int | None = None


@_event(
    LogLevel.WARNING,
    peer("topic"),
    "dropped messages that arrived too fast",
    "Messages without acknowledgement (QoS 0) arrive faster than this service handles them, and fill its memory, or the part "
    "of it that one sender may use. It drops them until it has handled others. The topic names the sender.",
)
class MessagesDropped(LogEvent):
    topic: str


@_event(
    LogLevel.WARNING,
    peer("sender"),
    "ignores a sender for the rest of a second",
    "More than 100 messages of this client or worker were malformed within a second. The service drops its other messages "
    "of that second unread, valid ones as well. `refused a message` has the reasons. Correct the program, or exclude the sender.",
)
class SenderIgnored(LogEvent):
    sender: str


@_event(
    LogLevel.WARNING,
    peer("topic"),
    "the broker refused to publish a message",
    "Most often the ACL denies it. Compare the broker's ACL file with the shipped one, and check the name in this "
    "service's certificate.",
)
class PublishRefused(LogEvent):
    topic: str
    reason: str


@_event(
    LogLevel.ERROR,
    peer(),
    "could not encode a message",
    "A defect of stockworker: `message` holds what no message can carry. It was left out, and everything else continues. "
    "Please report it.",
)
class MessageUnsendable(LogEvent):
    message: str
    job: str | None
    reason: str


@_event(LogLevel.INFO, HERE, "reloaded the configuration", "The new configuration is in force.")
class ConfigReloaded(LogEvent):
    pass


@_event(
    LogLevel.ERROR,
    HERE,
    "refused the new configuration",
    "A reload found errors. The old configuration stays in force. `stockworker check` lists the errors.",
)
class ConfigRefused(LogEvent):
    problem: str


@_event(LogLevel.WARNING, HERE, "configuration warning", "The setting works, but should be changed.")
class ConfigWarning(LogEvent):
    problem: str


@_event(
    LogLevel.WARNING,
    HERE,
    "the certificate has another name",
    "The broker knows this service by the name in its certificate, and denies it the topics of its ID. Install the "
    "certificate of this ID. Set the ID to the other name only if no other machine or service uses that certificate.",
)
class IdentityDiffers(LogEvent):
    problem: str


@_event(
    LogLevel.WARNING,
    HERE,
    "the certificate expires soon",
    "Logged once a day in the last 30 days; in the last three days as an error. Renew the certificate: once it expires, the "
    "broker will refuse the connection. See docs/pki.md.",
)
class CertificateExpires(LogEvent):
    file: str
    until: str
    days: int


@_event(
    LogLevel.WARNING,
    peer(),
    "the broker's certificate expires soon",
    "Logged once a day in the last 30 days; in the last three days as an error. At the broker, run `stockworker broker setup "
    "--renew`: once it expires, no client and no service connects. See docs/pki.md.",
)
class BrokerCertificateExpires(LogEvent):
    broker: str
    until: str
    days: int


@_event(LogLevel.INFO, HERE, "stopping", "The service was asked to stop.")
class Stopping(LogEvent):
    pass


@_event(
    LogLevel.ERROR,
    HERE,
    "makes no progress",
    "A step has been overdue for most of `WatchdogSec=`, so systemd ends and restarts the service. The systemd journal has "
    "the stacks of all tasks and threads. No job is lost. If a commit is overdue, check the disk; otherwise please report "
    "it.",
)
class NoProgress(LogEvent):
    problem: str


@_event(
    LogLevel.ERROR,
    HERE,
    "can't continue without its store",
    "A commit failed: the disk is full or broken, or another process locked the file for more than 10 s. systemd restarts "
    "the service from what is on disk. Nothing that was not committed has been done.",
)
class StoreFailed(LogEvent):
    problem: str


@_event(LogLevel.INFO, HERE, "makes progress again", "The overdue step is done.")
class ProgressAgain(LogEvent):
    pass


@_event(
    LogLevel.ERROR,
    HERE,
    "internal error",
    "A defect of stockworker, with its traceback. The service ends with status 70, and systemd restarts it. Please report "
    "it.",
)
class Fault(LogEvent):
    where: str


# --- clients ----------------------------------------------------------------------------------------------------------


@_event(
    LogLevel.DEBUG,
    peer(),
    "ignored an answer",
    "Security: a message had the correlation of a request, but is of another kind or names other jobs. Only a defective "
    "or compromised dispatcher or broker can send it. The client goes on waiting for an answer.",
)
class AnswerIgnored(LogEvent):
    reason: str


@_event(
    LogLevel.WARNING,
    HERE,
    "left out lines",
    "Events of one kind occurred so often that some were not logged in the last minute. `about`: the event, `key`: whom it is "
    "about, `lines`: how many were left out. The first lines show who or what causes them; the dispatcher's counters have "
    "all.",
)
class LinesLeftOut(LogEvent):
    about: str
    key: str | None
    lines: int


@_event(
    LogLevel.WARNING,
    HERE,
    "lost lines",
    "The log could not be written: its reader did not read, or the disk was full. The service went on and dropped `lines` "
    "lines. Check the systemd journal (`systemctl status systemd-journald`), the program that reads the log, or the disk.",
)
class LinesLost(LogEvent):
    lines: int


# --- the dispatcher ---------------------------------------------------------------------------------------------------


@_event(
    LogLevel.WARNING,
    peer(),
    "the broker answers late",
    "The network is fast, but each answer waits as long as a kernel delays small packets (Nagle's algorithm). Every step "
    "of every job waits as well. Set `set_tcp_nodelay true` in the broker's configuration, as the shipped template does, "
    "and restart the broker.",
)
class BrokerDelays(LogEvent):
    broker: str
    round_trip_s: float
    network_s: float


@_event(
    LogLevel.WARNING,
    HERE,
    "discarded the messages that the broker kept",
    "Several processes of the dispatcher in a row ended soon after their start, and not in good order. A message that the "
    "broker kept may have ended them, and would end this process too. A sender that waits for its answer repeats its "
    "messages, so it loses no job. `topics`: what the last process was handling; they name the senders. Look for a `fault` "
    "before this line, and report it.",
)
class SessionDiscarded(LogEvent):
    topics: str


@_event(
    LogLevel.WARNING,
    peer("client"),
    "dropped queries of a client",
    "The client asks faster than the dispatcher answers. It asks again by itself, and gets its answers later. `dropped`: how "
    "many since the last of these events, which are logged once a minute for each client; the counter `queries_dropped` "
    "counts all of them. If the client should not ask that often, look at its program, or remove it from the broker's ACL.",
)
class QueriesDropped(LogEvent):
    client: str | None
    dropped: int


@_event(LogLevel.WARNING, peer("client"), "rejected a job", "The job was not stored. Its submitter got the reason.")
class JobRejected(LogEvent):
    client: str | None
    job: str | None
    type: str
    reason: str | None


@_event(
    LogLevel.WARNING,
    peer("client"),
    "refused access to a job",
    "Security: a client tried to cancel or to query a job that belongs to another client. Only the owner of a job and "
    "operators may. `client` is absent where the broker could not verify it.",
)
class AccessRefused(LogEvent):
    client: str | None
    job: str
    request: str


@_event(
    LogLevel.DEBUG,
    work(),
    "a job moved on",
    "One step in the life of a job: the same as on the topic `system/monitor`.",
)
class JobMoved(LogEvent):
    job: str
    type: str
    state: str
    attempt: int
    worker: str | None


@_event(
    LogLevel.INFO,
    work("worker"),
    "a job is tried again",
    "An attempt failed, or its worker was killed. The next attempt follows after the delay.",
)
class JobRetried(_AttemptOfJob):
    outcome: str
    reason: str | None
    delay_s: float


@_event(
    LogLevel.WARNING,
    work("worker"),
    "a job has failed",
    "The dispatcher gave the job up. It stays in the dead letter until an operator retries it.",
)
class JobFailed(_AttemptOfJob):
    outcome: str
    reason: str | None


@_event(
    LogLevel.INFO,
    work("worker"),
    "a job was given back",
    "Its worker drained, was not connected, or can't run the job. Another worker gets it; the attempt is not counted.",
)
class JobReleased(_AttemptOfJob):
    outcome: str
    reason: str | None


@_event(
    LogLevel.WARNING,
    peer("client"),
    "no worker runs this type",
    "Jobs of this type wait. The type may be misspelt, its handler may not be configured, or it may fail to load on every "
    "worker.",
)
class TypeUnserved(LogEvent):
    type: str
    client: str | None


@_event(
    LogLevel.WARNING,
    work("worker"),
    "a lease expired",
    "The worker no longer renews the lease: it is down or cut off. Another worker gets the job.",
)
class LeaseExpired(_AttemptOfJob):
    pass


@_event(
    LogLevel.WARNING,
    work("worker"),
    "a worker runs a job for too long",
    "The worker still claims to run the job after its time-out and `dispatcher.timeout_grace`. The dispatcher has ended the "
    "attempt as timed out, and has withdrawn the lease. Look at that worker: it does not end its jobs. Deny it if it is "
    "not yours.",
)
class AttemptOverrun(_AttemptOfJob):
    timeout_s: float
    ran_s: int


@_event(
    LogLevel.WARNING,
    peer("worker"),
    "a worker has jobs and does not start them",
    "The worker has waiting jobs, and has neither started nor reported any for longer than the jobs before them may run. "
    "These jobs go to other workers. Look at that worker; deny it if it is not yours.",
)
class WorkerStalled(LogEvent):
    worker: str
    leases: int
    stalled_s: int


@_event(
    LogLevel.WARNING,
    peer("worker"),
    "a worker gets far more jobs than others",
    "In a minute the worker got most jobs of a type, and for each slot over ten times as many as the other workers that got "
    "some. It may be a fast machine. Or it reports results without any work: check some results, and deny the worker if they "
    "are wrong. Logged once an hour for each worker.",
)
class WorkerTakesMost(LogEvent):
    worker: str
    type: str
    jobs: int
    others: int


@_event(
    LogLevel.WARNING,
    peer("worker"),
    "a worker claims more than it may",
    "The worker announced types or tags that `dispatcher.workers` does not allow it, or more slots. It gets only what is "
    "allowed. Change the configuration of the worker or of the dispatcher. Logged once an hour for each worker.",
)
class WorkerClaimsTooMuch(LogEvent):
    worker: str
    claims: str


@_event(
    LogLevel.INFO,
    work("worker"),
    "a lost lease was reclaimed",
    "The worker came back before another worker got the job. Its work is valid.",
)
class LeaseReclaimed(_AttemptOfJob):
    pass


@_event(
    LogLevel.WARNING,
    peer(),
    "rejects new jobs because the disk is nearly full",
    "The disk of the job store has less free space than `dispatcher.limits.free_space`. Stored jobs still run, and their "
    "results are kept. Make room on that disk; the dispatcher notices it by itself.",
)
class StoreSpaceShort(LogEvent):
    pass


@_event(
    LogLevel.ERROR,
    peer(),
    "stores nothing because the disk is full",
    "A commit to the job store could fail, so the dispatcher waits: it assigns no jobs, and refuses jobs and reports. Nothing "
    "is lost: workers keep their jobs and results. Make room on that disk; the dispatcher notices it by itself.",
)
class StoreDiskFull(LogEvent):
    pass


@_event(LogLevel.INFO, peer(), "works again with its store", "The disk of the job store has room again.")
class StoreDiskUsable(LogEvent):
    pass


@_event(LogLevel.INFO, peer(), "accepts new jobs again", "The disk of the job store has enough free space again.")
class StoreSpaceEnough(LogEvent):
    pass


@_event(LogLevel.INFO, peer(), "paused", "An operator paused a job type: no job of this type is dispatched.")
class TypePaused(LogEvent):
    type: str


@_event(LogLevel.INFO, peer(), "resumed", "An operator resumed a job type: its jobs are dispatched again.")
class TypeResumed(LogEvent):
    type: str


@_event(LogLevel.INFO, peer(), "drains a worker", "An operator drains a worker: it gets no new jobs.")
class WorkerDrained(LogEvent):
    worker: str


@_event(LogLevel.INFO, peer(), "undrained a worker", "An operator ended the drain of a worker: it gets jobs again.")
class WorkerUndrained(LogEvent):
    worker: str


@_event(
    LogLevel.INFO,
    peer("worker"),
    "refused a stale report",
    "A worker reported an attempt whose job another worker had got meanwhile. The job is not affected.",
)
class ReportStale(LogEvent):
    job: str
    worker: str
    outcome: str


@_event(LogLevel.INFO, peer("worker"), "a worker registered", "The worker can get jobs now.")
class WorkerSeen(LogEvent):
    worker: str
    slots: int
    version: str


@_event(
    LogLevel.WARNING,
    peer(),
    "workers have different market-data stores",
    "What one worker imports, the others do not have. `docs/market-data.md` describes both ways out.",
)
class MarketStoresDiffer(LogEvent):
    stores: int
    workers: str


@_event(LogLevel.WARNING, peer("worker"), "a worker is lost", "The worker sent nothing for `worker_timeout`.")
class WorkerLost(LogEvent):
    worker: str
    silent_s: int


@_event(
    LogLevel.WARNING,
    peer("worker"),
    "a worker was cut off",
    "The broker lost the worker's connection. The worker keeps its jobs until their leases expire, because it may come back.",
)
class WorkerDisconnected(LogEvent):
    worker: str
    leases: int


@_event(
    LogLevel.WARNING,
    peer("worker"),
    "denied a worker",
    "Security: the worker is in `dispatcher.denied_workers`. The dispatcher took its jobs back, and ignores its messages.",
)
class WorkerDenied(LogEvent):
    worker: str
    leases: int


@_event(
    LogLevel.WARNING,
    peer("worker"),
    "refused a denied worker",
    "Security: the worker still reaches the broker. Revoke its certificate, and restart the broker afterwards. Logged once "
    "an hour; the counter `messages_denied` counts every message.",
)
class WorkerRefused(LogEvent):
    worker: str
    message: str


@_event(
    LogLevel.INFO, peer("worker"), "admitted a worker again", "The worker was removed from `dispatcher.denied_workers`."
)
class WorkerAdmitted(LogEvent):
    worker: str


@_event(LogLevel.INFO, peer("worker"), "a worker left", "The worker was stopped, and has no lease any more.")
class WorkerLeft(LogEvent):
    worker: str
