"""NATS JetStream, bare: a work-queue stream in files. The worker acknowledges a job after its result is in a bucket.

There are neither retries with a policy, nor schedules, nor priorities: this is a limit, not a product. The server answers
before it has synced a message to the disk.
"""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import nats
import uvloop
from nats.errors import TimeoutError as NothingYet
from nats.js.api import ConsumerConfig, RetentionPolicy
from nats.js.errors import BucketNotFoundError

from bench.apps.driving import Payload, Queue, drive
from bench.apps.records import run_async

_STREAM, _SUBJECT, _BUCKET = "jobs", "jobs.bench", "results"
_FETCH = 100
_AT_ONCE = 100


class NatsQueue(Queue):
    """A producer that waits for the server's acknowledgement of each message, and watches the bucket of results."""

    def __init__(self, *, results: bool) -> None:
        self._awaits_results = results
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def open(self) -> None:
        self._connection = await connect()
        self._stream = self._connection.jetstream(timeout=10.0)
        await self._stream.add_stream(name=_STREAM, subjects=[_SUBJECT], retention=RetentionPolicy.WORK_QUEUE)
        results = await bucket(self._stream)
        if self._awaits_results:
            self._watching = asyncio.create_task(self._watch(await results.watchall()))

    async def _watch(self, updates: Any) -> None:
        async for update in updates:
            if update is not None and (waiting := self._waiting.pop(update.key, None)) is not None:
                waiting.set_result(None)

    async def submit(self, payload: Payload) -> Any:
        handle = asyncio.get_running_loop().create_future()
        if self._awaits_results:
            self._waiting[str(payload["n"])] = handle
        await self._stream.publish(_SUBJECT, json.dumps(payload).encode())
        return handle

    async def submit_many(self, payloads: Sequence[Payload], *, urgent: bool = False) -> None:
        if urgent:
            raise NotImplementedError("it has no priorities")
        left = iter(payloads)

        async def publish() -> None:
            for payload in left:
                await self._stream.publish(_SUBJECT, json.dumps(payload).encode())

        await asyncio.gather(*(publish() for _ in range(min(_AT_ONCE, len(payloads)))))

    async def result(self, handle: Any) -> None:
        await handle

    async def close(self) -> None:
        if self._awaits_results:
            self._watching.cancel()
        await self._connection.close()


async def connect() -> Any:
    """Connect; the library reconnects by itself from then on."""
    return await nats.connect(os.environ["BENCH_URL"], max_reconnect_attempts=-1, reconnect_time_wait=0.1)


async def bucket(stream: Any) -> Any:
    """The bucket of results."""
    try:
        return await stream.key_value(_BUCKET)
    except BucketNotFoundError:
        return await stream.create_key_value(bucket=_BUCKET)


async def work(slots: int) -> None:
    """Run jobs, `slots` at a time."""
    connection = await connect()
    stream = connection.jetstream(timeout=10.0)
    results = await bucket(stream)
    durable = ConsumerConfig(max_ack_pending=1000, ack_wait=30)
    fetching = await stream.pull_subscribe(_SUBJECT, durable="workers", stream=_STREAM, config=durable)
    free = asyncio.Semaphore(slots)

    async def one(message: Any) -> None:
        try:
            payload = json.loads(message.data)
            result = await run_async(payload)
            await results.put(str(payload["n"]), str(result).encode())
            await message.ack()
        except Exception as error:  # noqa: BLE001 (an unacknowledged job is delivered again)
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await free.acquire()
            free.release()
            try:
                messages = await fetching.fetch(min(_FETCH, slots), timeout=5)
            except NothingYet:
                continue
            except Exception as error:  # noqa: BLE001 (the server is away: go on when it is back)
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                await asyncio.sleep(0.1)
                continue
            for message in messages:
                await free.acquire()
                group.create_task(one(message))


if __name__ == "__main__":
    if sys.argv[1] == "work":
        uvloop.run(work(int(sys.argv[2])))
    else:
        drive(lambda: NatsQueue(results=sys.argv[2:] == ["results"]))
