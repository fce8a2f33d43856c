"""What a turn gets of what has arrived: bounded, fair to the senders, and acknowledged in order."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.adapters.mqtt import Delivery, LinkDown, LinkUp
from stockworker.protocol.body import MAX_LIST
from stockworker.protocol.packet import Packet
from stockworker.shell.arrivals import MOST_BYTES, MOST_ITEMS, MOST_WAITING, Arrivals

KIB = 1024


class Link:
    """Numbers the messages of one connection."""

    def __init__(self, generation: int = 1) -> None:
        self._generation = generation
        self._sent = 0

    def message(self, sender: str, size: int = 0, *, body: bytes | None = None, qos: int = 1) -> Delivery:
        self._sent += qos
        content = b"x" * size if body is None else body
        return Delivery(Packet(f"jobs/report/{sender}", content), self._sent if qos else 0, self._generation)


@pytest.fixture
def link() -> Link:
    return Link()


def put(*items: object) -> Arrivals[object]:
    arrivals: Arrivals[object] = Arrivals()
    for item in items:
        arrivals.put(item)
    return arrivals


def senders(items: Sequence[object]) -> list[str]:
    return [item.packet.topic.rpartition("/")[2] for item in items if isinstance(item, Delivery)]


# --- bounded ----------------------------------------------------------------------------------------------------------


def test_a_turn_gets_a_bounded_number_of_bytes(link: Link) -> None:
    arrivals = put(*(link.message("evil", 256 * KIB) for _ in range(100)))
    taken = arrivals.take()
    assert len(taken) == MOST_BYTES // (256 * KIB)
    assert len(arrivals.take()) == len(taken)


def test_a_turn_gets_a_bounded_number_of_items(link: Link) -> None:
    arrivals = put(*(link.message("w1") for _ in range(MOST_ITEMS + 1)))
    assert (len(arrivals.take()), len(arrivals.take()), arrivals.take()) == (MOST_ITEMS, 1, [])
    assert not arrivals


# --- fair -------------------------------------------------------------------------------------------------------------


def test_a_flood_delays_others_by_one_round(link: Link) -> None:
    flood = [link.message("evil", 256 * KIB) for _ in range(500)]
    arrivals = put(*flood, *(link.message("w1", 100) for _ in range(10)), link.message("w2", 100))
    assert Counter(senders(arrivals.take())) == {"w1": 10, "w2": 1}


@pytest.mark.parametrize("flood_first", [True, False])
def test_a_flood_of_small_jobs_gets_one_round_of_a_turn_that_others_need(link: Link, *, flood_first: bool) -> None:
    flood = [link.message("evil", body=b'{"jobs": [' + b"{}," * 20 + b"{}]}") for _ in range(500)]
    others = [link.message("w1", 100), link.message("w2", 100)]
    taken = senders(put(*(flood + others if flood_first else others + flood)).take())
    assert Counter(taken) == {"w1": 1, "w2": 1, "evil": 1}


def entries(link: Link, sender: str, count: int) -> Delivery:
    """A message with this number of small jobs or results."""
    return link.message(sender, body=b'{"jobs": [' + b",".join([b"{}"] * count) + b"]}")


@pytest.mark.parametrize("flood_first", [True, False])
@pytest.mark.parametrize("sender", ["evil", None], ids=["own topic", "bare topic"])
def test_a_flood_of_single_jobs_adds_at_most_the_work_of_another_sender(
    link: Link, *, flood_first: bool, sender: str | None
) -> None:
    """Turn after turn, others have 20 jobs and 20 results: the flood has as many jobs in a turn, and not more."""
    topic = "jobs/queue/normal/echo" if sender is None else f"jobs/queue/normal/echo/{sender}"
    flood = [Delivery(Packet(topic, b'"evil"'), number) for number in range(500)]
    arrivals = put(*flood)
    for _ in range(5):
        others = [entries(link, "c1", 20), entries(link, "w1", 20)]
        more = [Delivery(Packet(topic, b'"evil"'), number) for number in range(500, 520)]
        for item in more + others if flood_first else others + more:
            arrivals.put(item)
        taken = [item.packet.topic for item in arrivals.take() if isinstance(item, Delivery)]
        assert {"jobs/report/c1", "jobs/report/w1"} < set(taken)
        assert taken.count(topic) <= 20


def test_the_last_sender_of_a_turn_finishes_a_message_that_is_as_large_as_usual(link: Link) -> None:
    """Nothing floods here: no sender waits for the next turn because another one had less."""
    arrivals = put(link.message("w1", 100), entries(link, "c1", MAX_LIST))
    assert Counter(senders(arrivals.take())) == {"w1": 1, "c1": 1}


def test_a_sender_without_others_gets_the_whole_turn(link: Link) -> None:
    arrivals = put(*(link.message("bulk", 100) for _ in range(500)))
    assert len(arrivals.take()) == 500


def many_jobs(link: Link) -> Delivery:
    """A message with as many jobs as it may have."""
    return link.message("evil", body=b'{"jobs": [' + b"{}," * 255 + b"{}]}")


def test_what_a_whole_turn_gave_back_pays_for_no_later_turn(link: Link) -> None:
    """A turn without others takes several messages, and handles the first two."""
    arrivals = put(*(many_jobs(link) for _ in range(100)))
    taken = [item for item in arrivals.take() if isinstance(item, Delivery)]
    assert len(taken) > 10
    arrivals.put_back(taken[2:])
    arrivals.put(link.message("w1", 100))
    assert senders(arrivals.take()) == ["w1"]


def test_a_steady_sender_waits_for_one_message_of_a_flood_at_a_time(link: Link) -> None:
    """It has nothing in two of three turns. Turns handle up to two of the large messages, as the dispatcher's do."""
    arrivals = put(link.message("w1", 100), *(many_jobs(link) for _ in range(100)))
    for number in range(90):
        taken = [item for item in arrivals.take() if isinstance(item, Delivery)]
        assert senders(taken).count("evil") <= 1
        assert ("w1" in senders(taken)) == (number % 3 == 0)
        arrivals.put_back(taken[3:])
        if number % 3 == 2:
            arrivals.put(link.message("w1", 100))


