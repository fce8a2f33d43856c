"""SIGHUP while a program starts: a service must not end by it, and reloads its configuration as soon as it can."""

# The default of SIGHUP ends a process. A service replaces it when it is ready for a reload, which may be seconds after its
# start: it reads all of its files first. A command keeps the default, because its terminal may have gone.

import signal
from contextlib import suppress
from types import FrameType

_arrived: list[int] = []


def defer() -> None:
    """Only remember SIGHUP, until `release`, or until a service handles it."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGHUP, _remember)


def release() -> None:
    """Restore the default, and end by a signal that has arrived."""
    if signal.getsignal(signal.SIGHUP) is _remember:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if has_arrived():
            signal.raise_signal(signal.SIGHUP)


def has_arrived() -> bool:
    """Whether SIGHUP has arrived."""
    return bool(_arrived)


def _remember(number: int, _frame: FrameType | None) -> None:
    _arrived.append(number)
