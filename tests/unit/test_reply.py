"""The address of an answer, in MQTT 5 properties."""

import pytest

from stockworker.protocol.body import BATCH_CONTENT_TYPE
from stockworker.protocol.ids import ClientId
from stockworker.protocol.messages import Reply
from stockworker.protocol.packet import Properties
from stockworker.protocol.reply import answer_properties, read_reply, reply_properties


@pytest.mark.parametrize("reply", [None, Reply(ClientId("c")), Reply(ClientId("c"), "4711"), Reply(ClientId("c"), "")])
def test_a_reply_address_travels_as_properties(reply: Reply | None) -> None:
    assert read_reply(reply_properties(reply, BATCH_CONTENT_TYPE)) == reply


@pytest.mark.parametrize("topic", ["jobs/assign/w", "weather", "jobs/receipt/a/b", "jobs/receipt/+", ""])
def test_only_the_reply_topic_of_a_client_is_an_address(topic: str) -> None:
    assert read_reply(Properties(response_topic=topic)) is None


@pytest.mark.parametrize("correlation", [b"\xff", b"x" * 129])
def test_an_invalid_correlation_is_left_out(correlation: bytes) -> None:
    properties = Properties(response_topic="jobs/receipt/c", correlation_data=correlation)
    assert read_reply(properties) == Reply(ClientId("c"), None)


def test_an_answer_repeats_the_correlation_only() -> None:
    assert answer_properties(Reply(ClientId("c"), "4711")) == Properties(correlation_data=b"4711")
