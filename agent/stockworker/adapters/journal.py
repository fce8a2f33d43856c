"""Log records as entries of systemd's journal, with fields to search by: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.

journalctl STOCKWORKER_JOB_ID=backtest-7
"""

import errno
import fcntl
import logging
import os
import socket
import struct
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from stockworker.logs.journal_names import journal_field, message_id
from stockworker.logs.lines import MAX_VALUE_CHARACTERS, bare_line, priority

JOURNAL: Final = Path("/run/systemd/journal/socket")

_TOO_LARGE: Final = {errno.EMSGSIZE, errno.ENOBUFS}

# linux/fcntl.h; the module `fcntl` has them from Python 3.12 on.
_ADD_SEALS: Final = 1033
_SEALED: Final = 0x0001 | 0x0002 | 0x0004 | 0x0008
"""Against more seals, shrinking, growing and writing: the journal accepts no other."""


class JournalHandler(logging.Handler):
    """Sends each record to the journal.

    Args:
        fixed: fields of every entry, by the names of fields of events.
        fallback: gets the records that the journal does not accept, for example before it has started.
        path: the journal's socket.
    """

    def __init__(self, fixed: Mapping[str, object], fallback: logging.Handler, path: Path = JOURNAL) -> None:
        super().__init__()
        self._fixed = fixed
        self._fallback = fallback
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record, or pass it to the fallback."""
        try:
            self._send(encode(fields(record, self._fixed)))
        except OSError:
            self._fallback.handle(record)
        except Exception:  # noqa: BLE001 (as every handler of `logging` does: a lost line must not end the service)
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _send(self, entry: bytes) -> None:
        # Not connected, so that entries reach a restarted journal too.
        try:
            self._socket.sendto(entry, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_as_file(entry)

    def _send_as_file(self, entry: bytes) -> None:
        file = os.memfd_create("stockworker-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(file), "wb") as writer:
                writer.write(entry)
            fcntl.fcntl(file, _ADD_SEALS, _SEALED)
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [file]))]
            self._socket.sendmsg([], passed, 0, self._path)
        finally:
            os.close(file)


def fields(record: logging.LogRecord, fixed: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    """The fields of the journal's entry for a record; the record's own fields override those in `fixed`."""
    yield "MESSAGE", bare_line(record)
    yield "PRIORITY", str(priority(record.levelno))
    yield "SYSLOG_IDENTIFIER", "stockworker"
    yield "STOCKWORKER_LOGGER", record.name
    event = record.__dict__.get("event")
    if event is not None:
        yield "MESSAGE_ID", message_id(type(event))
        yield "STOCKWORKER_EVENT", event.name
    own: Mapping[str, object] = record.__dict__.get("fields", {})
    for name, value in {**fixed, **own}.items():
        if value is not None:
            yield journal_field(name), str(value)[:MAX_VALUE_CHARACTERS]


def encode(entry: Iterable[tuple[str, str]]) -> bytes:
    """An entry in the format of the journal. The length precedes each value, so no value can imitate another field."""
    encoded = ((name.encode(), value.encode(errors="replace")) for name, value in entry)
    return b"".join(b"%b\n%b%b\n" % (name, struct.pack("<Q", len(value)), value) for name, value in encoded)
