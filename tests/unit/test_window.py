"""How many leases a worker wants: none to wait beside long jobs, many beside very short ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.protocol.body import MAX_LEASES
from stockworker.worker.window import LeaseWindow


def test_at_first_a_worker_wants_what_it_can_run() -> None:
    assert LeaseWindow().window(4) == 4


@pytest.mark.parametrize(
    ("ran_s", "window"), [(3600, 4), (0.3, 4), (0.02, 12), (0.01, 20), (0.001, 132), (0.0, 260), (1e-9, 260)]
)
def test_the_shorter_the_jobs_the_wider_the_window(ran_s: float, window: int) -> None:
    lease_window = LeaseWindow()
    lease_window.ended(ran_s)
    assert lease_window.window(4) == window


def test_one_odd_job_changes_little() -> None:
    lease_window = LeaseWindow()
    for _ in range(100):
        lease_window.ended(10.0)
    lease_window.ended(0.0)
    assert lease_window.window(4) == 4


def test_the_window_follows_when_jobs_change() -> None:
    lease_window = LeaseWindow()
    lease_window.ended(0.001)
    for _ in range(20):
        lease_window.ended(10.0)
    assert lease_window.window(4) == 4


@given(st.lists(st.floats(0, 1e9), max_size=20), st.integers(1, 1024))
def test_the_window_is_never_less_than_the_slots_nor_far_more(durations: list[float], slots: int) -> None:
    lease_window = LeaseWindow()
    for ran_s in durations:
        lease_window.ended(ran_s)
    assert slots <= lease_window.window(slots) <= slots + 256


def test_a_window_is_never_more_than_a_request_can_name() -> None:
    lease_window = LeaseWindow()
    lease_window.ended(0.0)
    assert lease_window.window(900) == MAX_LEASES
    assert lease_window.window(MAX_LEASES) == MAX_LEASES
