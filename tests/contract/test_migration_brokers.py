"""Queues in Redis and RabbitMQ as Laravel, RQ, Celery and others have them; what is malformed, equal or cut off by a kill."""

import base64
import json
import pickle
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pika
import pytest
import redis

from stockworker.errors import ConfigError
from stockworker.migration import redis as redis_source
from stockworker.migration.address import parse_address
from stockworker.migration.decoding import MigratedJob, Refused, decode
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.proposal import propose
from stockworker.migration.source import Source, SourceFailed, Standing
from stockworker.migration.sources import open_source, survey
from stockworker.protocol.job import Priority
from tests.harness.old_brokers import (
    RabbitQueue,
    RedisQueue,
    rabbitmq_queue,
    rabbitmq_server,
    redis_queue,
    redis_server,
)
from tests.harness.old_queues import OLD_QUEUES, OldJob, OldQueue, numbered, opened
from tests.harness.waiting import wait_until

NOW = 1_800_000_000.0
PENDING, CLAIMED, MOVED = Standing.PENDING, Standing.CLAIMED, Standing.MOVED


@pytest.fixture
def server() -> Iterator[Any]:
    """A connection to an empty Redis."""
    connection = redis.Redis.from_url(redis_server().url)
    connection.flushdb()
    with closing(connection):
        yield connection


@pytest.fixture
def channel() -> Iterator[Any]:
    """A channel to RabbitMQ."""
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_server().url))) as connection:
        yield connection.channel()


@pytest.fixture
def rabbit(tmp_path: Path) -> Iterator[RabbitQueue]:
    with rabbitmq_queue(tmp_path) as queue:
        yield queue


def of_preset(url: str, preset: str, *, read_only: bool = False) -> tuple[Source, list[MigratedJob | Refused]]:
    """The source of a preset, and what becomes of its pending records."""
    mapping = read_mapping(None, preset)
    source = open_source(parse_address(url), mapping, read_only=read_only)
    decoded: list[MigratedJob | Refused] = []
    page = source.page(PENDING, None, 100)
    while page.found:
        decoded += [decode(found, mapping, source.identity, NOW) for found in page.found]
        if page.after is None:
            break
        page = source.page(PENDING, page.after, 100)
    return source, decoded


def jobs(decoded: list[MigratedJob | Refused]) -> list[tuple[str, str, Any, Priority, float | None]]:
    """ID, type, payload, priority and start of each, all of which must be jobs."""
    found = []
    for each in decoded:
        assert isinstance(each, MigratedJob), each
        job = each.submission
        found.append((each.record_id, str(job.type), json.loads(job.payload), job.priority, job.not_before))
    return found


# --- layouts ----------------------------------------------------------------------------------------------------------


def laravel(number: int, **changes: Any) -> str:
    command = {"commandName": "App\\Jobs\\SendMail", "command": "O:17:…"}
    job = {"uuid": f"u-{number}", "displayName": "App\\Jobs\\SendMail", "maxTries": 5, "timeout": 60, "data": command}
    return json.dumps({**job, "id": f"id-{number}", "attempts": 2, **changes})


def test_laravel(server: Any) -> None:
    server.rpush("queues:default", laravel(1), laravel(2))
    server.zadd("queues:default:delayed", {laravel(3): NOW + 60})
    server.zadd("queues:default:reserved", {laravel(4): NOW})
    source, decoded = of_preset(redis_server().url, "laravel-redis")
    with closing(source):
        data = json.loads(laravel(1))["data"]
        rows = [(f"id-{number}", "SendMail", data, Priority.NORMAL) for number in (1, 2, 3)]
        assert [each[:4] for each in jobs(decoded)] == rows
        assert [each[4] for each in jobs(decoded)] == [None, None, NOW + 60]
        assert [
            (each.submission.max_attempts, each.submission.timeout_s)
            for each in decoded
            if isinstance(each, MigratedJob)
        ] == [(3, 60)] * 3
        assert (source.counts()[PENDING], source.counts()[Standing.RUNNING]) == (3, 1)


def test_rq(server: Any) -> None:
    data = zlib.compress(pickle.dumps(("shop.mail.send", None, ("a",), {"b": 2})))
    for name in ("one", "later"):
        server.hset(f"rq:job:{name}", mapping={"data": data, "origin": "default", "status": "queued", "timeout": 180})
    server.rpush("rq:queue:default", "one", "without-a-hash")
    server.zadd("rq:scheduled:default", {"later": NOW + 5})
    source, decoded = of_preset(redis_server().url, "rq")
    with closing(source):
        payload = {"function": "shop.mail.send", "args": ["a"], "kwargs": {"b": 2}}
        assert jobs([decoded[0], decoded[2]]) == [
            ("one", "shop.mail.send", payload, Priority.NORMAL, None),
            ("later", "shop.mail.send", payload, Priority.NORMAL, NOW + 5),
        ]
        assert isinstance(decoded[1], Refused)
        assert (decoded[1].record_id, decoded[1].reason) == ("without-a-hash", "type: is missing")


