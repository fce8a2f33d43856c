"""The catalogue of events for the journal: an id for each kind of message, and the explanations that `journalctl -x` shows.

The format is that of https://systemd.io/CATALOG/.
"""

from typing import Final
from uuid import UUID, uuid5

from stockworker.logs.events import Event

_NAMESPACE: Final = UUID("5f1f4ac6-7d0e-4f0a-9a57-0c6c2c6c6e0b")
"""Any, but the same for ever."""

_JOURNAL_NAMES: Final = {"job": "JOB_ID", "type": "JOB_TYPE", "worker": "WORKER_ID"}
"""Those fields of events that have a longer name where all the programs of a machine log."""

_HEADER: Final = """\
# What `journalctl -x` says about the messages of stockworker: made from the catalogue of its log events.
"""


def message_id(event: Event) -> str:
    """The MESSAGE_ID of an event: 32 hexadecimal digits, made from its name, and so as stable as that."""
    return uuid5(_NAMESPACE, event.name.lower()).hex


def journal_field(name: str) -> str:
    """What a field of an event is called in the journal."""
    return f"STOCKWORKER_{_JOURNAL_NAMES.get(name, name.upper())}"


def catalog() -> str:
    """The file `systemd/stockworker.catalog`."""
    return _HEADER + "".join(_entry(event) for event in Event)


def _entry(event: Event) -> str:
    description = event.value
    values = "".join(f"{name}: @{journal_field(name)}@\n" for name in description.fields)
    return (
        f"\n-- {message_id(event)}\n"
        f"Subject: stockworker: {description.text}\n"
        "Defined-By: stockworker\n"
        "Documentation: man:stockworker(1)\n"
        f"\n{description.meaning}\n" + (f"\n{values}" if values else "")
    )
