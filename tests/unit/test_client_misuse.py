"""Calls of the Python API that can't succeed fail immediately, with an error that has the reason."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.client import Client, make_submission
from stockworker.errors import ConnectionFailed, JobRejected
from stockworker.protocol.ids import ClientId
from stockworker.protocol.job import NEVER_RUNS

NAME = ClientId("client")
CALLS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "result": lambda client: client.result("a b"),
    "query": lambda client: client.query(["a b"]),
    "explain": lambda client: client.explain("a b"),
    "cancel": lambda client: client.cancel("a b"),
    "retry": lambda client: client.retry("a b"),
    "pause": lambda client: client.pause("a b"),
    "resume": lambda client: client.resume("a b"),
    "drain": lambda client: client.drain("a b"),
    "undrain": lambda client: client.undrain("a b"),
    "submit": lambda client: client.submit("a b"),
}


def make_client() -> Client:
    return Client(LinkSettings("127.0.0.1", 1, NAME), NAME, timeout_s=60.0)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_id_that_is_none_is_rejected(call: Callable[[Client], Awaitable[Any]]) -> None:
    async def misuse() -> None:
        await call(make_client())

    with pytest.raises(JobRejected, match="'a b'"):
        asyncio.run(misuse())


def test_a_call_after_the_end_is_refused_at_once() -> None:
    async def misuse() -> None:
        client = make_client()
        await client._conversation.close()
        async with asyncio.timeout(30):
            await client.list()

    with pytest.raises(ConnectionFailed, match="this client is closed; make calls inside of 'async with"):
        asyncio.run(misuse())


def test_a_call_that_waits_ends_with_the_connection() -> None:
    async def misuse() -> None:
        client = make_client()
        waiting = asyncio.create_task(client.stats())
        await asyncio.sleep(0)
        await client._conversation.close()
        async with asyncio.timeout(30):
            await waiting

    with pytest.raises(ConnectionFailed, match="this client is closed"):
        asyncio.run(misuse())


def test_a_job_that_could_never_run_is_rejected() -> None:
    with pytest.raises(JobRejected) as caught:
        make_submission("echo", not_before=2e9, expires_at=2e9)
    assert str(caught.value) == NEVER_RUNS
    assert make_submission("echo", not_before=2e9, expires_at=2e9 + 1).expires_at == 2e9 + 1
