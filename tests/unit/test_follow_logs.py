"""`stockworker logs --follow`: the output of each attempt, when it ends, until the job ends."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from stockworker.cli.logs import JobLogs, follow
from stockworker.client import Output
from stockworker.errors import AccessDenied, JobUnknown, NoAnswer, StockworkerError
from stockworker.protocol.ids import JobId, JobType
from stockworker.protocol.job import Priority
from stockworker.protocol.lifecycle import State
from stockworker.protocol.views import Explanation, JobView

JOB = JobId("job")
Step = tuple[State, int, Sequence[int]] | StockworkerError


def a_view(state: State, attempt: int) -> JobView:
    ended_at = 9.0 if state is State.COMPLETED else None
    kind = JobType("echo"), Priority.NORMAL
    return JobView(JOB, *kind, state, 1.0, 1.0, ended_at, attempt, 0, 0, None, cancel_requested=False, reason=None)


class Dispatcher:
    """Each question for the job makes the next step happen; the last one stays."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self._now: tuple[State, int, Sequence[int]] | None = None
        self.reads = 0

    async def query(self, _ids: Sequence[str]) -> list[JobView]:
        step = self._steps.pop(0) if self._steps else self._now
        if isinstance(step, StockworkerError):
            raise step
        self._now = step
        return [] if step is None else [a_view(step[0], step[1])]

    async def outputs(self, _job_id: str, attempt: int | None) -> list[Output]:
        self.reads += 1
        numbers = () if self._now is None else self._now[2]
        return [Output(number, f"text {number}", 0) for number in numbers if attempt in {None, number}]

    async def explain(self, job_id: str) -> Explanation:
        if self._now is None:
            raise JobUnknown(f"job {job_id} is unknown")
        return Explanation(JobId(job_id), (), ())


def followed(dispatcher: Dispatcher, attempt: int | None = None) -> tuple[list[int], JobLogs]:
    shown: list[int] = []

    def show(found: JobLogs) -> None:
        shown.extend(output.attempt for output in found.outputs)

    return shown, asyncio.run(follow(cast("Any", dispatcher), JOB, attempt, show, 0.0))


RETRIED: Sequence[Step] = (
    (State.RUNNING, 1, ()),
    (State.RUNNING, 1, ()),
    (State.SCHEDULED, 1, (1,)),
    (State.SCHEDULED, 1, (1,)),
    (State.RUNNING, 2, (1,)),
    (State.RUNNING, 2, (1,)),
    (State.COMPLETED, 2, (1, 2)),
)


def test_each_output_is_shown_once_and_the_end_of_the_job_is_the_end() -> None:
    shown, last = followed(Dispatcher(*RETRIED))
    assert shown == [1, 2]
    assert last.view.state is State.COMPLETED
    assert [output.attempt for output in last.outputs] == [1, 2]


def test_outputs_are_asked_for_only_if_the_job_has_changed() -> None:
    dispatcher = Dispatcher(*([(State.RUNNING, 1, ())] * 9), (State.COMPLETED, 1, (1,)))
    assert followed(dispatcher)[0] == [1]
    assert dispatcher.reads == 2


def test_one_attempt_is_followed_to_its_end() -> None:
    shown, last = followed(Dispatcher(*RETRIED), 1)
    assert (shown, last.view.state) == ([1], State.SCHEDULED)


def test_a_job_that_has_ended_is_shown_immediately() -> None:
    assert followed(Dispatcher((State.COMPLETED, 2, (2,))))[0] == [2]


def test_a_job_without_output_is_followed_to_its_end() -> None:
    shown, last = followed(Dispatcher((State.QUEUED, 0, ()), (State.COMPLETED, 1, ())))
    assert (shown, last.outputs) == ([], [])


def test_a_dispatcher_that_does_not_answer_is_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    steps = (State.RUNNING, 1, ()), NoAnswer("no answer within 30 s"), (State.COMPLETED, 1, (1,))
    assert followed(Dispatcher(*steps))[0] == [1]
    assert "no answer within 30 s. Asking again" in capsys.readouterr().err


def test_a_right_that_is_taken_away_ends_it() -> None:
    with pytest.raises(AccessDenied):
        followed(Dispatcher((State.RUNNING, 1, ()), AccessDenied("no")))


def test_a_job_that_is_deleted_meanwhile_ends_it() -> None:
    class Forgetful(Dispatcher):
        async def query(self, ids: Sequence[str]) -> list[JobView]:
            if self._steps:
                return await super().query(ids)
            self._now = None
            return []

    with pytest.raises(JobUnknown):
        followed(Forgetful((State.RUNNING, 1, ())))
