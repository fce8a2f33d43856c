"""What a fault has done to a steady load: the arithmetic of `make bench-faults`."""

from pathlib import Path

import pytest

from bench import scoring
from bench.apps.driving import schedule
from bench.scoring import Load, recovered_s, rolling, score

TEN_EACH_SECOND = schedule([(10.0, 12.0)])


def load(slow: tuple[float, float], delay_s: float = 3.0, *, lost: int = 0, executions: int = 120) -> Load:
    """Ten jobs a second for 12 s, with a fault from 4 s to 6 s; jobs due in `slow` take much longer than the others."""
    ended = [due + (delay_s if slow[0] <= due < slow[1] else 0.01) for due in TEN_EACH_SECOND]
    return Load(TEN_EACH_SECOND, [*ended[: 120 - lost], *[None] * lost], (4.0, 6.0), 12.0, executions)


def test_a_schedule_has_each_segment_at_its_rate() -> None:
    assert schedule([(2.0, 1.0), (4.0, 1.0)]) == pytest.approx([0.0, 0.5, 1.0, 1.25, 1.5, 1.75])


def test_a_fault_without_effect_has_the_score_1() -> None:
    found = score(load(slow=(0.0, 0.0)))
    assert (found.rate_before, found.recovery, found.during) == pytest.approx((10.0, 1.0, 1.0), rel=0.1)
    assert (found.recovered_s, found.lost, found.twice) == (0.0, 0, 0)


def test_jobs_that_wait_for_the_end_of_a_fault_count_from_when_they_were_due() -> None:
    found = score(load(slow=(4.0, 6.0)))
    assert found.during == 0.0
    assert found.recovery == pytest.approx(1.33, rel=0.1)  # they are done later, beside the others
    assert (found.p99_before_ms, found.p99_during_ms, found.p99_after_ms) == pytest.approx((10.0, 3000.0, 10.0))


def test_recovery_is_when_latency_stays_normal() -> None:
    assert recovered_s(load(slow=(4.0, 8.0)), 0.01) == 2.0


def test_a_queue_that_stays_slow_has_not_recovered() -> None:
    assert recovered_s(load(slow=(4.0, 12.0)), 0.01) is None


def test_lost_jobs_and_second_executions_are_counted() -> None:
    found = score(load(slow=(0.0, 0.0), lost=5, executions=118), {"kills": 3})
    assert (found.lost, found.twice, found.notes) == (5, 3, {"kills": 3})


def test_a_lost_job_has_waited_until_the_end() -> None:
    ended, p99_s = rolling(load(slow=(0.0, 0.0), lost=10))[11]
    assert ended == 0
    assert p99_s == pytest.approx(1.0)


def test_scores_survive_a_file(tmp_path: Path) -> None:
    scores = {"broker down": {"nats": [score(load(slow=(4.0, 6.0)))]}}
    scoring.save(scores, {"Commit": "abc"}, tmp_path / "faults.json")
    assert scoring.load_scores(tmp_path / "faults.json") == scores


def test_the_table_has_a_row_for_each_queue() -> None:
    scores = {"broker down": {"nats": [score(load(slow=(4.0, 12.0)), {"kills": 2})] * 2}}
    (row,) = scoring.table(scores, {"nats": "NATS"}).splitlines()[2:]
    assert row.startswith("| broker down | NATS | **")
    assert row.endswith("| not | 0 | 0 | kills 2.0 |")
