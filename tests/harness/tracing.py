"""Stops the main thread of a process: its event loop hangs, its other threads continue."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long

# ptrace(2), from sys/ptrace.h; and waitpid(2)
_DETACH: Final = 17
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_WALL: Final = 0x40000000


@contextmanager
def main_thread_stopped(pid: int) -> Iterator[None]:
    """Stop the main thread while the context lasts. Enter and leave it in one thread: only that one is the tracer."""
    _ptrace(_SEIZE, pid)
    try:
        _ptrace(_INTERRUPT, pid)
        os.waitpid(pid, _WALL)  # waits for the stop; a wait for its exit must not receive this state
        yield
    finally:
        with suppress(ProcessLookupError):
            _ptrace(_DETACH, pid)


def _ptrace(request: int, pid: int) -> None:
    if _LIBC.ptrace(request, pid, None, None) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"ptrace of {pid}")
