"""Which services hang, by their deadlines."""

import pytest

from stockworker.adapters.deadlines import Deadline, overdue

COMMIT = Deadline("a commit", 100.0)


@pytest.mark.parametrize(
    ("deadlines", "now", "expected"),
    [
        pytest.param((), 1e9, None, id="nothing to do"),
        pytest.param((COMMIT,), 99.0, None, id="not due yet"),
        pytest.param((COMMIT,), 130.0, None, id="late, and no later than allowed"),
        pytest.param((COMMIT,), 130.5, "a commit is 30 s late", id="too late"),
        pytest.param((Deadline("a turn", 110.0), COMMIT), 150.0, "a commit is 50 s late", id="the latest of two"),
        pytest.param((Deadline("a turn", 149.0), COMMIT), 150.0, "a commit is 50 s late", id="one of two"),
    ],
)
def test_only_what_is_late_for_too_long_is_overdue(
    deadlines: tuple[Deadline, ...], now: float, expected: str | None
) -> None:
    assert overdue(deadlines, 30.0, now) == expected