TASK = {"lang": "py", "task": "shop.add", "expires": None, "retries": 1, "timelimit": [30, None]}
ARGUMENTS = [[1], {"b": 2}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
ETA: dict[str, Any] = {"eta": "2027-01-15T08:00:05+00:00"}


def celery(number: int, priority: int = 0, **headers: Any) -> str:
    return json.dumps(
        {
            "body": base64.b64encode(json.dumps(ARGUMENTS).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**TASK, "id": f"task-{number}", "eta": None, **headers},
            "properties": {"priority": priority, "body_encoding": "base64", "delivery_info": {"routing_key": "celery"}},
        }
    )


def test_celery_in_redis(server: Any) -> None:
    server.lpush("celery", celery(1), celery(2, **ETA))
    server.lpush("celery\x06\x166", celery(3, 6))
    server.hset("unacked", "tag", celery(4))
    source, decoded = of_preset(redis_server().url, "celery-redis")
    with closing(source):
        payload = {"args": [1], "kwargs": {"b": 2}}
        assert jobs(decoded) == [
            ("task-1", "shop.add", payload, Priority.NORMAL, None),
            ("task-2", "shop.add", payload, Priority.NORMAL, NOW + 5),
            ("task-3", "shop.add", payload, Priority.LOW, None),
        ]
        assert source.counts()[Standing.RUNNING] == 1


def test_celery_in_rabbitmq(channel: Any) -> None:
    channel.queue_delete("celery")
    channel.queue_declare("celery", durable=True, arguments={"x-max-priority": 10})
    channel.confirm_delivery()
    for number, priority, headers in ((1, None, {}), (2, 9, ETA)):
        named = {**TASK, "id": f"task-{number}", "eta": None, **headers}
        properties = pika.BasicProperties(headers=named, priority=priority, content_type="application/json")
        channel.basic_publish("", "celery", json.dumps(ARGUMENTS).encode(), properties)
    source, decoded = of_preset(rabbitmq_server().url, "celery-rabbitmq")
    with closing(source):
        payload = {"args": [1], "kwargs": {"b": 2}}
        assert jobs(decoded) == [
            ("task-2", "shop.add", payload, Priority.HIGH, NOW + 5),
            ("task-1", "shop.add", payload, Priority.NORMAL, None),
        ]


# --- equal, malformed and odd entries -----------------------------------------------------------------------------------


def without_ids(tmp_path: Path, **containers: str) -> Any:
    """A mapping of payloads without IDs."""
    field = "value" if "key" in containers else "body"
    mapping = {**containers, "id": "claim_id", "type": {"fixed": "echo"}, "payload": field}
    file = tmp_path / "mapping.json.yml"
    file.write_text(json.dumps({"migration": mapping}))
    return read_mapping(file, None)


def claim_all(source: Source) -> set[str]:
    """Claim everything; return the claim IDs, as the source shows them afterwards."""
    page = source.page(PENDING, None, 100)
    shown = {str(each.record["claim_id"]) for each in page.found}
    assert len(source.shift([each.token for each in page.found], PENDING, CLAIMED)) == len(page.found)
    assert {str(each.record["claim_id"]) for each in source.page(CLAIMED, None, 100).found} >= shown
    return shown


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_equal_messages_without_ids_are_jobs_of_their_own(kind: str, server: Any, channel: Any, tmp_path: Path) -> None:
    """Also one that arrives after the others were moved and forgotten."""
    channel.queue_delete("equal")
    channel.queue_declare("equal", durable=True)
    channel.confirm_delivery()

    def add(count: int) -> None:
        for _ in range(count):
            if kind == "redis":
                server.rpush("equal", "{}")
            else:
                channel.basic_publish("", "equal", b"{}")

    url = redis_server().url if kind == "redis" else rabbitmq_server().url
    mapping = without_ids(tmp_path, **{"key" if kind == "redis" else "queue": "equal"})
    add(2)
    with closing(open_source(parse_address(url), mapping, read_only=False)) as source:
        first = claim_all(source)
        add(1)
        second = claim_all(source)
        source.shift([each.token for each in source.page(CLAIMED, None, 100).found], CLAIMED, MOVED)
        add(1)
        third = claim_all(source)
    assert (len(first), len(second), len(third), len(first | second | third)) == (2, 1, 1, 4)


def test_malformed_messages_stay_in_their_places(tmp_path: Path) -> None:
    bad = [OldJob(number, payload=b"\xff\x00 {") for number in (1, 4)]
    with redis_queue(tmp_path) as one, rabbitmq_queue(tmp_path) as other:
        for queue in (one, other):
            leave_malformed(queue, bad)


def leave_malformed(queue: RedisQueue | RabbitQueue, bad: list[OldJob]) -> None:
    """Two passes that claim all other messages; the second one finds the malformed ones again."""
    queue.add([bad[0], *numbered([2, 3]), bad[1], *numbered([5])])
    for _ in range(2):  # the second pass finds the same again
        with opened(queue) as source:
            page = source.page(PENDING, None, 2)
            refused = 0
            while page.found:
                decoded = [decode(each, queue.mapping, source.identity, NOW) for each in page.found]
                good = [each.token for each in decoded if isinstance(each, MigratedJob)]
                refused += len(decoded) - len(good)
                assert len(source.shift(good, PENDING, CLAIMED)) == len(good)
                if page.after is None:
                    break
                page = source.page(PENDING, page.after, 2)
            assert refused == 2
            assert {PENDING: 2, CLAIMED: 3}.items() <= source.counts().items()


def test_a_message_in_the_own_queue_does_not_expire(channel: Any, rabbit: RabbitQueue) -> None:
    """Its delay by expiration is in the record, and returns with it."""
    queue = rabbit
    properties = pika.BasicProperties(expiration="60000", timestamp=int(NOW), headers={"trace": ["a", 1]})
    channel.confirm_delivery()
    channel.basic_publish("", queue.name, b'{"id": 1, "type": "echo", "payload": {}}', properties)
    with opened(queue) as source:
        claim_all(source)
        (claimed,) = source.page(CLAIMED, None, 10).found
        assert (claimed.record["expiration"], claimed.record["due"]) == ("60000", NOW + 60)
        assert claimed.record["headers"] == {"trace": ["a", 1]}
        source.shift([claimed.token], CLAIMED, PENDING)
    _, returned, _ = channel.basic_get(queue.name, auto_ack=True)
    assert (returned.expiration, returned.headers) == ("60000", {"trace": ["a", 1]})


def test_a_job_of_rq_is_deleted_with_its_hash(server: Any, tmp_path: Path) -> None:
    server.hset("rq:job:one", mapping={"data": b"x"})
    server.rpush("rq:queue:default", "one")
    file = tmp_path / "mapping.yml"
    file.write_text("migration: {preset: rq, standings: {moved: delete}}\n")
    with closing(open_source(parse_address(redis_server().url), read_mapping(file, None), read_only=False)) as source:
        claim_all(source)
        (claimed,) = source.page(CLAIMED, None, 10).found
        assert source.shift([claimed.token], CLAIMED, MOVED)
        assert source.page(MOVED, None, 10).found == ()
    assert not server.exists("rq:job:one")


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_a_pass_ends_although_messages_return(kind: str, tmp_path: Path) -> None:
    """A job that the dispatcher rejects returns to its queue."""
    with OLD_QUEUES[kind](tmp_path) as queue:
        queue.add(numbered(range(5)))
        with opened(queue) as source:
            seen, after = 0, None
            while (page := source.page(PENDING, after, 2)).found:
                tokens = [each.token for each in page.found]
                seen += len(source.shift(tokens, PENDING, CLAIMED))
                source.shift(tokens, CLAIMED, PENDING)
                after = page.after
        assert seen == 5
        assert sorted(queue.waiting()) == list(range(5))


# --- kills ------------------------------------------------------------------------------------------------------------

CLAIMING = """
import sys
from pathlib import Path
from stockworker.migration.address import parse_address
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.source import Standing
from stockworker.migration.sources import open_source
source = open_source(parse_address(sys.argv[1]), read_mapping(Path(sys.argv[2]), None), read_only=False)
page = source.page(Standing.PENDING, None, 40)
while page.found:
    source.shift([each.token for each in page.found], Standing.PENDING, Standing.CLAIMED)
    page = source.page(Standing.PENDING, page.after, 40)
"""


@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_each_record_has_one_owner_after_a_kill(kind: str, tmp_path: Path) -> None:
    """The claims of a process that was killed are whole: each job is with the old workers, or claimed."""
    mapping = tmp_path / "mapping.yml"
    with OLD_QUEUES[kind](tmp_path) as queue:
        kill_while_claiming(queue, mapping)


def kill_while_claiming(queue: OldQueue, mapping: Path) -> None:
    if not mapping.exists():
        mapping.write_text("migration: {preset: redis}\n")
    queue.add(numbered(range(1000)))
    with subprocess.Popen([sys.executable, "-c", CLAIMING, queue.url, str(mapping)]) as process:
        with opened(queue, read_only=True) as watcher:
            wait_until(lambda: watcher.counts()[PENDING] <= 920, "the second page is read")
        process.send_signal(signal.SIGKILL)
    with opened(queue) as source:
        wait_until(lambda: sum(source.counts().values()) == 1000, "the messages of the killed process are back")
        claimed, page = [], source.page(CLAIMED, None, 100)
        while page.found:
            claimed += [int(decode(each, queue.mapping, "", NOW).record_id or "") for each in page.found]
            if page.after is None:
                break
            page = source.page(CLAIMED, page.after, 100)
        assert claimed
        assert sorted([*claimed, *queue.waiting()]) == list(range(1000))


# --- errors and surveys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"take": "left"}}, "settings.take is not a setting of Redis; it has delayed, running, more"),
        ({"settings": {"takes": "top"}}, "settings.takes must be left or right, not 'top'"),
        ({"standings": {"pending": {"a": "b"}}}, "'standings' is not for Redis"),
    ],
)
def test_a_mapping_that_redis_can_not_follow(changes: Mapping[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "mapping.yml"
    file.write_text(
        json.dumps({"migration": {"key": "k", "id": "value", "type": "value", "payload": "value", **changes}})
    )
    with pytest.raises(ConfigError, match=message):
        open_source(parse_address(redis_server().url), read_mapping(file, None), read_only=True)


def test_errors_name_the_source(server: Any, tmp_path: Path) -> None:
    server.xadd("jobs", {"a": "b"})
    with (
        closing(open_source(parse_address(redis_server().url), read_mapping(None, "redis"), read_only=True)) as source,
        pytest.raises(SourceFailed, match=r"key jobs: jobs is a stream, not a list or a sorted set\. Name another key"),
    ):
        source.page(PENDING, None, 10)
    with pytest.raises(SourceFailed, match=r"redis://localhost:1 key jobs: .*refused"):
        open_source(parse_address("redis://localhost:1"), read_mapping(None, "redis"), read_only=True)
    with pytest.raises(SourceFailed, match=r"amqp://u@localhost:1: can't connect: .*\. Check the address"):
        open_source(parse_address("amqp://u:secret@localhost:1"), read_mapping(None, "rabbitmq"), read_only=True)
    mapping = without_ids(tmp_path, queue="no-such-queue")
    with pytest.raises(SourceFailed, match=r"no queue 'no-such-queue'.*'rabbitmqctl list_queues' lists all"):
        open_source(parse_address(rabbitmq_server().url), mapping, read_only=True)


def test_a_survey_of_redis(server: Any) -> None:
    server.rpush("b", "1", "2")
    server.zadd("a", {"x": 5})
    server.set("no queue", "1")
    found = survey(parse_address(redis_server().url))
    assert [(each.kind, each.name, each.size) for each in found] == [("key", "a", 1), ("key", "b", 2)]
    assert found[0].samples == ({"key": "a", "score": 5.0, "value": b"x"},)


def test_a_survey_of_a_large_redis_is_bounded(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache in the same database hides neither usual keys nor those that are named, and what was left out is shown."""
    monkeypatch.setattr(redis_source, "MOST_KEYS", 10)
    url = redis_server().url
    server.mset({f"cache:{number}": "x" for number in range(50)})
    with pytest.raises(
        SourceFailed, match=r"no list and no sorted set was found: the database has 50 keys, .* such as \?key=jobs"
    ):
        survey(parse_address(url))

    server.rpush("jobs", '{"id": 1, "type": "echo", "payload": {}}')
    server.zadd("orders:later", {"x": 5})
    found = survey(parse_address(url))
    (named,) = survey(parse_address(f"{url}?key=orders:later,cache:1,none"))

    (jobs,) = (each for each in found if each.name == "jobs")
    assert jobs.note == (
        "the database has 52 keys, and --inspect looks at 10 of them and at keys with usual names. Name others after the address, "
        "such as ?key=jobs"
    )
    (proposed, *_) = propose(found, {"redis": read_mapping(None, "redis")})
    assert (proposed.container.name, proposed.notes[-1]) == ("jobs", jobs.note)
    assert (named.name, named.size, named.note) == ("orders:later", 1, "")


def test_a_survey_of_rabbitmq(rabbit: RabbitQueue) -> None:
    queue = rabbit
    queue.add(numbered([1, 2]))
    (found,) = survey(parse_address(f"{queue.url}?queue={queue.name}"))
    assert (found.kind, found.name, found.size) == ("queue", queue.name, 2)
    assert json.loads(found.samples[0]["body"])["id"] == 1
    assert sorted(queue.waiting()) == [1, 2]
    with pytest.raises(SourceFailed, match=r"has no queue named nowhere\. Name one after the address"):
        survey(parse_address(f"{queue.url}?queue=nowhere"))
