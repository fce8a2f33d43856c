"""An executor with methods that wait for its events."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from stockworker.adapters.cgroup import Delegation
from stockworker.handlers.spec import CommandHandler, HandlerSpec, Isolation, Limits, PythonHandler
from stockworker.protocol.attempt import AttemptResult
from stockworker.protocol.ids import JobId, JobType, Token
from stockworker.protocol.job import Outcome
from stockworker.worker.executor import Executor
from stockworker.worker.output import DEFAULT_KEPT
from stockworker.worker.sealing import WorkerSealing
from stockworker.worker.work import ExecutorEvent, HandlerLogged, Progressed, Work

T = TypeVar("T")

_TIMEOUT_S = 30.0
_FOREVER_S = 1000.0
HANDLERS = str(Path(__file__).resolve().parent)
NO_LIMITS = Limits()


def python(
    name: str, limits: Limits = NO_LIMITS, isolation: Isolation = Isolation.SHARED, **settings: object
) -> HandlerSpec:
    """One of the functions in `tests.harness.job_handlers`; by default in processes that all of them share."""
    return PythonHandler(f"job_handlers:{name}", settings, limits, isolation)


def shell(script: str, limits: Limits = NO_LIMITS, **settings: object) -> HandlerSpec:
    """A command that runs a shell script."""
    return CommandHandler(("sh", "-c", script), settings, limits)


class Bench:
    """An executor that runs while the context lasts; `events` keeps all its events, `reaction` is called with each."""

    def __init__(
        self,
        handlers: Mapping[str, HandlerSpec] | None = None,
        *,
        slots: int = 2,
        recycle_after: int = 1000,
        stop_grace_s: float = _FOREVER_S,
        module_paths: Sequence[str] = (HANDLERS,),
        sealing: WorkerSealing | None = None,
        groups: Delegation | None = None,
        output_bytes: int = DEFAULT_KEPT,
    ) -> None:
        self.events: list[ExecutorEvent] = []
        self.reaction: Callable[[ExecutorEvent], None] = lambda _: None
        self.executor = Executor(
            typed(handlers or {}),
            slots,
            self._deliver,
            recycle_after=recycle_after,
            stop_grace_s=stop_grace_s,
            module_paths=list(module_paths),
            sealing=sealing,
            groups=groups,
            output_bytes=output_bytes,
        )
        self._news = asyncio.Event()
        self._count = 0

    def _deliver(self, event: ExecutorEvent) -> None:
        self.events.append(event)
        self._news.set()
        self.reaction(event)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.wait_for(self.executor.close(), _TIMEOUT_S)

    def start(self, job_type: str, payload: str = "null", timeout_s: float = _FOREVER_S) -> Token:
        """Start an attempt under a token of its own."""
        self._count += 1
        token = Token(f"t{self._count}")
        self.executor.start(Work(token, JobId(f"job-{self._count}"), JobType(job_type), 1, payload, timeout_s))
        return token

    async def run(self, job_type: str, payload: str = "null", timeout_s: float = _FOREVER_S) -> AttemptResult:
        """Start an attempt, and wait for its end."""
        return await self.end(self.start(job_type, payload, timeout_s))

    async def end(self, token: Token) -> AttemptResult:
        """Wait for the end of an attempt."""
        return await self._wait(
            lambda: next((e for e in self.events if isinstance(e, AttemptResult) and e.token == token), None)
        )

    async def first_text(self, token: Token) -> str:
        """Wait for the first text of an attempt."""
        return await self._wait(lambda: next(iter(self.texts(token)), None))

    async def happens(self, kind: type[T]) -> T:
        """Wait for the first event of a kind."""
        return await self._wait(lambda: next((event for event in self.events if isinstance(event, kind)), None))

    def texts(self, token: Token) -> list[str]:
        """All texts of an attempt: progress, log and output."""
        return [e.text for e in self.events if isinstance(e, Progressed | HandlerLogged) and e.token == token]

    async def _wait(self, find: Callable[[], T | None]) -> T:
        async with asyncio.timeout(_TIMEOUT_S):
            while (found := find()) is None:
                self._news.clear()
                await self._news.wait()
        return found


def typed(handlers: Mapping[str, HandlerSpec]) -> dict[JobType, HandlerSpec]:
    """Handlers by job type, from literals in a test."""
    return {JobType(name): handler for name, handler in handlers.items()}


def result(finished: AttemptResult) -> Any:
    """The result of a job that succeeded."""
    assert finished.outcome is Outcome.OK, finished
    assert finished.error is None
    assert finished.result is not None
    return json.loads(finished.result)


def failure(finished: AttemptResult, outcome: Outcome = Outcome.ERROR, *, permanent: bool = False) -> str:
    """The error of a job that failed."""
    assert (finished.outcome, finished.permanent, finished.result) == (outcome, permanent, None), finished
    assert finished.error is not None
    return finished.error
