"""When a link talks to itself, how it measures that, and when it misses its own voice."""

import pytest

from stockworker.adapters.mqtt_echo import Echo, is_delayed

EARLIER = -1.0


def come_back(echo: Echo, sent_at: float, took_s: float, received_at: float = EARLIER) -> float | None:
    """One echo, there and back."""
    body = echo.next(sent_at)
    assert body is not None
    assert echo.returned(body, sent_at + took_s / 2, received_at) is None
    return echo.acknowledged(sent_at + took_s, received_at)


def test_the_first_five_follow_each_other_and_are_measured() -> None:
    echo = Echo(every_s=30.0, patience_s=10.0, now=0.0)
    at, medians = 0.0, []
    for took_s in (0.5, 0.25, 2.0, 0.25, 0.5):
        medians.append(come_back(echo, at, took_s))
        at += took_s
    assert medians == [None, None, None, None, 0.5]
    assert echo.next(at) is None
    assert come_back(echo, 33.0, 9.0) is None


def test_what_waits_behind_other_messages_is_not_measured() -> None:
    echo = Echo(every_s=30.0, patience_s=10.0, now=0.0)
    assert come_back(echo, 0.0, 1.0, received_at=0.5) is None
    assert echo.next(29.0) is None
    medians = [come_back(echo, 30.0 + number, 0.125) for number in range(5)]
    assert medians == [None, None, None, None, 0.125]


def test_there_is_one_at_a_time_and_an_old_one_does_not_count() -> None:
    echo = Echo(every_s=30.0, patience_s=10.0, now=0.0)
    come_back(echo, 0.0, 1.0)
    body = echo.next(1.0)
    assert body is not None
    assert echo.next(100.0) is None
    echo.acknowledged(2.0, EARLIER)
    echo.returned(b"1", 2.0, EARLIER)
    assert echo.missing_at(EARLIER) == 11.0
    echo.returned(body, 100.0, EARLIER)
    assert echo.missing_at(EARLIER) is None


def test_it_is_missing_when_nothing_arrives_for_too_long() -> None:
    echo = Echo(every_s=30.0, patience_s=10.0, now=0.0)
    assert echo.missing_at(EARLIER) is None
    echo.next(100.0)
    assert echo.missing_at(EARLIER) == 110.0
    assert echo.missing_at(received_at=105.0) == 115.0


def test_what_the_broker_denies_is_not_said_again_and_not_missed() -> None:
    echo = Echo(every_s=30.0, patience_s=10.0, now=0.0)
    echo.next(0.0)
    echo.bar()
    assert echo.next(1000.0) is None
    assert echo.missing_at(EARLIER) is None


@pytest.mark.parametrize(
    ("round_trip_s", "network_s", "delayed"),
    [(0.041, 0.0001, True), (0.034, 0.0001, False), (0.041, 0.005, False), (0.041, 4294.967295, False)],
)
def test_only_a_near_broker_can_be_too_late(round_trip_s: float, network_s: float, delayed: bool) -> None:  # noqa: FBT001 (a column of the table)
    assert is_delayed(round_trip_s, network_s) is delayed
