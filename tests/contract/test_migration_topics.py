"""The topics of an old worker as a source, with the real Mosquitto."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stockworker.adapters import clock
from stockworker.adapters.mqtt_visit import BrokerVisit
from stockworker.errors import ConfigError
from stockworker.migration import mqtt
from stockworker.migration.address import parse_address
from stockworker.migration.decoding import MigratedJob, decode
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.source import Found, Source, SourceFailed, SourceToken, Standing
from stockworker.migration.sources import open_source, survey
from stockworker.pki.certificates import Authority
from stockworker.protocol.packet import Packet
from tests.harness.broker import Broker
from tests.harness.old_queues import numbered, opened
from tests.harness.old_topics import (
    TOPIC_QUEUES,
    WORKER,
    TopicQueue,
    envelope,
    open_session,
    retained_queue,
    session_queue,
    tool,
    visit,
)
from tests.harness.tools import options, publish

PENDING, CLAIMED, MOVED = Standing.PENDING, Standing.CLAIMED, Standing.MOVED


@pytest.fixture(params=TOPIC_QUEUES)
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TopicQueue]:
    with TOPIC_QUEUES[request.param](tmp_path) as queue:
        yield queue


@pytest.fixture
def session(tmp_path: Path) -> Iterator[TopicQueue]:
    with session_queue(tmp_path) as queue:
        yield queue


@pytest.fixture
def retained(tmp_path: Path) -> Iterator[TopicQueue]:
    with retained_queue(tmp_path) as queue:
        yield queue


def move(source: Source, limit: int = 1000) -> list[Found]:
    """One pass: all records leave."""
    moved: list[Found] = []
    after = None
    while True:
        page = source.page(PENDING, after, limit)
        tokens = [each.token for each in page.found]
        assert list(source.shift(tokens, PENDING, CLAIMED)) == tokens
        assert list(source.shift(tokens, CLAIMED, MOVED)) == tokens
        moved += page.found
        after = page.after
        if after is None:
            return moved


def ids(found: list[Found]) -> list[int]:
    return sorted(json.loads(each.record["body"])["id"] for each in found)


def test_a_pass_moves_everything(queue: TopicQueue) -> None:
    queue.add(numbered(range(1, 26)))
    with opened(queue) as source:
        assert source.counts() == {PENDING: 25, CLAIMED: 0}
        assert ids(move(source, limit=10)) == list(range(1, 26))
        assert source.counts() == {PENDING: 0, CLAIMED: 0}
    assert queue.there() == []


def test_what_was_claimed_and_not_moved_is_still_there(queue: TopicQueue) -> None:
    """A claim ends with the connection: the next run finds the same records with the same IDs."""
    queue.add(numbered(range(1, 6)))
    with opened(queue) as source:
        first = source.page(PENDING, None, 10).found
        tokens = [each.token for each in first]
        source.shift(tokens, PENDING, CLAIMED)
        source.shift(tokens[:2], CLAIMED, MOVED)
        assert source.page(CLAIMED, None, 10).found == ()
    with opened(queue) as source:
        again = source.page(PENDING, None, 10).found
    assert [each.record["claim_id"] for each in again] == [each.record["claim_id"] for each in first[2:]]
    assert sorted(queue.waiting()) == ids(list(first[2:]))


def test_a_pass_shows_what_is_not_claimed_once_and_the_next_one_again(queue: TopicQueue) -> None:
    queue.add(numbered(range(1, 4)))
    with opened(queue) as source:
        shown = source.page(PENDING, None, 10)
        assert (ids(list(shown.found)), shown.after) == ([1, 2, 3], None)
        queue.add(numbered([4]))
        assert ids(list(source.page(PENDING, "more", 10).found)) == [4]
        assert ids(list(source.page(PENDING, None, 10).found)) == [1, 2, 3, 4]


def test_a_released_record_belongs_to_the_old_worker_again(queue: TopicQueue) -> None:
    queue.add(numbered([1, 2]))
    with opened(queue) as source:
        tokens = [each.token for each in source.page(PENDING, None, 10).found]
        source.shift(tokens, PENDING, CLAIMED)
        assert list(source.shift(tokens[:1], CLAIMED, PENDING)) == tokens[:1]
        assert list(source.shift(tokens, CLAIMED, MOVED)) == tokens[1:]
        assert list(source.shift(tokens, CLAIMED, MOVED)) == []
    assert len(list(iter(queue.take, None))) == 1


def test_a_look_changes_nothing(queue: TopicQueue) -> None:
    queue.add(numbered([1, 2]))
    with opened(queue, read_only=True) as source:
        page = source.page(PENDING, None, 10)
        shown = source.shown
    assert ids(list(page.found)) == ([1, 2] if queue.retained else [])
    assert ("are not visible before they move" in shown) == (not queue.retained)
    assert sorted(queue.waiting()) == [1, 2]


def test_an_old_worker_and_an_old_producer_of_mqtt_3(session: TopicQueue) -> None:
    """What the migration leaves in a session of MQTT 3.1.1, the old worker still gets."""
    for number in (1, 2, 3):
        body = json.dumps({"id": number, "type": "echo", "payload": {"n": number}})
        tool(session.server, "mosquitto_pub", "-t", "jobs/queue/high/echo", "-m", body)
    with opened(session) as source:
        (first, *_) = source.page(PENDING, None, 10).found
        job = decode(first, session.mapping, source.identity, 0.0)
        source.shift([first.token], PENDING, CLAIMED)
        source.shift([first.token], CLAIMED, MOVED)
    assert isinstance(job, MigratedJob)
    assert (job.submission.type, job.submission.priority.label, job.submission.payload) == ("echo", "high", '{"n":1}')
    left = tool(session.server, "mosquitto_sub", "-i", WORKER, "-c", "-t", "jobs/#", "-C", "2").stdout.splitlines()
    assert [json.loads(line)["id"] for line in left] == [2, 3]


def test_messages_of_each_quality_of_service_leave(session: TopicQueue) -> None:
    tool(session.server, "mosquitto_sub", "-i", WORKER, "-c", "-t", "jobs/#", "-q", "2", "-E")
    for qos in ("1", "2"):
        tool(session.server, "mosquitto_pub", "-t", "jobs/queue/low/echo", "-q", qos, "-m", f'{{"id": {qos}}}')
    with opened(session) as source:
        assert ids(move(source)) == [1, 2]
    assert session.there() == []


def test_messages_of_other_topics_stay_in_a_session(session: TopicQueue) -> None:
    session.add(numbered([1]))
    tool(session.server, "mosquitto_pub", "-t", f"jobs/assign/{WORKER}", "-m", '{"id": 7}')
    with opened(session) as source:
        assert ids(move(source)) == [1]
    assert list(session.waiting()) == [7]


def test_copies_in_two_sessions_are_the_same_jobs(session: TopicQueue) -> None:
    open_session(session.server, "old-worker-2")
    session.add(numbered([1]))
    found = []
    for worker in (WORKER, "old-worker-2"):
        address = parse_address(f"{session.server.url}?session={worker}")
        with closing(open_source(address, session.mapping, read_only=False)) as source:
            (record,) = move(source)
            found.append((source.identity, record.record["claim_id"]))
    assert found[0] == found[1]


def test_more_messages_than_the_broker_sends_together(session: TopicQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page that leaves makes room for the next one, also while one page is claimed ahead."""
    monkeypatch.setattr(mqtt, "WINDOW", 20)
    session.add(numbered(range(1, 101)))
    with opened(session) as source:
        after, moved = None, 0
        claimed: list[SourceToken] = []
        while True:
            page = source.page(PENDING, after, 10)
            tokens = [each.token for each in page.found]
            source.shift(tokens, PENDING, CLAIMED)
            moved += len(source.shift(claimed, CLAIMED, MOVED))
            claimed, after = tokens, page.after
            if after is None:
                break
    assert moved == 100
    assert session.there() == []


