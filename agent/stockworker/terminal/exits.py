"""The exit statuses of all commands, for scripts and systemd."""

from enum import IntEnum
from typing import Final, Self

from stockworker.errors import (
    AccessDenied,
    CertificateRefused,
    ConfigError,
    ConnectionFailed,
    JobUnknown,
    ServiceFault,
    StockworkerError,
    StoreError,
    SymbolUnknown,
)


class UsageError(StockworkerError):
    """An argument, a payload or a line of a batch is not usable."""


class Exit(IntEnum):
    """An exit status; 64 to 78 are those of sysexits.h."""

    meaning: str

    OK = 0, "success"
    FAILED = 1, "a job failed or was rejected, or a check failed"
    USAGE = 2, "the command line, the payload or a line of the batch is invalid; nothing was sent"
    UNKNOWN = 3, "the job, worker or job type is unknown to the dispatcher, or the symbol to the market-data store"
    NOT_ENDED = 4, "a job has not ended, or not in time"
    UNAVAILABLE = 69, "the broker is unreachable, or no dispatcher answers"
    SOFTWARE = 70, "an internal error; the event `fault` in the log, or on standard error, has a traceback"
    OUTPUT_LOST = 73, "the command did its work, but could not write its output; `stockworker list` shows the jobs"
    STORE = 74, "a store or journal file is not usable"
    DENIED = 77, "the broker refuses the connection or denies this operation"
    CONFIG = 78, "the configuration, or a file that it names, is not usable"
    INTERRUPTED = 130, "interrupted from the keyboard (SIGINT)"
    OUTPUT_CLOSED = 141, "output pipe closed (SIGPIPE)"

    def __new__(cls, status: int, meaning: str) -> Self:
        """Make a member: an integer with a meaning."""
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
    (ServiceFault, Exit.SOFTWARE),
    (JobUnknown, Exit.UNKNOWN),
    (SymbolUnknown, Exit.UNKNOWN),
    (TimeoutError, Exit.NOT_ENDED),
)


def exit_of(error: Exception) -> Exit:
    """The exit status of a command after this error."""
    return next((status for kind, status in _BY_ERROR if isinstance(error, kind)), Exit.FAILED)
