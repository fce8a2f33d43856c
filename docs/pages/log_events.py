"""Generates from the catalogue of log events: the page `docs/logging.md`, and the explanations of `journalctl -x`.

The format of these explanations is that of https://systemd.io/CATALOG/.
"""

from typing import Final

from stockworker.logs.events import EVENTS, LogEvent
from stockworker.logs.journal_names import journal_field, message_id

_HEADER: Final = """\
# What `journalctl -x` shows for the messages of stockworker: generated from the catalogue of its log events.
"""


def reference() -> str:
    """The text of the page."""
    rows = (
        f"| `{event.name}` | {event.level.name.lower()} | {event.text} "
        f"| {', '.join(f'`{name}`' for name in event.field_names)} | {event.meaning} |\n"
        for event in EVENTS
    )
    return _INTRODUCTION + "".join(rows)


def catalog() -> str:
    """The file `systemd/stockworker.catalog`."""
    return _HEADER + "".join(_entry(event) for event in EVENTS)


def _entry(event: type[LogEvent]) -> str:
    values = "".join(f"{name}: @{journal_field(name)}@\n" for name in event.field_names)
    return (
        f"\n-- {message_id(event)}\n"
        f"Subject: stockworker: {event.text}\n"
        "Defined-By: stockworker\n"
        "Documentation: man:stockworker(1)\n"
        f"\n{event.meaning}\n" + (f"\n{values}" if values else "")
    )


_INTRODUCTION = """\
# Logging

Services that systemd starts log to the systemd journal: `journalctl -u 'stockworker@*'`. Elsewhere they log to standard
error. Each line carries its priority, so `journalctl -p warning` shows what may need attention. `log.level` sets the least
important level that is logged. `log.format` sets the form: `text` for people, `json` for programs.

In the systemd journal each event is an entry with its own fields (with `log.format: auto`; not with `text` or `json`).
Whatever a handler prints or logs is an entry with the fields of its job.

| Field | Holds |
|---|---|
| `STOCKWORKER_EVENT` | the name of the event: `journalctl STOCKWORKER_EVENT=job_failed` |
| `STOCKWORKER_JOB_ID`, `STOCKWORKER_JOB_TYPE`, `STOCKWORKER_ATTEMPT` | the fields `job`, `type` and `attempt` of the event |
| `STOCKWORKER_WORKER_ID` | the field `worker`; in entries of a worker always its own ID |
| `STOCKWORKER_REASON`, … | every other field of the event, in capital letters |
| `STOCKWORKER_LOGGER` | the part of the program |
| `MESSAGE_ID` | one ID per event; `journalctl -x` explains the event |

A JSON line is one object with `time` (UTC), `level`, `logger`, `event`, `text`, the fields of the event, and `exception`
where a traceback was logged. Lines from libraries have no `event`.

Other programs can cause most events as often as they like, so services limit their lines. Events about a peer have 50
lines a minute for each peer. Events about jobs have 600 for each job type on a worker, and for each worker on the
dispatcher. The last line has the field `muted_s`: for how many seconds the next ones are left out. When the minute is over,
`lines_left_out` has their number. All limited lines together are at most 4,000 a minute; beyond that, each peer still has
its first five. Nothing is limited at level `debug` except the more important events. The dispatcher's counters
(`stockworker stats`) count everything.

Payloads and results are never logged. Control characters in values are escaped, and values are cut at 2,000 characters.
The names of fields that hold seconds end in `_s`.

| Event | Level | Text | Fields | Meaning |
|---|---|---|---|---|
"""
