"""The exit statuses of every command: what scripts and systemd decide by."""

from enum import IntEnum
from typing import Final, Self

from stockworker.errors import (
    AccessDenied,
    CertificateRefused,
    ConfigError,
    ConnectionFailed,
    JobUnknown,
    StockworkerError,
    StoreError,
)


class UsageError(StockworkerError):
    """A command was called with what can't be used: an argument, a payload, a line of a batch."""

    code = "usage"


class Exit(IntEnum):
    """An exit status; from 64 on they are those of sysexits.h."""

    meaning: str

    OK = 0, "done"
    FAILED = 1, "a job has failed or was rejected, or a check has failed"
    USAGE = 2, "the command line, the payload or a line of the batch can't be used; nothing was sent"
    UNKNOWN = 3, "the dispatcher knows no such job"
    NOT_ENDED = 4, "a job has not ended, or not in time"
    UNAVAILABLE = 69, "the broker can't be reached, or no dispatcher answers"
    STORE = 74, "a store or journal file can't be used"
    DENIED = 77, "the broker refuses us, or does not let us do this"
    CONFIG = 78, "the configuration, or a file that it names, can't be used"
    INTERRUPTED = 130, "interrupted from the keyboard"
    OUTPUT_CLOSED = 141, "whoever read the output stopped reading"

    def __new__(cls, status: int, meaning: str) -> Self:
        """Make a member that is its status, and knows its meaning."""
        member = int.__new__(cls, status)
        member._value_ = status
        member.meaning = meaning
        return member


_BY_ERROR: Final[tuple[tuple[type[Exception], Exit], ...]] = (
    (UsageError, Exit.USAGE),
    (CertificateRefused, Exit.USAGE),
    (ConfigError, Exit.CONFIG),
    (AccessDenied, Exit.DENIED),
    (ConnectionFailed, Exit.UNAVAILABLE),
    (StoreError, Exit.STORE),
    (JobUnknown, Exit.UNKNOWN),
    (TimeoutError, Exit.NOT_ENDED),
)


def exit_of(error: Exception) -> Exit:
    """The status that a command ends with after this error."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), Exit.FAILED)
