"""The submitting process of the benchmark: one order a line on standard input, one answer a line. Standard library only.

An order and an answer are JSON objects. Each queue has a subclass of `Queue`. The loop is the same for all of them.
"""

import asyncio
import json
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

Payload = dict[str, Any]
_TICK_S: Final = 0.02
_RETRY_S: Final = 0.1
_CONNECTING: Final = 10
_ENVELOPE: Final = len('{"n": 1000000, "nap_s": 0.01, "text": ""}')
now: Final = time.monotonic  # noqa: TID251 (workers on this machine read the same clock)


class Queue:
    """A connection to a queue."""

    async def open(self) -> None:
        """Connect."""

    async def mend(self) -> None:
        """Connect again after an error, if the library does not do so by itself."""

    async def submit(self, payload: Payload) -> Any:
        """Submit one job; return a handle for `result` once the queue has confirmed the job."""
        raise NotImplementedError

    async def submit_many(self, payloads: Sequence[Payload], *, urgent: bool = False) -> None:
        """Submit jobs by the fastest way that the library has; return once the queue has confirmed all of them."""
        raise NotImplementedError

    async def result(self, handle: Any) -> None:
        """Wait for the result of a job."""
        raise NotImplementedError

    async def close(self) -> None:
        """Disconnect."""


def payloads(first: int, count: int, nap_s: float = 0.0, size: int = 288) -> list[Payload]:
    """Payloads of about `size` bytes."""
    text = "x" * max(0, size - _ENVELOPE)
    return [{"n": first + number, "nap_s": nap_s, "text": text} for number in range(count)]


def schedule(segments: Sequence[tuple[float, float]]) -> list[float]:
    """When each job is due, in seconds from the start: `(jobs per second, seconds)` of each segment."""
    due, start = [], 0.0
    for per_s, seconds in segments:
        due += [start + number / per_s for number in range(round(per_s * seconds))]
        start += seconds
    return due


class Driver:
    """Carries out orders."""

    def __init__(self, make: Callable[[], Queue]) -> None:
        self._make = make
        self._queue = make()
        self._idle: list[Queue] = []

    async def serve(self) -> None:
        """Carry out one order after the other, until the input ends."""
        await self._queue.open()
        print(json.dumps({"ready": True}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            answer = await self._orders[order.pop("do")](**order)
            print(json.dumps(answer), flush=True)
        for queue in (self._queue, *self._idle):
            await queue.close()

    @property
    def _orders(self) -> dict[str, Callable[..., Coroutine[Any, Any, Any]]]:
        return {
            "together": self._together,
            "singly": self._singly,
            "latency": self._latency,
            "steady": self._steady,
            "idle": self._connect_idle,
        }

    async def _together(
        self, first: int, count: int, nap_s: float = 0.0, size: int = 288, *, urgent: bool = False
    ) -> dict[str, Any]:
        """Submit jobs together. Seconds until all are confirmed."""
        jobs = payloads(first, count, nap_s, size)
        began = now()
        await self._queue.submit_many(jobs, urgent=urgent)
        return {"began": began, "seconds": now() - began}

    async def _singly(self, first: int, count: int, nap_s: float = 0.0, size: int = 288) -> dict[str, Any]:
        """Submit one job after the other. Seconds until all are confirmed."""
        jobs = payloads(first, count, nap_s, size)
        began = now()
        for job in jobs:
            await self._queue.submit(job)
        return {"began": began, "seconds": now() - began}

    async def _latency(self, first: int, count: int, gap_s: float) -> dict[str, list[float]]:
        """Submit a job, wait for its result, pause, and so on. Moments on the monotonic clock, of each job."""
        began, confirmed, ended = [], [], []
        for job in payloads(first, count):
            await asyncio.sleep(gap_s)
            began.append(now())
            handle = await self._queue.submit(job)
            confirmed.append(now())
            await self._queue.result(handle)
            ended.append(now())
        return {"began": began, "confirmed": confirmed, "ended": ended}

    async def _steady(self, first: int, segments: Sequence[tuple[float, float]]) -> dict[str, Any]:
        """Submit by a schedule, whatever the queue does; repeat each submission until the queue confirms it."""
        due = schedule(segments)
        jobs = payloads(first, len(due))
        began = now()
        sent = errors = 0
        pending: set[asyncio.Task[int]] = set()
        while sent < len(jobs):
            upto = bisect_right(due, now() - began)
            if upto > sent:
                pending.add(asyncio.create_task(self._persist(jobs[sent:upto])))
                sent = upto
            done = {task for task in pending if task.done()}
            errors += sum(task.result() for task in done)
            pending -= done
            await asyncio.sleep(_TICK_S)
        errors += sum(await asyncio.gather(*pending))
        return {"began": began, "errors": errors}

    async def _persist(self, jobs: Sequence[Payload]) -> int:
        """Submit until it succeeds; return the number of failures."""
        failures = 0
        while True:
            try:
                await self._queue.submit_many(jobs)
            except Exception as error:  # noqa: BLE001 (each library has its own, and the load must go on)
                failures += 1
                if failures == 1:
                    print(f"{type(error).__name__}: {error}", file=sys.stderr)
                await asyncio.sleep(_RETRY_S)
                await self._mend()
            else:
                return failures

    async def _mend(self) -> None:
        try:
            await self._queue.mend()
        except Exception as error:  # noqa: BLE001 (as above: the next attempt comes)
            print(f"{type(error).__name__}: {error}", file=sys.stderr)

    async def _connect_idle(self, count: int) -> dict[str, Any]:
        """Open more connections, which do nothing."""
        left = iter([self._make() for _ in range(count)])

        async def connect() -> None:
            for queue in left:
                await queue.open()
                self._idle.append(queue)

        await asyncio.gather(*(connect() for _ in range(_CONNECTING)))
        return {"connected": len(self._idle)}


def drive(make: Callable[[], Queue]) -> None:
    """Carry out orders until standard input ends, with uvloop if the environment has it."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 (not every environment has it)
    except ImportError:
        from asyncio import new_event_loop  # noqa: PLC0415 (as above)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(Driver(make).serve())
