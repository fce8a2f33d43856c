"""The catalogue of log events: what can be logged, at which level, with which fields.

Success is at debug where it would be a line per job on the busiest machine: `system/monitor` tells that story. What
an operator may have to act on is a warning; what has broken is an error.
"""

import logging
from dataclasses import dataclass
from enum import Enum, unique

DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


@dataclass(frozen=True, slots=True)
class Description:
    """An event as the catalogue has it.

    Attributes:
        level: of the `logging` module.
        text: the same words every time, so that they can be searched for.
        fields: what may come with it; a field that is None is left out.
        meaning: what happened and, where there is something to do, what to do.
    """

    level: int
    text: str
    fields: tuple[str, ...]
    meaning: str


@unique
class Event(Enum):
    """Every event; its name in lower case is the `event` of a JSON line."""

    # Both services.
    READY = Description(INFO, "ready", ("id", "version", "broker"), "The service is connected, and works.")
    LINK_UP = Description(INFO, "connected to the broker", ("broker",), "Jobs flow again.")
    LINK_DOWN = Description(
        WARNING,
        "lost the broker",
        ("broker", "reason", "retry_in_s"),
        "The connection broke or could not be made. Work goes on, results are kept, and it is tried again by itself.",
    )
    CONNECTION_DEAD = Description(
        WARNING,
        "gives up a connection",
        ("reason",),
        "It was there, but nothing came back any more: a network that forgets connections, a broker that hangs. The next one "
        "is made at once. The stacks of all tasks tell what waited for it.",
    )
    MESSAGE_REFUSED = Description(
        WARNING,
        "refused a message",
        ("topic", "reason", "count"),
        "Somebody sent what is no valid message, or what it may not send. It was dropped. `count`: how many a worker has "
        "refused since it was started; a dispatcher's are in `stockworker stats`.",
    )
    PUBLISH_REFUSED = Description(
        WARNING,
        "the broker refused a message of ours",
        ("topic", "reason"),
        "Most often the ACL denies it: compare the broker's ACL file with the shipped one, and the name of our certificate.",
    )
    CONFIG_RELOADED = Description(INFO, "reloaded the configuration", (), "The new configuration is in force.")
    CONFIG_REFUSED = Description(
        ERROR,
        "the new configuration is refused",
        ("problem",),
        "A reload found errors; the old configuration stays in force. `stockworker check` lists them.",
    )
    CONFIG_UNWISE = Description(
        WARNING, "the configuration is unwise", ("problem",), "It works, and should be changed all the same."
    )
    IDENTITY_DIFFERS = Description(
        WARNING,
        "our certificate is somebody else's",
        ("problem",),
        "The broker knows us by the name in our certificate, and denies us the topics of our id. Set the id to that name, "
        "or install the right certificate.",
    )
    CERTIFICATE_EXPIRES = Description(
        WARNING,
        "our certificate expires soon",
        ("file", "until", "days"),
        "Once a day from 30 days before; an error in the last three. Renew it: after its end the broker lets us in no more. "
        "docs/pki.md says how.",
    )
    STOPPING = Description(INFO, "stopping", ("reason",), "The service was asked to end.")
    NO_PROGRESS = Description(
        ERROR,
        "makes no progress",
        ("problem",),
        "Something has been late for most of `WatchdogSec=`, and systemd is told to end the service; the stacks of all tasks "
        "and threads then stand in the journal. It is started anew, and nothing is lost. Look at the disk where it is a "
        "commit that is late; otherwise please report it.",
    )
    STORE_FAILED = Description(
        ERROR,
        "can't go on without its store",
        ("problem",),
        "A commit has failed: the disk is full or broken, or another process holds a lock for more than 10 s. The service is "
        "started anew, from what is on disk; nothing that was not committed has been done.",
    )
    PROGRESS_AGAIN = Description(INFO, "makes progress again", (), "What was late has been done.")
    FAULT = Description(
        ERROR,
        "internal error",
        ("where",),
        "A defect of stockworker, with its traceback. The service goes on, or is restarted by systemd. Please report it.",
    )

    # The dispatcher.
    BROKER_DELAYS = Description(
        WARNING,
        "the broker answers late",
        ("broker", "round_trip_s", "network_s"),
        "The network is fast, but each answer takes as long as a kernel saves up small packets for (Nagle's algorithm), and "
        "so does every step of every job. Set `set_tcp_nodelay true` in the broker's configuration, as the shipped template "
        "does, and restart it.",
    )
    JOB_REJECTED = Description(
        WARNING, "rejected a job", ("job", "type", "reason"), "It was not stored; its submitter was told why."
    )
    JOB_MOVED = Description(
        DEBUG,
        "a job moved on",
        ("job", "type", "state", "attempt", "worker"),
        "One step in the life of a job: the same as on the topic `system/monitor`.",
    )
    JOB_RETRIED = Description(
        INFO,
        "a job is tried again",
        ("job", "type", "attempt", "worker", "outcome", "reason", "delay_s"),
        "An attempt failed, or its worker was killed; the next one follows after the delay.",
    )
    JOB_FAILED = Description(
        WARNING,
        "a job has failed",
        ("job", "type", "attempt", "worker", "outcome", "reason"),
        "It is given up, and stays in the dead letter until somebody retries it.",
    )
    JOB_RELEASED = Description(
        INFO,
        "a job was given back",
        ("job", "type", "attempt", "worker", "outcome", "reason"),
        "Its worker drained, was not connected, or can't run it. It goes to another one; the attempt does not count.",
    )
    TYPE_UNSERVED = Description(
        WARNING,
        "no worker runs this type",
        ("type",),
        "Its jobs wait. Is the type misspelt, or its handler not configured, or does it fail to load on every worker?",
    )
    LEASE_EXPIRED = Description(
        WARNING,
        "a lease ran out",
        ("job", "type", "attempt", "worker"),
        "The worker no longer renews it: it is down or cut off. The job goes to another one.",
    )
    LEASE_RECLAIMED = Description(
        INFO,
        "a lost lease is taken up again",
        ("job", "type", "attempt", "worker"),
        "The worker came back before anybody else was given the job: its work counts.",
    )
    HELD = Description(INFO, "kept from work", ("kind", "name"), "An operator paused a job type, or drains a worker.")
    FREED = Description(INFO, "let to work again", ("kind", "name"), "An operator ended a pause or a drain.")
    REPORT_STALE = Description(
        INFO,
        "refused a stale report",
        ("job", "worker", "outcome"),
        "A worker reported an attempt that had been given to another one meanwhile. The job is not affected.",
    )
    WORKER_SEEN = Description(INFO, "a worker registered", ("worker", "slots", "version"), "It can get jobs now.")
    WORKER_LOST = Description(
        WARNING, "a worker is lost", ("worker", "silent_s"), "It gave no sign of life for `worker_timeout`."
    )

    WORKER_DISCONNECTED = Description(
        WARNING,
        "a worker was cut off",
        ("worker", "leases"),
        "The broker lost its connection. It may come back: its jobs stay with it until their leases run out.",
    )
    WORKER_DENIED = Description(
        WARNING,
        "denied a worker",
        ("worker", "leases"),
        "Security: it is on `dispatcher.denied_workers`. Its jobs were taken back, and nothing that it says counts.",
    )
    WORKER_REFUSED = Description(
        WARNING,
        "refused a denied worker",
        ("worker", "message"),
        "Security: it still talks to the broker. Has its certificate been revoked, and the broker been restarted since? "
        "Said once an hour; the counter `messages_denied` has them all.",
    )
    WORKER_ADMITTED = Description(
        INFO, "admitted a worker again", ("worker",), "It was taken off `dispatcher.denied_workers`."
    )
    WORKER_LEFT = Description(INFO, "a worker left", ("worker",), "It was stopped, and holds no job any more.")

    # The agent.
    CONFINED = Description(
        INFO,
        "confines jobs",
        ("by", "controllers", "reason"),
        "`by` is `control groups`, where all that a job has started ends with it, and `controllers` says what can be limited "
        "for a whole job; or `process groups`, which a process can leave, and `reason` says why. See docs/packages.md.",
    )
    LIMIT_UNENFORCED = Description(
        WARNING,
        "a limit is not enforced here",
        ("type", "limit", "reason"),
        "It is configured, and this machine can't hold jobs to it.",
    )
    JOB_STARTED = Description(DEBUG, "started a job", ("job", "type", "attempt"), "A handler process works on it.")
    ATTEMPT_COMPLETED = Description(
        INFO, "finished a job", ("job", "type", "attempt", "ran_s"), "The result is in the journal, and is reported."
    )
    ATTEMPT_FAILED = Description(
        WARNING,
        "an attempt failed",
        ("job", "type", "attempt", "outcome", "reason", "ran_s"),
        "The handler raised an error, ran out of time or crashed. The dispatcher decides whether it is tried again.",
    )
    HANDLER_LOG = Description(
        INFO, "handler", ("job", "type", "attempt", "message"), "What a handler logged, at the level that it chose."
    )
    PAYLOAD_REFUSED = Description(
        WARNING,
        "refused a payload",
        ("job", "type", "reason", "problem", "count"),
        "Security: it was not run. Reasons: `plain` where sealed ones are required, `unsigned`, `untrusted` (its submitter "
        "is not in the keyring), `forged` (a wrong signature), `not_allowed`, `moved` (sealed for another job), `expired`, "
        "`damaged`, `no_key` (another worker may have it). `count` is how many since the start. See docs/encryption.md.",
    )
    REFUSED_BY_DISPATCHER = Description(
        ERROR,
        "the dispatcher refused a message of ours",
        ("reason",),
        "The reason says why: this worker is denied, or the versions are too far apart.",
    )
    LEASE_WITHDRAWN = Description(
        INFO,
        "a lease was withdrawn",
        ("job", "type"),
        "The job was cancelled, or given to another worker while this one was cut off. It is stopped here.",
    )
    JOURNAL_QUARANTINED = Description(
        ERROR,
        "began a new journal: the old one is damaged",
        ("journal", "kept", "reason"),
        "The jobs that it held are given out again, and results that it had not reported are computed again. The damaged "
        "file is kept beside it: look at the disk, then delete it.",
    )
    RESULT_EVICTED = Description(
        WARNING,
        "evicted a result for want of space",
        ("job", "type", "attempt", "bytes"),
        "Results that could not be reported are more than `worker.journal_quota`. The job is reported as failed for this, "
        "and is tried again while it has attempts left. For longer outages give the journal more room.",
    )
    SPACE_SHORT = Description(
        WARNING,
        "takes no new jobs for want of space",
        ("reason", "kept_bytes"),
        "Results wait to be reported, or the disk of the journal fills up. What is held is still worked on.",
    )
    SPACE_ENOUGH = Description(INFO, "takes new jobs again", ("kept_bytes",), "There is room for results again.")
    DRAIN_STARTED = Description(INFO, "draining", ("running",), "No new jobs are taken; running ones are finished.")
    DRAINED = Description(INFO, "drained", (), "No job runs here any more.")


