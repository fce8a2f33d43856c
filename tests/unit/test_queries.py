"""Queries that wait: clients take turns, and what has no room is dropped, counted and logged with its sender."""

from collections import Counter
from dataclasses import replace

import pytest

from stockworker.dispatcher.effects import Answered, RunQuery, ShowStats
from stockworker.dispatcher.outbox import Outbox
from stockworker.dispatcher.queries import MOST, MOST_OF_CLIENT, NOTE_EVERY_S, Queries
from stockworker.logs.events import QueriesDropped
from stockworker.protocol.ids import ClientId, JobId
from stockworker.protocol.messages import Query, Reply, StatsRequest
from stockworker.shell.turn import Now
from tests.harness.dispatching import MIDDAY, W1, DispatcherBook, request, submit

ALICE, BOB, EVIL = ClientId("alice"), ClientId("bob"), ClientId("evil")


def ask(client: ClientId, number: int = 1) -> Query:
    return Query((JobId("a"),), None, with_results=False, reply=Reply(client, str(number)))


class Desk:
    """Queries at a time that the test sets."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.outbox = Outbox(30.0)
        self.queries = Queries(self.counters, self.outbox)
        self.seconds = 0.0

    def add(self, *asked: Query | StatsRequest) -> None:
        for each in asked:
            self.queries.add(each, Now(MIDDAY + self.seconds, MIDDAY))

    def answer_all(self) -> list[Query | StatsRequest]:
        """Answer everything that waits; return it in the order of the answers."""
        asked = []
        while (each := self.queries.next()) is not None:
            asked.append(each[0])
            assert self.queries.next() is None, "one at a time"
            self.queries.answered()
        return asked

    def logged(self) -> list[object]:
        return list(self.outbox.flush((), ()))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_clients_take_turns(desk: Desk) -> None:
    desk.add(*(ask(EVIL, number) for number in range(40)), ask(ALICE), ask(BOB), ask(ALICE, 2))
    order = [each.client_id for each in desk.answer_all()]
    assert order == [EVIL, ALICE, BOB, EVIL, ALICE, *[EVIL] * 38]


def test_a_repeated_query_is_answered_once(desk: Desk) -> None:
    desk.add(ask(ALICE), ask(ALICE), ask(ALICE))
    assert len(desk.queries) == 1
    assert desk.answer_all() == [ask(ALICE)]


def test_surplus_of_a_client_is_dropped_counted_and_logged_once_a_minute(desk: Desk) -> None:
    desk.add(*(ask(EVIL, number) for number in range(1000)), ask(ALICE))
    assert len(desk.queries) == MOST_OF_CLIENT + 1
    assert desk.counters["queries_dropped"] == 1000 - MOST_OF_CLIENT
    assert desk.logged() == [QueriesDropped(client=EVIL, dropped=1)]
    desk.seconds = NOTE_EVERY_S
    desk.add(ask(EVIL, 1000))
    assert desk.logged() == [QueriesDropped(client=EVIL, dropped=1000 - MOST_OF_CLIENT)]
    assert desk.answer_all()[1] == ask(ALICE)


def test_without_room_the_client_with_the_most_loses_its_newest(desk: Desk) -> None:
    crowd = [ClientId(f"client-{number}") for number in range(MOST // MOST_OF_CLIENT)]
    desk.add(*(ask(client, number) for client in crowd for number in range(MOST_OF_CLIENT)))
    assert len(desk.queries) == MOST
    desk.add(ask(ALICE))
    assert len(desk.queries) == MOST
    answered = desk.answer_all()
    assert ask(ALICE) in answered
    assert ask(crowd[0], MOST_OF_CLIENT - 1) not in answered


def test_of_many_clients_the_first_are_answered(desk: Desk) -> None:
    crowd = [ask(ClientId(f"client-{number}")) for number in range(MOST + 5)]
    desk.add(*crowd)
    assert desk.answer_all() == crowd[:MOST]


def test_many_names_neither_fill_memory_nor_the_log(desk: Desk) -> None:
    for number in range(2000):
        client = ClientId(f"client-{number}")
        desk.add(*(ask(client, each) for each in range(MOST_OF_CLIENT + 1)))
    assert len(desk.queries) == MOST
    assert 0 < len(desk.logged()) <= 256


def test_statistics_wait_among_the_queries(desk: Desk) -> None:
    bare, named = StatsRequest(None), StatsRequest(Reply(ALICE), ALICE)
    desk.add(bare, bare, ask(ALICE), named, ask(BOB))
    assert desk.answer_all() == [bare, ask(ALICE), ask(BOB), named]


# --- in the machine ---------------------------------------------------------------------------------------------------


def test_a_turn_answers_one_query_and_the_next_when_that_is_done(dispatcher: DispatcherBook) -> None:
    first, second, stats = ask(EVIL, 1), ask(EVIL, 2), StatsRequest(Reply(BOB), BOB)
    machine = dispatcher.machine

    def answers(*events: Query | StatsRequest | Answered) -> list[Query | None]:
        effects = machine.handle(events, dispatcher.now())
        found = [effect for effect in effects if isinstance(effect, RunQuery | ShowStats)]
        return [effect.query if isinstance(effect, RunQuery) else None for effect in found]

    assert answers(first, second, stats) == [first]
    assert answers() == []
    assert answers(Answered()) == [None]
    assert answers(Answered()) == [second]
    assert answers(Answered()) == []


def test_an_explanation_looks_at_a_bounded_number_of_workers(dispatcher: DispatcherBook) -> None:
    ids = tuple(JobId(f"job-{number}") for number in range(64))
    for job_id in ids:
        dispatcher.turn([submit(job_id, reply=None)])
    query = replace(ask(ALICE), ids=ids, explain=True)
    (few,) = dispatcher.turn([query])
    assert isinstance(few, RunQuery)
    assert (len(few.why), few.most) == (64, 16_384)
    dispatcher.turn([request(type(W1)(f"w{number}"), types=[], window=0) for number in range(4096)])
    (many,) = dispatcher.turn([query])
    assert isinstance(many, RunQuery)
    assert (len(many.why), many.most) == (4, 4)
