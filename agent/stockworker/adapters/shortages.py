"""Errors of a machine that is short of descriptors, processes or memory for a moment."""

import errno
import os
from typing import Final

_NUMBERS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
_TEXTS: Final = (*map(os.strerror, sorted(_NUMBERS)), "Cannot fork", "MemoryError")


def is_shortage(error: BaseException) -> bool:
    """Whether an error only means that something was short: the same can succeed a moment later."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _NUMBERS)


def names_shortage(output: str) -> bool:
    """Whether a program that could not start has printed such an error, as a shell or Python writes it."""
    return any(text in output for text in _TEXTS)
