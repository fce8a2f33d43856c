"""pgqueuer: jobs are rows of PostgreSQL, and run as coroutines in the worker's own process. It stores no results."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.core.completion import CompletionWatcher
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from bench.apps.driving import Payload, Queue, drive
from bench.apps.records import run_async

_BATCH = 1000


async def connect() -> Any:
    """Connect to PostgreSQL, once it accepts connections."""
    while True:
        try:
            return await asyncpg.connect(os.environ["BENCH_URL"])
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)


class PgQueue(Queue):
    """A producer with one connection; a call commits all its jobs."""

    async def open(self) -> None:
        self._lock = asyncio.Lock()  # a connection runs one statement at a time
        self._watcher: Any = None
        self._connection = await connect()
        self._driver = AsyncpgDriver(self._connection)
        self._queries = Queries(self._driver)

    async def mend(self) -> None:
        async with self._lock:
            if self._connection.is_closed():
                self._connection = await connect()
                self._driver = AsyncpgDriver(self._connection)
                self._queries = Queries(self._driver)

    async def submit(self, payload: Payload) -> Any:
        (job_id,) = await self._queries.enqueue("bench", json.dumps(payload).encode())
        return job_id

    async def submit_many(self, payloads: Sequence[Payload], *, urgent: bool = False) -> None:
        for first in range(0, len(payloads), _BATCH):
            some = payloads[first : first + _BATCH]
            bodies = [json.dumps(payload).encode() for payload in some]
            async with self._lock:
                await self._queries.enqueue(["bench"] * len(some), bodies, [int(urgent)] * len(some))

    async def result(self, handle: Any) -> None:
        if self._watcher is None:
            self._watcher = CompletionWatcher(self._driver, queries=self._queries)
            await self._watcher.__aenter__()
        await self._watcher.wait_for(handle)

    async def close(self) -> None:
        await self._connection.close()


async def work(slots: int, batch: int) -> None:
    """Run jobs until the connection breaks; 0 slots mean unlimited."""
    queuer = PgQueuer(AsyncpgDriver(await connect()))

    async def handle(job: Any) -> None:
        await run_async(json.loads(job.payload))

    queuer.entrypoint("bench")(handle)
    await queuer.run(batch_size=batch, max_concurrent_tasks=slots or None)


async def install() -> None:
    """Create the tables."""
    await Queries(AsyncpgDriver(await connect())).install()


if __name__ == "__main__":
    match sys.argv[1]:
        case "work":
            uvloop.run(work(int(sys.argv[2]), int(sys.argv[3])))
        case "install":
            asyncio.run(install())
        case _:
            drive(PgQueue)
