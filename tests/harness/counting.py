"""Counts the work of a call, where a test must show that work is bounded: the same on every machine, as no time is."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of Python run in a call, those of everything that it calls included."""
    lines = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    with without_collections():
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(before)
    return lines


@contextmanager
def without_collections() -> Iterator[None]:
    """Let the garbage collector wait: a callback of a library that watches it, such as Hypothesis, has lines too."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
