"""dramatiq on RabbitMQ with confirmed submissions, results in Redis. A worker has threads."""

import os
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from bench.apps.driving import Payload, Queue, drive
from bench.apps.records import run

_LONGEST_MS = 60_000

broker = RabbitmqBroker(url=os.environ["BENCH_URL"], confirm_delivery=True, max_priority=10)
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["BENCH_RESULTS"])))
dramatiq.set_broker(broker)
bench: Any = dramatiq.actor(run, actor_name="bench", store_results=True, max_retries=3)


class DramatiqQueue(Queue):
    """A producer; its library waits for the confirmation of each message."""

    async def submit(self, payload: Payload) -> Any:
        return bench.send(payload)

    async def submit_many(self, payloads: Sequence[Payload], *, urgent: bool = False) -> None:
        options = {"broker_priority": 10 if urgent else 0}
        for payload in payloads:
            bench.send_with_options(args=(payload,), **options)

    async def result(self, handle: Any) -> None:
        handle.get_result(block=True, timeout=_LONGEST_MS)


if __name__ == "__main__":
    drive(DramatiqQueue)
