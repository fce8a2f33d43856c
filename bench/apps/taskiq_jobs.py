"""taskiq on RabbitMQ: a quorum queue with confirmations, results in Redis. Jobs run as coroutines in the worker."""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import RedisAsyncResultBackend

from bench.apps.driving import Payload, Queue, drive
from bench.apps.records import run_async

_AT_ONCE = 100

broker: Any = AioPikaBroker(os.environ["BENCH_URL"]).with_result_backend(
    RedisAsyncResultBackend(os.environ["BENCH_RESULTS"])
)
bench: Any = broker.task(task_name="bench")(run_async)


class TaskiqQueue(Queue):
    """A producer."""

    async def open(self) -> None:
        await broker.startup()

    async def submit(self, payload: Payload) -> Any:
        return await bench.kiq(payload)

    async def submit_many(self, payloads: Sequence[Payload], *, urgent: bool = False) -> None:
        options = {"priority": 10} if urgent else {}
        left = iter(payloads)

        async def send() -> None:
            for payload in left:
                await bench.kicker().with_labels(**options).kiq(payload)

        await asyncio.gather(*(send() for _ in range(min(_AT_ONCE, len(payloads)))))

    async def result(self, handle: Any) -> None:
        await handle.wait_result(check_interval=0.005, timeout=60)

    async def close(self) -> None:
        await broker.shutdown()


if __name__ == "__main__":
    drive(TaskiqQueue)