def test_a_sender_has_the_whole_turn_again_after_others_were_quiet(link: Link) -> None:
    arrivals = put(link.message("w1", 100), *(link.message("bulk", 100) for _ in range(4000)))
    sizes = [len(arrivals.take()) for _ in range(34)]
    assert max(sizes[:32]) < 10
    assert sizes[-1] == MOST_ITEMS


def test_those_whose_messages_were_given_back_come_before_later_ones(link: Link) -> None:
    first, second, later = (link.message(name) for name in ("w1", "w2", "w3"))
    arrivals = put(link.message("evil"), first, second)
    assert len(arrivals.take()) == 3
    arrivals.put(later)
    arrivals.put_back([first, second])
    assert senders(arrivals.take())[-1] == "w3"


def test_a_sender_is_full_alone_and_until_its_messages_were_taken(link: Link) -> None:
    evil, other = link.message("evil", 256 * KIB, qos=0), link.message("w1", qos=0)
    arrivals = put(*[evil] * (MOST_WAITING // (256 * KIB)))
    assert not arrivals.is_full(evil)
    arrivals.put(evil)
    assert arrivals.is_full(evil)
    assert not arrivals.is_full(other)
    taken = [item for item in arrivals.take() if isinstance(item, Delivery)]
    assert not arrivals.is_full(evil)
    arrivals.put_back(taken)
    assert arrivals.is_full(evil)


def test_small_and_large_messages_get_the_same_bytes(link: Link) -> None:
    large = [link.message("large", 200 * KIB) for _ in range(100)]
    small = [link.message("small", 2 * KIB) for _ in range(5000)]
    arrivals = put(*large, *small)
    taken = senders(arrivals.take(most_items=5000))
    bytes_of = {"large": taken.count("large") * 202, "small": taken.count("small") * 4}
    assert 0.7 < bytes_of["large"] / bytes_of["small"] < 1.4


def test_what_happens_to_the_service_comes_first_and_in_order(link: Link) -> None:
    down, up = LinkDown("lost"), LinkUp()
    arrivals = put(link.message("w1"), down, "signal", up, link.message("w1"))
    assert arrivals.take()[:3] == [down, "signal", up]


def test_what_is_put_back_comes_before_later_messages_of_its_sender(link: Link) -> None:
    first, second, third = (link.message("w1") for _ in range(3))
    other = link.message("w2")
    arrivals = put(first, second)
    assert arrivals.take() == [first, second]
    arrivals.put(third)
    arrivals.put(other)
    arrivals.put_back([first, second])
    assert [item for item in arrivals.take() if item != other] == [first, second, third]


# --- acknowledged in order --------------------------------------------------------------------------------------------


def test_a_message_that_was_handled_early_is_acknowledged_in_its_turn(link: Link) -> None:
    first, second, third = link.message("evil"), link.message("w1"), link.message("evil")
    arrivals = put(first, second, third)
    assert arrivals.handled([second]) == []
    assert arrivals.handled([third, first]) == [first, second, third]


def test_each_message_is_passed_on_once_whatever_its_connection_and_quality_of_service(link: Link) -> None:
    """The link counts what is not acknowledged yet, see `Link.acknowledge`."""
    old, unconfirmed, new = link.message("w1"), link.message("w1", qos=0), Link(2).message("w1")
    arrivals = put(old, unconfirmed, new)
    assert arrivals.handled([new, unconfirmed]) == []
    assert arrivals.handled([old]) == [old, unconfirmed, new]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(["a", "b", "c"]), st.integers(0, 300) | st.just(200 * KIB)),
        st.tuples(st.just("turn"), st.integers(0, 9), st.integers(1, 400 * KIB)),
    ),
    max_size=60,
)


@given(steps)
def test_nothing_is_lost_and_each_sender_and_all_acknowledgements_are_in_order(
    taken_steps: list[tuple[str, str | int, int]],
) -> None:
    link, arrivals = Link(), put()
    arrived: list[Delivery] = []
    handled: list[Delivery] = []
    acknowledged: list[Delivery] = []

    def turn(left: int, most_bytes: int) -> None:
        taken = [item for item in arrivals.take(most_bytes=most_bytes) if isinstance(item, Delivery)]
        done = taken[: max(1, len(taken) - left)]
        arrivals.put_back(taken[len(done) :])
        handled.extend(done)
        acknowledged.extend(arrivals.handled(done))

    for step, what, number in taken_steps:
        if step == "put":
            arrived.append(link.message(str(what), number))
            arrivals.put(arrived[-1])
        else:
            turn(int(what), number)
    for _ in range(1000):
        if not arrivals:
            break
        turn(0, MOST_BYTES)
    assert acknowledged == arrived
    for name in "abc":
        assert [item for item in handled if senders([item]) == [name]] == [
            item for item in arrived if senders([item]) == [name]
        ]
