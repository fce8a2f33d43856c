"""`blame` decides which job of a process is to blame for its end."""

from collections.abc import Mapping

import pytest

from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import Token
from stockworker.protocol.job import Outcome
from stockworker.worker.blame import Killed, after_death, after_kill
from stockworker.worker.work import Blocked

A, B, C = Token("a"), Token("b"), Token("c")
ALL = (A, B, C)
OUT_OF_TIME = AttemptResult(A, Outcome.TIMED_OUT, error="not done after 1 s; killed")
CANCELLED = AttemptResult(B, Outcome.CANCELLED, error="stopped on request")
CRASHED = AttemptResult(A, Outcome.CRASHED, error="the process was killed by SIGSEGV\nlast words")


def outcomes(results: list[AttemptResult]) -> Mapping[Token, Outcome]:
    assert all(result.error for result in results)
    return {result.token: result.outcome for result in results}


def test_one_job_is_to_blame_for_the_death_of_its_process() -> None:
    assert after_death([B], {}, CRASHED) == [AttemptResult(B, Outcome.CRASHED, error=CRASHED.error)]
    assert after_death([B], {B: CANCELLED}, CRASHED) == [CANCELLED]


def test_several_jobs_share_the_blame_for_a_death() -> None:
    results = after_death(ALL, {B: CANCELLED, A: OUT_OF_TIME}, CRASHED)
    assert outcomes(results) == {A: Outcome.LOST, B: Outcome.CANCELLED, C: Outcome.LOST}
    assert results[2].error == (
        "one of 3 jobs in the same process has ended it, it is not known which: the process was killed by SIGSEGV\nlast words"
    )


@pytest.mark.parametrize("outcome", [Outcome.RELEASED, Outcome.REFUSED])
def test_nobody_is_to_blame_for_a_process_that_could_not_start(outcome: Outcome) -> None:
    death = AttemptResult(A, outcome, error="no process for handlers can be started here")
    assert outcomes(after_death(ALL, {}, death)) == dict.fromkeys(ALL, outcome)


def test_a_job_that_does_not_stop_has_its_own_outcome_and_the_others_none() -> None:
    killed = Killed(OUT_OF_TIME, listened=True, blocked=None)
    stopped = {A: OUT_OF_TIME, B: CANCELLED}
    expected = {A: Outcome.TIMED_OUT, B: Outcome.CANCELLED, C: Outcome.RELEASED}
    assert outcomes(after_kill(ALL, stopped, killed)) == expected


def test_who_blocks_is_to_blame_and_not_who_could_not_stop() -> None:
    killed = Killed(OUT_OF_TIME, listened=False, blocked=Blocked(C, "/opt/jobs/x.py:7 in handle"))
    results = after_kill(ALL, {A: OUT_OF_TIME, B: CANCELLED}, killed)
    assert outcomes(results) == {A: Outcome.RELEASED, B: Outcome.CANCELLED, C: Outcome.CRASHED}
    assert results[2].error == (
        "it kept the event loop of the jobs beside it: /opt/jobs/x.py:7 in handle. Use `await asyncio.to_thread(...)`"
    )


def test_who_blocks_and_is_out_of_time_has_timed_out() -> None:
    killed = Killed(OUT_OF_TIME, listened=False, blocked=Blocked(A, "x.py:7"))
    expected = {A: Outcome.TIMED_OUT, B: Outcome.RELEASED, C: Outcome.RELEASED}
    assert outcomes(after_kill(ALL, {A: OUT_OF_TIME}, killed)) == expected


def test_where_nothing_shows_who_blocks_all_share_the_blame() -> None:
    killed = Killed(OUT_OF_TIME, listened=False, blocked=None)
    expected = {A: Outcome.LOST, B: Outcome.CANCELLED, C: Outcome.LOST}
    assert outcomes(after_kill(ALL, {A: OUT_OF_TIME, B: CANCELLED}, killed)) == expected
    assert after_kill([A], {A: OUT_OF_TIME}, killed) == [OUT_OF_TIME]
