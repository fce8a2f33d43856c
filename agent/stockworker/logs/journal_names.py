"""What an event and its fields are called in the systemd journal."""

from typing import Final
from uuid import UUID, uuid5

from stockworker.logs.events import LogEvent

_NAMESPACE: Final = UUID("5f1f4ac6-7d0e-4f0a-9a57-0c6c2c6c6e0b")
"""An arbitrary UUID that never changes."""

_JOURNAL_NAMES: Final = {"job": "JOB_ID", "type": "JOB_TYPE", "worker": "WORKER_ID"}
"""Longer names for fields of events, because all programs of a machine share the systemd journal."""


def message_id(event: type[LogEvent]) -> str:
    """The MESSAGE_ID of an event: 32 hexadecimal digits, derived from its name."""
    return uuid5(_NAMESPACE, event.name).hex


def journal_field(name: str) -> str:
    """The name of an event's field in the systemd journal."""
    return f"STOCKWORKER_{_JOURNAL_NAMES.get(name, name.upper())}"