def test_a_session_full_of_bad_messages_is_explained(session: TopicQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "WINDOW", 5)
    session.add(numbered(range(6)))
    with opened(session) as source:
        page = source.page(PENDING, None, 10)
        with pytest.raises(SourceFailed, match="5 messages can't be moved and 0 have other topics"):
            source.page(PENDING, page.after, 10)


def test_a_missing_session_is_named_and_not_created(session: TopicQueue) -> None:
    address = parse_address(f"{session.server.url}?session=mistyped")
    for _ in range(2):
        with pytest.raises(SourceFailed, match="the broker has no session of the client ID 'mistyped'"):
            open_source(address, session.mapping, read_only=False)


def test_a_session_moves_over_tls(tmp_path: Path) -> None:
    """With a certificate for the client; a broker of another authority is not trusted."""
    with Broker(tmp_path / "broker", "user old\ntopic readwrite jobs/#\n") as broker:
        subscribed = ["-i", WORKER, "-c", "-q", "1", "-t", "jobs/#", "-E"]
        subprocess.run(["mosquitto_sub", *options(broker, "old"), *subscribed], check=True, timeout=60)
        for job in numbered([1, 2]):
            publish(broker, "old", "jobs/queue/high/echo", envelope(job))
        own = broker.identity("old")
        place = f"mqtts://localhost:{broker.port}?session={WORKER}&certfile={own.certificate}&keyfile={own.key}"
        other = tmp_path / "other.crt"
        other.write_bytes(Authority.create("Another fleet", datetime.fromtimestamp(clock.wall(), UTC)).certificate_pem)
        mapping = read_mapping(None, "mqtt")
        with pytest.raises(SourceFailed, match="certificate"):
            open_source(parse_address(f"{place}&cafile={other}"), mapping, read_only=False)
        with closing(
            open_source(parse_address(f"{place}&cafile={broker.ca_file}"), mapping, read_only=False)
        ) as source:
            assert ids(move(source)) == [1, 2]
        with closing(
            open_source(parse_address(f"{place}&cafile={broker.ca_file}"), mapping, read_only=False)
        ) as source:
            assert source.counts()[PENDING] == 0


