"""Whatever comes with the correlation of a question: a client gets an answer about what it asked, or an error."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockworker.adapters.mqtt_connection import LinkSettings
from stockworker.client import Client, make_submission
from stockworker.client.answers import FromDispatcher
from stockworker.errors import StockworkerError
from stockworker.logs.events import AnswerIgnored
from stockworker.protocol import codec
from stockworker.protocol.ids import ClientId, JobId
from stockworker.protocol.job_filter import JobFilter
from stockworker.protocol.messages import Answer, Receipt, ReceiptEntry, Reply, Stats
from stockworker.protocol.packet import Packet
from stockworker.protocol.views import JobView
from tests.harness.messages import of_class

NAME = ClientId("alice")
A, B, OTHER = JobId("a"), JobId("b"), JobId("of-others")

Ask = Callable[[Client], Awaitable[Any]]

QUESTIONS: Final[dict[str, Ask]] = {
    "submit": lambda client: client.submit("echo", id=A),
    "submit unique": lambda client: client.submit("echo", id=A, unique="daily"),
    "submit many": lambda client: client.submit_many([make_submission("echo", id=each) for each in (A, B)]),
    "cancel": lambda client: client.cancel(A),
    "retry": lambda client: client.retry(A),
    "pause": lambda client: client.pause("echo"),
    "resume": lambda client: client.resume("echo"),
    "drain": lambda client: client.drain("host-1"),
    "undrain": lambda client: client.undrain("host-1"),
    "query": lambda client: client.query([A, B]),
    "explain": lambda client: client.explain(A),
    "list": lambda client: client.list(JobFilter(limit=2)),
    "resolve": lambda client: client.resolve([A, B]),
    "details": lambda client: client.details(A),
    "stats": lambda client: client.stats(),
}

job_ids = st.sampled_from([A, B, OTHER])
entries = of_class(ReceiptEntry, job_id=st.none() | job_ids, holder=st.none() | job_ids)
receipts = of_class(Receipt, entries=st.lists(entries, max_size=3).map(tuple))
answers = of_class(
    Answer,
    jobs=st.lists(of_class(JobView, job_id=job_ids), max_size=3).map(tuple),
    omitted=st.lists(job_ids, max_size=2).map(tuple),
)
anything = st.one_of(receipts, answers, of_class(Receipt), of_class(Answer), of_class(Stats))


class _Answering:
    """A link over which each request is answered immediately with the same messages, under its correlation."""

    def __init__(self, messages: Sequence[FromDispatcher], receive: Callable[[Packet], None]) -> None:
        self._messages = messages
        self._receive = receive
        self.asked = 0

    async def send(self, packets: Sequence[Packet]) -> None:
        for packet in packets:
            self.asked += 1
            reply = Reply(NAME, str(packet.tag))
            for message in self._messages:
                self._receive(codec.encode(replace(message, reply=reply)))


async def _ask(ask: Ask, messages: Sequence[FromDispatcher]) -> tuple[Any, int]:
    client = Client(LinkSettings("127.0.0.1", 1, NAME), NAME, timeout_s=0.0)
    link = _Answering(messages, client._conversation._received)
    client._conversation._link = link  # type: ignore[assignment] # what it uses of a link
    try:
        return await ask(client), link.asked
    except StockworkerError as error:
        return error, link.asked


@pytest.mark.parametrize("question", QUESTIONS)
@settings(max_examples=30)  # for each of the questions
@given(messages=st.lists(anything, max_size=3))
def test_an_answer_is_about_what_was_asked(question: str, messages: list[FromDispatcher]) -> None:
    found, asked = asyncio.run(_ask(QUESTIONS[question], messages))

    assert asked <= 3, "an answer may name omitted jobs, but not the same ones for ever"
    match found:
        case str():
            declared = question == "submit unique"
            assert found == A or declared
        case ReceiptEntry(job_id=job_id):
            assert job_id in {A, None}
        case [*listed] if question not in {"list", "resolve"}:
            assert {each.job_id for each in listed} <= {A, B}
        case _:
            assert isinstance(found, list | Stats | StockworkerError) or found.job_id == A


def test_correlations_and_client_ids_have_nothing_in_common() -> None:
    """A reader of one of them can compute neither the next one nor the other."""
    sent: list[str] = []

    class _Recording(_Answering):
        async def send(self, packets: Sequence[Packet]) -> None:
            sent.extend(str(packet.tag) for packet in packets)

    async def ask_thrice() -> str:
        client = Client(LinkSettings("127.0.0.1", 1, NAME), NAME, timeout_s=0.0)
        own_id = client._conversation._link._settings.client_id
        client._conversation._link = _Recording((), client._conversation._received)  # type: ignore[assignment]
        for _ in range(3):
            with pytest.raises(StockworkerError):
                await client.stats()
        return own_id

    secrets = [*sent, asyncio.run(ask_thrice()).removeprefix(f"{NAME}-"), *sent]
    assert len(set(secrets)) == 4
    parts = [text[start : start + 8] for text in set(secrets) for start in range(len(text) - 7)]
    assert len(parts) == len(set(parts)), "no two secrets share 32 bits"
    assert all(len(text) == 32 for text in secrets), "128 bits each"


def test_an_ignored_answer_is_logged_for_developers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="stockworker.client"):
        asyncio.run(_ask(QUESTIONS["cancel"], [Answer(Reply(NAME), ())]))
    (event,) = [record.__dict__["event"] for record in caplog.records]
    assert event == AnswerIgnored(reason="this Answer does not answer the CancelJob that was sent")
