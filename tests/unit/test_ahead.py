"""How many jobs a child gets ahead: none beside jobs that take long, and at first none at all."""

import pytest

from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker.ahead import JobLengths

TYPE, OTHER = JobType("short"), JobType("other")


def after(*ran_s: float | None) -> JobLengths:
    durations = JobLengths()
    durations.ended(TYPE, [AttemptResult(Token("t"), Outcome.OK, "1", ran_s=each) for each in ran_s])
    return durations


@pytest.mark.parametrize(
    ("ran_s", "most"), [(0.0, 32), (0.00002, 32), (0.0005, 3), (0.01, 1), (0.02, 1), (0.03, 0), (10.0, 0)]
)
def test_the_shorter_the_jobs_the_more_are_ahead(ran_s: float, most: int) -> None:
    assert after(*[ran_s] * 50).most_ahead(TYPE) == most


def test_the_first_jobs_of_a_type_are_not_ahead() -> None:
    assert after().most_ahead(TYPE) == 0
    assert after(*[0.0] * 7).most_ahead(TYPE) == 0
    assert after(*[0.0] * 8).most_ahead(TYPE) == 1
    assert after(*[0.0] * 50).most_ahead(OTHER) == 0


def test_an_attempt_of_unknown_length_is_a_short_one() -> None:
    assert after(*[None] * 50).most_ahead(TYPE) == 32


def test_one_long_job_keeps_others_from_being_ahead() -> None:
    assert after(*[0.0] * 50, 10.0).most_ahead(TYPE) == 0


def test_a_job_is_late_when_it_takes_much_longer_than_the_others() -> None:
    assert after().late_after_s(TYPE) == 0.005
    assert after(*[0.0] * 50).late_after_s(TYPE) == 0.005
    assert after(*[0.01] * 50).late_after_s(TYPE) == pytest.approx(0.03, rel=0.1)
