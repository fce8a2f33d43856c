"""Requests of a client: each is sent again until it is answered, or until its time is over."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, cast

import pytest

from stockworker.adapters.mqtt import Delivery, LinkItem, LinkUp
from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.client import conversation as module
from stockworker.client.conversation import Conversation
from stockworker.errors import ConnectionFailed, NoAnswer
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId
from stockworker.protocol.messages import Query, Receipt, ReceiptEntry, ReceiptStatus, Reply, RetryJob
from stockworker.protocol.packet import Packet
from tests.harness.waiting import until

ANN = ClientId("ann")


class RecordingLink:
    """Connects immediately, and records what is sent."""

    def __init__(self, _settings: LinkSettings, deliver: Callable[[LinkItem], None]) -> None:
        self.deliver = deliver
        self.sent: list[Packet] = []
        self._closed = asyncio.Event()

    async def run(self) -> None:
        self.deliver(LinkUp())
        await self._closed.wait()

    async def send(self, packets: Sequence[Packet]) -> None:
        self.sent += packets

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        list(deliveries)

    async def close(self) -> None:
        self._closed.set()

    def answer(self, packet: Packet) -> None:
        """Answer a request as the dispatcher does."""
        message = codec.decode(packet)
        assert isinstance(message, RetryJob)
        assert message.reply is not None
        receipt = Receipt(message.reply, (ReceiptEntry(message.job_id, ReceiptStatus.REOPENED),))
        self.deliver(Delivery(codec.encode(receipt), 1, 1))


def play(
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[Conversation, RecordingLink], Coroutine[Any, Any, None]],
    timeout_s: float = 30.0,
) -> None:
    monkeypatch.setattr(module, "Link", RecordingLink)
    monkeypatch.setattr(module, "_REPEAT_S", 0.01)

    async def main() -> None:
        conversation = Conversation(
            LinkSettings("localhost", 1, "ann"),
            ANN,
            timeout_s=timeout_s,
            filters=(),
            receive=lambda _message: None,
            link_changed=lambda _problem: None,
        )
        await conversation.open()
        link = cast("RecordingLink", conversation._link)
        async with asyncio.timeout(30):
            await story(conversation, link)
        await conversation.close()

    asyncio.run(main())


def retry(job_id: str) -> Callable[[Reply], RetryJob]:
    return lambda reply: RetryJob(JobId(job_id), reply)


def test_a_request_is_sent_again_unchanged_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(conversation: Conversation, link: RecordingLink) -> None:
        asked = asyncio.create_task(conversation.ask(retry("a")))
        await until(lambda: len(link.sent) >= 3, "the request is repeated")
        link.answer(link.sent[0])
        receipt = await asked
        assert receipt.entries[0].status is ReceiptStatus.REOPENED
        assert {(packet.topic, packet.properties, packet.tag) for packet in link.sent} == {
            (link.sent[0].topic, link.sent[0].properties, link.sent[0].tag)
        }

    play(monkeypatch, story)


def test_requests_are_repeated_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(conversation: Conversation, link: RecordingLink) -> None:
        asked = [asyncio.create_task(conversation.ask(retry(name))) for name in "ab"]
        await until(lambda: all(_count(link, name) >= 3 for name in "ab"), "both are repeated")
        for packet in link.sent[:2]:
            link.answer(packet)
        assert {receipt.entries[0].job_id for receipt in await asyncio.gather(*asked)} == {"a", "b"}

    play(monkeypatch, story)


def _count(link: RecordingLink, name: str) -> int:
    return sum(packet.topic.endswith(f"/{name}") for packet in link.sent)


def test_without_an_answer_a_request_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(conversation: Conversation, link: RecordingLink) -> None:
        with pytest.raises(NoAnswer, match="no dispatcher answers"):
            await conversation.ask(lambda reply: Query((), None, with_results=False, reply=reply))
        assert len(link.sent) >= 2

    play(monkeypatch, story, timeout_s=0.1)


def test_a_closed_conversation_ends_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(conversation: Conversation, link: RecordingLink) -> None:
        asked = asyncio.create_task(conversation.ask(retry("a")))
        await until(lambda: bool(link.sent), "the request is sent")
        await conversation.close()
        with pytest.raises(ConnectionFailed, match="closed"):
            await asked

    play(monkeypatch, story)