def log_event(
    logger: logging.Logger,
    event: Event,
    *,
    level: int | None = None,
    exc_info: BaseException | None = None,
    stack: str | None = None,
    **fields: object,
) -> None:
    """Log one event of the catalogue.

    Args:
        logger: of the module that calls.
        event: what happened.
        level: instead of the event's own, for `Event.HANDLER_LOG`.
        exc_info: an exception whose traceback is to be shown.
        stack: lines of a stack that is to be shown.
        fields: those that the catalogue lists for the event; None leaves one out.
    """
    description = event.value
    if logger.isEnabledFor(level := level or description.level):
        logger.log(level, description.text, exc_info=exc_info, extra={"event": event, "fields": fields, "stack": stack})


def reference() -> str:
    """The page `docs/logging.md`."""
    rows = (
        f"| `{event.name.lower()}` | {logging.getLevelName(event.value.level).lower()} | {event.value.text} "
        f"| {', '.join(f'`{field}`' for field in event.value.fields)} | {event.value.meaning} |\n"
        for event in Event
    )
    return _INTRODUCTION + "".join(rows)


_INTRODUCTION = """\
# Logging

The services log to the journal where systemd has started them, and to standard error elsewhere: `journalctl -u
'stockworker@*'`. Lines carry their priority, so `journalctl -p warning` shows what may need attention. `log.level` sets
the least important level that is logged, `log.format` the form: text for people, `json` for programs.

In the journal each event is an entry with fields of its own (`log.format: auto`; not with `text` or `json`). Whatever a
handler prints or logs stands there under its job.

| Field | Holds |
|---|---|
| `STOCKWORKER_EVENT` | the name of the event: `journalctl STOCKWORKER_EVENT=job_failed` |
| `STOCKWORKER_JOB_ID`, `STOCKWORKER_JOB_TYPE`, `STOCKWORKER_ATTEMPT` | the field `job`, `type`, `attempt` of the event |
| `STOCKWORKER_WORKER_ID` | the field `worker`; what a worker logs always has its own |
| `STOCKWORKER_REASON`, … | likewise every other field of the event, in capital letters |
| `STOCKWORKER_LOGGER` | which part of the program |
| `MESSAGE_ID` | one per event; `journalctl -x` explains it |

A JSON line is one object with `time` (UTC), `level`, `logger`, `event`, `text`, the fields of the event, and `exception`
where there is a traceback. Of refusals that others can bring about, 50 a minute are logged of a kind: the last of them
says for how long the others are not (`muted_s`), the next one how many there were (`unlogged`); the dispatcher's
counters (`stockworker stats`) have them all. Lines from libraries have no `event`. Payloads and results are never logged; control
characters in values are escaped, and values are cut at 2,000 characters. Names of fields that end in `_s` are seconds.

| Event | Level | Text | Fields | Meaning |
|---|---|---|---|---|
"""
