"""The table of topics, and taking topics apart."""

import pytest

from stockworker.protocol import topics
from stockworker.protocol.ids import ClientId, JobId, JobType, WorkerId
from stockworker.protocol.job import Priority
from stockworker.protocol.topics import LEGACY_PARENTS, OWN_LEVEL, TOPICS, Address, Role, TopicKind, parse


def test_every_kind_has_one_line() -> None:
    assert [topic.kind for topic in TOPICS] == list(TopicKind)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: str(topic.kind))
def test_every_line_has_writers_and_readers_and_says_what_it_is(topic: topics.Topic) -> None:
    assert topic.publishers
    assert topic.subscribers
    assert topic.carries
    assert topic.qos in (0, 1)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: str(topic.kind))
def test_a_worker_writes_only_where_its_own_id_proves_it(topic: topics.Topic) -> None:
    if Role.WORKER in topic.publishers:
        assert topic.publishers == {Role.WORKER}
        assert topic.levels[0] == OWN_LEVEL[Role.WORKER]


def test_only_presence_is_retained() -> None:
    assert [topic.kind for topic in TOPICS if topic.retained] == [TopicKind.DISPATCHER]


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        (topics.queue(Priority.LOW, JobType("t.x")), Address(TopicKind.QUEUE, ("low", "t.x"))),
        (topics.receipt(ClientId("c")), Address(TopicKind.RECEIPT, ("c",))),
        (topics.of_worker(TopicKind.REQUEST, WorkerId("w")), Address(TopicKind.REQUEST, ("w",))),
        (f"{TopicKind.CANCEL}/j", Address(TopicKind.CANCEL, ("j",))),
        (topics.progress(WorkerId("w"), JobId("j")), Address(TopicKind.PROGRESS, ("w", "j"))),
        ("system/stats/request", Address(TopicKind.STATS_REQUEST, ())),
        ("system/monitor", Address(TopicKind.MONITOR, ())),
        ("workers/cleanup", Address(TopicKind.CLEANUP, ())),
    ],
)
def test_a_made_topic_can_be_taken_apart(topic: str, address: Address) -> None:
    assert parse(topic) == address


@pytest.mark.parametrize("kind", sorted(LEGACY_PARENTS))
def test_older_workers_leave_their_id_out(kind: TopicKind) -> None:
    assert parse(str(kind)) == Address(kind, ())
    assert parse(f"{kind}/w") == Address(kind, ("w",))


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", "no such topic"),
        ("jobs", "no such topic"),
        ("/jobs/queue/high/t", "no such topic"),
        ("jobs/queues/high/t", "no such topic"),
        ("system/stats", "no such topic"),
        ("$SYS/broker/uptime", "no such topic"),
        ("jobs/request", r"expected jobs/request/\+"),
        ("jobs/request/", "not a valid ID"),
        ("jobs/request/a/b", r"expected jobs/request/\+"),
        ("jobs/request/+", "not a valid ID"),
        ("jobs/queue/urgent/t", "priority 'urgent' is not one of high, normal, low"),
        ("jobs/queue/high/t/x", r"expected jobs/queue/\+/\+"),
        ("system/monitor/x", "expected system/monitor"),
        ("workers/register/a/b", r"expected workers/register/\+"),
    ],
)
def test_other_topics_are_refused_with_a_reason(topic: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(topic)


def test_a_worker_listens_to_its_own_orders_and_to_the_dispatchers_presence() -> None:
    assert topics.subscriptions(Role.WORKER, "w") == (
        "jobs/assign/w",
        "jobs/ack/w",
        "workers/control/w",
        "workers/echo/w",
        "system/dispatcher",
    )


def test_the_dispatcher_listens_to_everybody_and_to_older_workers() -> None:
    filters = topics.subscriptions(Role.DISPATCHER, "dispatcher")
    assert {str(kind) for kind in LEGACY_PARENTS} <= set(filters)
    heard = [topic for topic in TOPICS if Role.DISPATCHER in topic.subscribers]
    expected = {topic.pattern(dispatcher_id="dispatcher") for topic in heard}
    assert set(filters) - {str(kind) for kind in LEGACY_PARENTS} == expected
    assert len(set(filters)) == len(filters)
