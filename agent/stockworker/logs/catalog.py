"""The catalogue of events for the systemd journal: an ID per event, and the explanations that `journalctl -x` shows.

The format is that of https://systemd.io/CATALOG/.
"""

from typing import Final
from uuid import UUID, uuid5

from stockworker.logs.events import EVENTS, LogEvent

_NAMESPACE: Final = UUID("5f1f4ac6-7d0e-4f0a-9a57-0c6c2c6c6e0b")
"""An arbitrary UUID that never changes."""

_JOURNAL_NAMES: Final = {"job": "JOB_ID", "type": "JOB_TYPE", "worker": "WORKER_ID"}
"""Longer names for fields of events, because all programs of a machine share the systemd journal."""

_HEADER: Final = """\
# What `journalctl -x` shows for the messages of stockworker: generated from the catalogue of its log events.
"""


def message_id(event: type[LogEvent]) -> str:
    """The MESSAGE_ID of an event: 32 hexadecimal digits, derived from its name."""
    return uuid5(_NAMESPACE, event.name).hex


def journal_field(name: str) -> str:
    """The name of an event's field in the systemd journal."""
    return f"STOCKWORKER_{_JOURNAL_NAMES.get(name, name.upper())}"


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
