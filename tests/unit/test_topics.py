"""The table of topics, and taking topics apart."""

import pytest

from stockworker.protocol import topics
from stockworker.protocol.ids import ClientId, JobType, WorkerId
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


@pytest.mark.parametrize(
    ("topic", "address"),
    [
        (topics.queue(Priority.LOW, JobType("t.x")), Address(TopicKind.QUEUE, ("low", "t.x"))),
        (topics.receipt(ClientId("c")), Address(TopicKind.RECEIPT, ("c",))),
        (topics.of_worker(TopicKind.REQUEST, WorkerId("w")), Address(TopicKind.REQUEST, ("w",))),
        (f"{TopicKind.CANCEL}/j", Address(TopicKind.CANCEL, ("j",))),
        (topics.queue(Priority.LOW, JobType("t"), ClientId("c")), Address(TopicKind.QUEUE, ("low", "t", "c"))),
        ("jobs/cancel/c:j/c", Address(TopicKind.CANCEL, ("c:j", "c"))),
        ("operators/cancel/c:j/boss", Address(TopicKind.OPERATOR_CANCEL, ("c:j", "boss"))),
        ("jobs/progress/w/:j", Address(TopicKind.PROGRESS, ("w", ":j"))),
        ("system/stats/request/c", Address(TopicKind.STATS_REQUEST, ("c",))),
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
        ("jobs/queue/high/t/c/x", r"expected jobs/queue/\+/\+/\+ or jobs/queue/\+/\+$"),
        ("jobs/queue/high", r"expected jobs/queue/\+/\+/\+ or jobs/queue/\+/\+$"),
        ("jobs/queue/high/t/a:b", "not a valid ID"),
        ("jobs/cancel/a:b:c", "not a valid ID"),
        ("operators/query", r"expected operators/query/\+$"),
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
    expected = {pattern for topic in heard for pattern in topic.patterns(dispatcher_id="dispatcher")}
    assert set(filters) - {str(kind) for kind in LEGACY_PARENTS} == expected
    assert len(set(filters)) == len(filters)


def test_a_client_listens_to_its_own_jobs_and_to_shared_ones() -> None:
    assert topics.subscriptions(Role.CLIENT, "c") == (
        "jobs/receipt/c",
        "jobs/progress/+/+/c",
        "jobs/progress/+/+",
        "jobs/completed/+/c",
        "jobs/completed/+",
        "jobs/failed/+/c",
        "jobs/failed/+",
        "jobs/notice/c/+",
        "system/stats/response",
        "system/dispatcher",
    )


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic.bare], ids=lambda topic: str(topic.kind))
def test_a_bare_topic_lacks_the_client(topic: topics.Topic) -> None:
    assert topic.levels[-1] == OWN_LEVEL[Role.CLIENT]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: str(topic.kind))
def test_what_carries_the_id_of_a_client_is_read_by_others_only_if_they_are_operators(topic: topics.Topic) -> None:
    assert topic.watchers <= {Role.OPERATOR}


@pytest.mark.parametrize(
    ("topic", "sender"),
    [
        ("jobs/queue/low/echo/mallory", "mallory"),
        ("jobs/queue/urgent/+x/mallory", "mallory"),
        ("jobs/queue/low/echo", None),
        ("jobs/report/host-9", "host-9"),
        ("jobs/progress/host-9/j/alice", "host-9"),
        ("workers/disconnect/host-9", "host-9"),
        ("workers/heartbeat", None),
        ("jobs/receipt/alice", None),
        ("jobs/completed/j/alice", None),
        ("jobs/retry/j", None),
        ("no/such/topic", None),
        ("", None),
    ],
)
def test_the_sender_is_the_level_that_the_broker_verifies(topic: str, sender: str | None) -> None:
    assert topics.sender_of(topic) == sender
