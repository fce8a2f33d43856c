"""Formats the stack of every asyncio task, to show where a hung service waits."""

import asyncio
import traceback
from collections.abc import Iterator
from types import FrameType


def stack_of_tasks() -> str:
    """The stack of each task of the running event loop, its innermost call last.

    The stack of the loop's thread shows only the loop itself.
    """
    tasks = sorted(asyncio.all_tasks(), key=asyncio.Task.get_name)
    return "".join(f"Task {task.get_name()}:\n{''.join(_stack_of(task).format())}" for task in tasks)


def _stack_of(task: "asyncio.Task[object]") -> traceback.StackSummary:
    return traceback.StackSummary.extract((frame, frame.f_lineno) for frame in _frames(task))


def _frames(task: "asyncio.Task[object]") -> Iterator[FrameType]:
    waits_for: object = task.get_coro()
    # In the end, a task waits for a future, which has no frame.
    while (frame := getattr(waits_for, "cr_frame", None)) is not None:
        yield frame
        waits_for = getattr(waits_for, "cr_await", None)
