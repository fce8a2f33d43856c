"""huey on Redis: a job is off the queue before it starts, so a killed worker loses the jobs that it runs."""

import os
from collections.abc import Sequence
from typing import Any

from huey import PriorityRedisHuey, RedisHuey

from bench.apps.driving import Payload, Queue, drive
from bench.apps.records import run

_HUEY = PriorityRedisHuey if os.environ.get("BENCH_PRIORITIES") else RedisHuey

huey: Any = _HUEY("bench", url=os.environ["BENCH_URL"], results=True, notify_result=True)
bench: Any = huey.task(name="bench")(run)


class HueyQueue(Queue):
    """A producer; Redis has the job in its memory when a call returns."""

    async def submit(self, payload: Payload) -> Any:
        return bench(payload)

    async def submit_many(self, payloads: Sequence[Payload], *, urgent: bool = False) -> None:
        for payload in payloads:
            bench(payload, **({"priority": 100} if urgent else {}))

    async def result(self, handle: Any) -> None:
        handle.get(blocking=True, timeout=60)


if __name__ == "__main__":
    drive(HueyQueue)
