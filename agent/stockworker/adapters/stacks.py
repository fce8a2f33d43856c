"""Stacks of what waits: of a service that hangs they tell where."""

import asyncio
import traceback
from collections.abc import Iterator
from types import FrameType


def stack_of_tasks() -> str:
    """Where each task of the running event loop waits, its innermost call last.

    The stack of the loop's thread does not tell: all that waits in it is the loop itself.
    """
    tasks = sorted(asyncio.all_tasks(), key=asyncio.Task.get_name)
    return "".join(f"Task {task.get_name()}:\n{''.join(_stack_of(task).format())}" for task in tasks)


def _stack_of(task: "asyncio.Task[object]") -> traceback.StackSummary:
    return traceback.StackSummary.extract((frame, frame.f_lineno) for frame in _frames(task))


def _frames(task: "asyncio.Task[object]") -> Iterator[FrameType]:
    awaited: object = task.get_coro()
    # A task may wait for what is no coroutine, a future in the end: it has no frame.
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        yield frame
        awaited = getattr(awaited, "cr_await", None)
