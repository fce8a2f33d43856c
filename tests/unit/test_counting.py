"""The count of lines is that of the call, whatever the tools of the tests do meanwhile."""

import gc
from typing import Any

from tests.harness.counting import lines_run


def make_lists() -> None:
    """Enough containers for several collections."""
    kept: list[list[int]] = [[] for _ in range(10_000)]
    kept.clear()


def watch(_phase: str, info: dict[str, Any]) -> None:
    info.clear()


def test_callbacks_of_the_garbage_collector_are_not_counted() -> None:
    alone = lines_run(make_lists)
    gc.callbacks.append(watch)
    try:
        assert lines_run(make_lists) == alone
    finally:
        gc.callbacks.remove(watch)
    assert gc.isenabled()
