"""Steps that tests take as a client of a fleet."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stockworker.adapters import clock
from stockworker.client import Client, Completion
from stockworker.protocol.lifecycle import State
from tests.harness.fleet import Fleet
from tests.harness.waiting import TIMEOUT_S

T = TypeVar("T")

_LOOK_S = 0.02


def as_client(fleet: Fleet, act: Callable[[Client], Coroutine[Any, Any, T]], name: str = "client") -> T:
    """Return what `act` returns, called with a connected client."""

    async def run() -> T:
        async with fleet.client(name) as client:
            return await act(client)

    return asyncio.run(run())


async def end_of(client: Client, job_id: str) -> Completion:
    """Wait for the completion of a job."""
    async for ended in client.wait([job_id], TIMEOUT_S):
        return ended
    raise AssertionError("a wait for one job yields it or raises")


async def until_running(client: Client, job_id: str) -> None:
    """Wait until the dispatcher reports the job as running."""
    deadline = clock.monotonic() + TIMEOUT_S
    while (state := (await client.query([job_id]))[0].state) is not State.RUNNING:
        if clock.monotonic() > deadline:
            raise TimeoutError(f"job {job_id} is {state}, and has not begun to run")
        await asyncio.sleep(_LOOK_S)


async def until_explained(client: Client, job_id: str, sentence: str) -> None:
    """Wait until the dispatcher's explanations of a job contain a text."""
    deadline = clock.monotonic() + TIMEOUT_S
    while sentence not in (why := " | ".join((await client.explain(job_id)).why)):
        if clock.monotonic() > deadline:
            raise TimeoutError(f"no explanation contains {sentence!r} of job {job_id}, but: {why}")
        await asyncio.sleep(_LOOK_S)


def run_job(fleet: Fleet, job_type: str, payload: Any = None, **options: Any) -> tuple[Completion, list[str]]:
    """Submit a job; return its completion and the outcomes of its attempts."""

    async def submit(client: Client) -> Completion:
        return await end_of(client, await client.submit(job_type, payload, **options))

    ended = as_client(fleet, submit)
    return ended, fleet.outcomes(ended.job_id)


def until_state(fleet: Fleet, job_id: str, state: State, name: str = "operator") -> None:
    """Wait until a job is in a state."""

    async def wait(client: Client) -> None:
        deadline = clock.monotonic() + TIMEOUT_S
        while (found := (await client.query([job_id]))[0].state) is not state:
            if clock.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} is {found}, not {state}")
            await asyncio.sleep(_LOOK_S)

    as_client(fleet, wait, name)
