"""The topics of an old worker: records, and filters."""

import pytest

from stockworker.migration.decoding import MigratedJob, decode
from stockworker.migration.mapping_file import read_mapping
from stockworker.migration.source import Found
from stockworker.migration.topics import claim_id, matches, topic_record
from stockworker.protocol.job import Priority


def test_a_record_has_the_levels_of_its_topic() -> None:
    record = topic_record("jobs/queue/high/mail/7", b"{}")
    assert record == {
        "topic": "jobs/queue/high/mail/7",
        "levels": ["jobs", "queue", "high", "mail", "7"],
        "priority": "high",
        "type": "mail",
        "body": b"{}",
        "claim_id": "jobs/queue/high/mail/7#7ffc09e83247d4cb82580476",
    }


@pytest.mark.parametrize(
    ("topic", "priority", "kind"),
    [("jobs/queue/low", "low", None), ("jobs/queue", None, None), ("jobs/assign/w/x", None, None), ("a", None, None)],
)
def test_other_topics_have_no_priority_and_type(topic: str, priority: str | None, kind: str | None) -> None:
    record = topic_record(topic, b"")
    assert (record["priority"], record["type"]) == (priority, kind)


def test_each_topic_and_body_is_a_message_of_its_own() -> None:
    messages = [("a", b"b"), ("a", b"c"), ("b", b"b"), ("a\0b", b""), ("a", b"\0b")]
    assert len({claim_id(*each) for each in messages}) == len(messages)
    assert claim_id("a", b"b") == claim_id("a", b"b")


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("jobs/queue/#", "jobs/queue/high/mail", True),
        ("jobs/queue/#", "jobs/queue", True),
        ("jobs/queue/#", "jobs/assign/w", False),
        ("jobs/queue/+/mail", "jobs/queue/low/mail", True),
        ("jobs/queue/+/mail", "jobs/queue/low/mail/x", False),
        ("jobs/queue/+", "jobs/queue", False),
        ("jobs/queue/low", "jobs/queue/low", True),
        ("$share/workers/jobs/queue/#", "jobs/queue/high/mail", True),
        ("#", "jobs", True),
        ("#", "$SYS/broker", False),
        ("+/broker", "$SYS/broker", False),
        ("$SYS/#", "$SYS/broker", True),
    ],
)
def test_filters(topic_filter: str, topic: str, expected: bool) -> None:  # noqa: FBT001
    assert matches(topic_filter, topic) is expected


def test_the_preset_reads_the_envelope_of_the_old_guide() -> None:
    body = b'{"id": 17, "type": "mail", "payload": {"to": "x"}, "attempts": 1}'
    found = Found(1, topic_record("jobs/queue/high/mail", body))
    job = decode(found, read_mapping(None, "mqtt"), "mqtt://h:1883", 0.0)
    assert isinstance(job, MigratedJob)
    made = job.submission
    assert (made.type, made.priority, made.payload, made.max_attempts) == ("mail", Priority.HIGH, '{"to":"x"}', 2)