def test_an_old_worker_that_starts_ends_the_migration(session: TopicQueue) -> None:
    session.add(numbered([1]))
    with opened(session) as source:
        source.page(PENDING, None, 10)
        assert list(session.waiting()) == [1]
        with pytest.raises(SourceFailed, match=r"session=old-worker-1 topic jobs/queue/#: the broker .*"):
            source.counts()


def test_a_job_that_replaces_a_claimed_one_stays(retained: TopicQueue) -> None:
    topic = "jobs/queue/high/echo"
    with closing(visit(retained.server, "old-producer")) as producer, opened(retained) as source:
        producer.publish([Packet(topic, b'{"id": 1}', retain=True)])
        (first,) = source.page(PENDING, None, 10).found
        source.shift([first.token], PENDING, CLAIMED)
        producer.publish([Packet(topic, b'{"id": 2}', retain=True)])
        source.shift([first.token], CLAIMED, MOVED)
        assert retained.waiting() == [2]
        assert ids(move(source)) == [2]
    assert retained.waiting() == []


def test_a_job_that_is_published_while_its_topic_is_cleared_returns(
    retained: TopicQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = "jobs/queue/high/echo"
    with closing(visit(retained.server, "old-producer")) as producer, opened(retained) as source:
        producer.publish([Packet(topic, b'{"id": 1}', retain=True)])
        (first,) = source.page(PENDING, None, 10).found
        source.shift([first.token], PENDING, CLAIMED)
        publish = BrokerVisit.publish

        def overtaken(self: BrokerVisit, packets: Iterator[Packet]) -> None:
            listed = list(packets)
            if any(not each.body for each in listed):
                publish(producer, [Packet(topic, b'{"id": 2}', retain=True)])
            publish(self, listed)

        monkeypatch.setattr(BrokerVisit, "publish", overtaken)
        source.shift([first.token], CLAIMED, MOVED)
        monkeypatch.undo()
        assert retained.waiting() == [2]
        assert ids(move(source)) == [2]
    assert retained.waiting() == []


def test_messages_that_are_not_retained_do_not_belong_to_the_retained_ones(retained: TopicQueue) -> None:
    with closing(visit(retained.server, "old-producer")) as producer, opened(retained) as source:
        source.counts()
        producer.publish([Packet("jobs/queue/high/echo", b'{"id": 1}')])
        assert source.page(PENDING, None, 10).found == ()


def test_a_broker_that_denies_something_is_explained(retained: TopicQueue) -> None:
    acl = retained.server.folder / "acl"
    acl.write_text("topic read jobs/#\nuser producer\ntopic write jobs/#\n")
    retained.server.kill()
    retained.server.lines = (*retained.server.lines, f"acl_file {acl}")
    retained.server.start()
    tool(retained.server, "mosquitto_pub", "-u", "producer", "-r", "-t", "jobs/queue/high/echo", "-m", "{}")
    with opened(retained) as source:
        tokens = [each.token for each in source.page(PENDING, None, 10).found]
        source.shift(tokens, PENDING, CLAIMED)
        with pytest.raises(
            SourceFailed, match=r"the broker refuses a message to jobs/queue/high/echo: .*not authorized"
        ):
            source.shift(tokens, CLAIMED, MOVED)
    with pytest.raises(SourceFailed, match=r"mqtt://127\.0\.0\.1:1: .*refused"):
        open_source(parse_address("mqtt://127.0.0.1:1"), retained.mapping, read_only=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{preset: mqtt, standings: {pending: {a: b}}}", "'standings' is not for MQTT"),
        ("{preset: mqtt, settings: {a: b}}", "settings.a is not a setting of MQTT, which has none"),
        ("{preset: redis}", "the mapping must name topics of MQTT, such as 'topic: jobs/queue/#'"),
    ],
)
def test_a_mapping_that_mqtt_can_not_follow(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mapping.yml"
    file.write_text(f"migration: {text}\n")
    with pytest.raises(ConfigError, match=message):
        open_source(parse_address("mqtt://127.0.0.1:1"), read_mapping(file, None), read_only=True)


def test_a_survey(retained: TopicQueue) -> None:
    with pytest.raises(SourceFailed, match=r"jobs/queue/# has no retained messages\. .* begin with --preset mqtt"):
        survey(parse_address(retained.server.url))
    retained.add(numbered([1, 2]))
    (found,) = survey(parse_address(retained.server.url))
    assert (found.kind, found.name, found.size) == ("topic", "jobs/queue/#", 2)
    (named,) = survey(parse_address(f"{retained.server.url}?topic=jobs/queue/normal/%23"))
    assert (named.name, named.size) == ("jobs/queue/normal/#", 2)
