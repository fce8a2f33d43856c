"""The timers of an attempt end with it: the next attempt in the same process has its own."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stockworker.handlers.spec import Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker import executor as module
from stockworker.worker.executor import Executor
from stockworker.worker.work import ExecutorEvent, Work

TYPE = JobType("backtest")


class Group:
    """A control group that has used no processor time."""

    def cpu_s(self) -> float:
        return 0.0


class IdleChild:
    """A process that ends nothing by itself."""

    reusable = True
    ahead = ()
    jobs = 0
    type = TYPE

    def __init__(self, configuration: bytes, *_others: object) -> None:
        self.configuration = configuration
        self.group = Group()
        self.killed = 0

    def has_room(self, _limits: Limits) -> bool:
        return True

    def run(self, _work: Work, _opened: Work, _limits: Limits) -> None:
        pass

    def terminate(self, _stopped: AttemptResult) -> None:
        pass

    def force(self, _stopped: AttemptResult) -> None:
        self.kill()

    def kill(self) -> None:
        self.killed += 1


def work(token: str) -> Work:
    return Work(Token(token), JobId(token), TYPE, 1, "{}", 1000.0)


def executor(events: list[ExecutorEvent]) -> Executor:
    return Executor({TYPE: PythonHandler("module:function", limits=Limits(cpu_s=1000))}, 1, events.append)


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process starts: it would outlive the test."""
    monkeypatch.setattr(module, "PythonChild", IdleChild)
    monkeypatch.setattr(module, "start_fork_server", lambda _closed, **_options: None)


def timers(running: Executor, token: str) -> Sequence[Any]:
    run = running._runs[Token(token)]
    return run.timer, run.cpu_check


def test_an_attempt_that_has_ended_stops_no_later_one_in_its_process() -> None:
    async def main() -> None:
        events: list[ExecutorEvent] = []
        running = executor(events)
        running.start(work("a"))
        first = timers(running, "a")
        running.ended([AttemptResult(Token("a"), Outcome.OK, "1")])
        assert [timer.cancelled() for timer in first] == [True, True]
        running.start(work("b"))
        assert [timer.cancelled() for timer in timers(running, "b")] == [False, False]

    asyncio.run(main())


def test_a_stopped_attempt_keeps_only_the_timer_of_its_grace() -> None:
    async def main() -> None:
        events: list[ExecutorEvent] = []
        running = executor(events)
        running.start(work("a"))
        first = timers(running, "a")
        running.stop(Token("a"))
        assert [timer.cancelled() for timer in first] == [True, True]
        assert not running._runs[Token("a")].timer.cancelled()
        running.ended([AttemptResult(Token("a"), Outcome.CRASHED)])
        ended = events[-1]
        assert isinstance(ended, AttemptResult)
        assert (ended.outcome, ended.error) == (Outcome.CANCELLED, "stopped on request")

    asyncio.run(main())
