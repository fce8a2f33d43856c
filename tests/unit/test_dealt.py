"""Which workers get remarkably many jobs: far more than the others for each slot, and most of all."""

from collections.abc import Mapping

import pytest

from stockworker.dispatcher.assignment import Worker
from stockworker.dispatcher.dealt import Dealt
from stockworker.logs.events import WorkerTakesMost
from stockworker.protocol.ids import WorkerId
from stockworker.shell.turn import Now
from tests.harness.dispatching import BACKTEST, IMPORT, W1, W2, W3

ROGUE = WorkerId("rogue")
SLOTS = {W1: 5, W2: 5, W3: 5, ROGUE: 64}
WORKERS = [
    Worker(worker_id, "boot", slots, slots, frozenset([BACKTEST, IMPORT]), frozenset(), "1", seen=0.0)
    for worker_id, slots in SLOTS.items()
]


def remarkable(dealt: Dealt, counts: Mapping[WorkerId, int], steady: float) -> list[WorkerTakesMost]:
    """A minute in which each worker gets this many jobs, and which ends at this time."""
    for worker_id, count in counts.items():
        for _ in range(count):
            dealt.count(worker_id, BACKTEST)
    return list(dealt.remarkable(WORKERS, Now(steady, 0.0)))


def test_a_worker_that_returns_jobs_immediately_is_named() -> None:
    found = remarkable(Dealt(), {W1: 15, W2: 15, W3: 15, ROGUE: 2955}, 60.0)
    assert found == [WorkerTakesMost(worker=ROGUE, type=BACKTEST, jobs=2955, others=45)]


@pytest.mark.parametrize(
    "counts",
    [
        {W1: 1000, W2: 1000, W3: 1000, ROGUE: 1000},  # they take turns
        {W1: 100, W2: 100, W3: 100, ROGUE: 3840},  # as fast as the others, with more slots
        {W1: 300, W2: 100, W3: 100, ROGUE: 10},  # a fast machine
        {ROGUE: 5000},  # no other worker got any
        {W1: 19, ROGUE: 5000},  # hardly any
        {W1: 20, ROGUE: 499},  # few jobs
        {W1: 20, W2: 499},
    ],
)
def test_all_else_is_usual(counts: Mapping[WorkerId, int]) -> None:
    assert remarkable(Dealt(), counts, 60.0) == []


def test_each_minute_is_counted_alone_and_a_worker_is_named_once_an_hour() -> None:
    dealt = Dealt()
    assert remarkable(dealt, {}, 0.0) == []
    assert remarkable(dealt, {W1: 20, ROGUE: 3000}, 59.0) == []
    assert len(remarkable(dealt, {}, 60.0)) == 1
    assert remarkable(dealt, {W1: 20, ROGUE: 300}, 120.0) == []
    assert remarkable(dealt, {W1: 20, ROGUE: 3000}, 180.0) == []
    assert len(remarkable(dealt, {W1: 20, ROGUE: 3000}, 3661.0)) == 1
