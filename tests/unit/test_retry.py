"""The back-off: doubling, bounded, never zero, never the same for all jobs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.protocol.retry import RetryPolicy
from tests.harness.entropy import Fixed, seeded

POLICY = RetryPolicy(max_attempts=5, backoff_s=10, backoff_max_s=100)


@pytest.mark.parametrize(
    ("failures", "shortest", "longest"), [(1, 5, 10), (2, 10, 20), (3, 20, 40), (4, 40, 80), (5, 50, 100), (9, 50, 100)]
)
def test_the_delay_doubles_up_to_its_maximum(failures: int, shortest: float, longest: float) -> None:
    assert POLICY.delay_s(failures, Fixed(0.0)) == shortest
    assert POLICY.delay_s(failures, Fixed(1.0)) == longest


def test_no_number_of_failures_overflows() -> None:
    assert POLICY.delay_s(10_000_000, Fixed(1.0)) == 100


def test_jobs_that_failed_together_come_back_apart() -> None:
    entropy = seeded(1)
    assert len({POLICY.delay_s(1, entropy) for _ in range(100)}) == 100


def test_without_a_backoff_a_job_comes_back_at_once() -> None:
    assert RetryPolicy(3, 0.0, 100).delay_s(2, Fixed(0.9)) == 0


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 1 << 40), st.floats(0, 1, exclude_max=True))
def test_the_delay_stays_within_its_bounds(backoff_s: float, maximum_s: float, failures: int, chance: float) -> None:
    assert 0 <= RetryPolicy(3, backoff_s, maximum_s).delay_s(failures, Fixed(chance)) <= maximum_s
