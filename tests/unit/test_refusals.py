"""The answer to the sender of a message that can't be decoded."""

import pytest

from stockworker.dispatcher.turn import refusal
from stockworker.errors import DecodeError
from stockworker.protocol import codec
from stockworker.protocol.body import MAX_TEXT
from stockworker.protocol.ids import ClientId, JobId, WorkerId
from stockworker.protocol.messages import Ack, Message, Receipt, ReceiptEntry, ReceiptStatus, Reply
from stockworker.protocol.packet import NO_PROPERTIES, Packet, Properties

OWN, SHARED = "jobs/queue/normal/echo/client", "jobs/queue/normal/echo"
NAMED = (("id", "aapl-1"),)


def refused(topic: str, properties: Properties = NO_PROPERTIES, reason: str = "is not JSON") -> list[Message]:
    messages = refusal(Packet(topic, b"{", properties=properties), DecodeError(topic, reason))
    for message in messages:
        codec.encode(message)
    return messages


def rejected(job_id: str | None, client: str = "client", reason: str = "is not JSON") -> Receipt:
    entry = ReceiptEntry(None if job_id is None else JobId(job_id), ReceiptStatus.REJECTED, reason)
    return Receipt(Reply(ClientId(client)), (entry,))


@pytest.mark.parametrize(
    ("topic", "properties", "expected"),
    [
        ("jobs/report/w1", Properties(), Ack(WorkerId("w1"), error="is not JSON")),
        (OWN, Properties(), rejected(None)),
        (OWN, Properties(user=NAMED), rejected("aapl-1")),
        (OWN, Properties(user=(("id", "not valid"),)), rejected(None)),
        (OWN, Properties(response_topic="jobs/receipt/other"), rejected(None)),
        (SHARED, Properties(response_topic="jobs/receipt/other", user=NAMED), rejected("aapl-1", "other")),
    ],
)
def test_the_sender_is_answered(topic: str, properties: Properties, expected: Message) -> None:
    assert refused(topic, properties) == [expected]


@pytest.mark.parametrize("topic", [SHARED, "jobs/queue/normal/not valid/x", "jobs/completed/a"])
def test_without_an_address_nothing_is_sent(topic: str) -> None:
    assert refused(topic) == []


def test_a_long_reason_is_cut() -> None:
    reason = "x" * (MAX_TEXT + 1)
    assert refused(OWN, reason=reason) == [rejected(None, reason=reason[:MAX_TEXT])]
    assert refused("jobs/report/w1", reason=reason) == [Ack(WorkerId("w1"), error=reason[:MAX_TEXT])]
