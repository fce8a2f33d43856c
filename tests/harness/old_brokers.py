"""Old queues in Redis and RabbitMQ, with their old workers. The server of each kind runs as long as this process."""

import atexit
import itertools
import json
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pika
import redis

from stockworker.migration.mapping_file import read_mapping
from tests.harness.servers import RabbitMq, Redis, Server

if TYPE_CHECKING:
    from tests.harness.old_queues import OldJob  # it imports this module

_numbers = itertools.count(1)

S = TypeVar("S", bound=Server)


def _started(server: S) -> S:
    atexit.register(server.close)
    server.start()
    return server


@cache
def redis_server() -> Redis:
    """The server of Redis of this process."""
    return _started(Redis(_folder("redis")))


@cache
def rabbitmq_server() -> RabbitMq:
    """The server of RabbitMQ of this process."""
    return _started(RabbitMq(_folder("rabbitmq")))


def _folder(name: str) -> Path:
    folder = tempfile.TemporaryDirectory(prefix=f"stockworker-{name}-")
    atexit.register(folder.cleanup)  # runs after the server was closed: the last one comes first
    return Path(folder.name)


def envelope(job: "OldJob") -> bytes:
    """The message of an old producer. A payload that is not JSON makes it malformed."""
    head = {"id": job.number, "type": job.type, "priority": job.priority, "attempts": job.attempts}
    return json.dumps(head)[:-1].encode() + b', "payload": ' + job.payload + b"}"


def number_of(message: bytes) -> int:
    """The number of the job in a message."""
    found: int = json.loads(message)["id"]
    return found


class RedisQueue:
    """A list, and a sorted set of delayed jobs."""

    options: tuple[str, ...] = ("--preset", "redis")
    keeps_moved = True

    def __init__(self) -> None:
        self.url = redis_server().url
        self.mapping = read_mapping(None, "redis")
        self.server: Any = redis.Redis.from_url(self.url)
        self.server.flushdb()

    def add(self, jobs: "Iterable[OldJob]") -> None:
        with self.server.pipeline() as pipeline:
            for job in jobs:
                if job.scheduled_at is None:
                    pipeline.rpush("jobs", envelope(job))
                else:
                    pipeline.zadd("jobs:delayed", {envelope(job): job.scheduled_at})
            pipeline.execute()

    def take(self) -> int | None:
        due = self.server.zrangebyscore("jobs:delayed", "-inf", time.time(), start=0, num=1)  # noqa: TID251 (as an old worker)
        if due and self.server.zrem("jobs:delayed", due[0]):
            return number_of(due[0])
        taken = self.server.lpop("jobs")
        return None if taken is None else number_of(taken)

    def waiting(self) -> Collection[int]:
        return list(map(number_of, [*self.server.lrange("jobs", 0, -1), *self.server.zrange("jobs:delayed", 0, -1)]))


_PRIORITIES: Final = {"high": 9, "normal": 5, "low": 1}


class RabbitQueue:
    """A queue with priorities. Delayed jobs are in the same queue, with the delay of the exchange for delayed messages."""

    keeps_moved = False

    def __init__(self, folder: Path) -> None:
        self.url = rabbitmq_server().url
        self.name = f"jobs-{next(_numbers)}"
        mapping = folder / "mapping.yml"
        mapping.write_text(f"migration: {{preset: rabbitmq, queue: {self.name}}}\n")
        self.options: tuple[str, ...] = ("--mapping", str(mapping))
        self.mapping = read_mapping(mapping, None)
        self._connection = pika.BlockingConnection(pika.URLParameters(self.url))
        self.channel = self._connection.channel()
        self.channel.queue_declare(self.name, durable=True, arguments={"x-max-priority": 10})

    def add(self, jobs: "Iterable[OldJob]") -> None:
        self.channel.tx_select()
        for job in jobs:
            delayed: dict[str, Any] = {}
            if job.scheduled_at is not None:
                now = int(time.time())  # noqa: TID251 (as an old producer)
                delayed = {"timestamp": now, "headers": {"x-delay": (job.scheduled_at - now) * 1000}}
            properties = pika.BasicProperties(delivery_mode=2, priority=_PRIORITIES[job.priority], **delayed)
            self.channel.basic_publish("", self.name, envelope(job), properties)
        self.channel.tx_commit()

    def take(self) -> int | None:
        method, _, body = self.channel.basic_get(self.name)
        if method is None:
            return None
        self.channel.basic_ack(method.delivery_tag)
        return number_of(body)

    def waiting(self) -> Collection[int]:
        with closing(self._connection.channel()) as channel:
            return [number_of(body) for _, _, body in iter(lambda: channel.basic_get(self.name), (None, None, None))]

    def close(self) -> None:
        self._connection.close()


@contextmanager
def redis_queue(_folder: Path) -> Iterator[RedisQueue]:
    """An empty queue in Redis."""
    queue = RedisQueue()
    with closing(queue.server):
        yield queue


@contextmanager
def rabbitmq_queue(folder: Path) -> Iterator[RabbitQueue]:
    """An empty queue in RabbitMQ."""
    with closing(RabbitQueue(folder)) as queue:
        yield queue
