"""What messages declare about their topics, against the table of topics."""

from typing import get_args

import pytest

from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import ClientId
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.messages import Answer, Message, Query, Receipt, Reply, on
from stockworker.protocol.topics import BY_KIND, TOPICS, TopicKind
from stockworker.protocol.wire import plan_of

MESSAGES = get_args(Message)
BESIDE_THE_FIELDS = {TopicKind.QUEUE, TopicKind.RECEIPT, TopicKind.QUERY, TopicKind.OPERATOR_QUERY}
BESIDE_THE_FIELDS |= {TopicKind.COMPLETED, TopicKind.FAILED, TopicKind.PROGRESS}
"""Topics with levels that come from the jobs of a submission, from the reply, or from the owner of the job."""


def test_every_topic_but_a_probe_carries_one_message() -> None:
    carried = [kind for cls in MESSAGES if cls is not Answer for kind in cls.topics]
    assert sorted(carried) == sorted(topic.kind for topic in TOPICS if not topic.to_self)


def test_an_answer_travels_where_a_receipt_does() -> None:
    assert Answer.topics == Receipt.topics == on(TopicKind.RECEIPT)


@pytest.mark.parametrize("cls", MESSAGES)
def test_the_levels_of_a_topic_are_fields_of_its_message(cls: type[Message]) -> None:
    declared = tuple(level.name for level in plan_of(cls).levels.values())
    assert [BY_KIND[kind].levels for kind in cls.topics.keys() - BESIDE_THE_FIELDS] == [
        declared for kind in cls.topics.keys() - BESIDE_THE_FIELDS
    ]


@pytest.mark.parametrize("cls", MESSAGES)
def test_several_topics_of_a_message_imply_different_values(cls: type[Message]) -> None:
    implied = [values for values in cls.topics.values() if values]
    assert all(implied.count(values) == 1 for values in implied)
    assert {name for values in implied for name in values} <= {*cls.__slots__}


def test_a_message_with_two_topics_declares_what_each_of_them_implies() -> None:
    assert on(TopicKind.DRAIN, drained=True) == {TopicKind.DRAIN: {"drained": True}}
    assert on(TopicKind.CANCEL) == {TopicKind.CANCEL: {}}


def test_a_list_has_a_hundred_jobs_where_its_filter_does_not_say_how_many() -> None:
    assert plan_of(JobFilter).read({}) == JobFilter(limit=100)


def test_a_client_asks_as_itself_unless_it_says_that_it_is_an_operator() -> None:
    assert not Query((), None, with_results=False, reply=Reply(ClientId("c"))).by_operator


def test_a_query_names_or_lists_a_thousand_jobs_at_most() -> None:
    assert plan_of(JobFilter).read({"limit": 1000}).limit == 1000
    with pytest.raises(FieldError):
        plan_of(JobFilter).read({"limit": 1001})
