"""How values are written on the command line."""

import argparse

import pytest

from stockworker.adapters import clock
from stockworker.config.kinds import integer
from stockworker.terminal import arguments


@pytest.mark.parametrize(
    ("written", "unix_s"),
    [
        ("2026-05-01T09:30:00Z", 1777627800.0),
        ("2026-05-01T11:30:00+02:00", 1777627800.0),
        ("2026-05-01 09:30:00.5Z", 1777627800.5),
    ],
)
def test_a_moment_is_rfc_3339(written: str, unix_s: float) -> None:
    assert arguments.moment(written) == unix_s


@pytest.mark.parametrize(("written", "delay_s"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("2d", 172800)])
def test_a_moment_may_count_from_now(written: str, delay_s: float) -> None:
    before = clock.wall()
    assert before + delay_s <= arguments.moment(written) <= clock.wall() + delay_s


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("2026-05-01T09:30:00", "has no time zone; add Z for UTC"),
        ("tomorrow", "must be a time such as"),
        ("5", "must be a time such as"),
        ("1777627800", "must be a time such as"),
        ("4000d", "must be a duration, "),
        ("", "must be a time such as"),
    ],
)
def test_what_is_no_moment(written: str, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        arguments.moment(written)


@pytest.mark.parametrize(
    ("parse", "written"),
    [
        (arguments.identifier, "a/b"),
        (arguments.timeout, "0"),
        (arguments.argument(integer(1, 3)), "0"),
        (arguments.whole_number(1, 10), "11"),
    ],
)
def test_what_is_out_of_bounds_is_refused_with_what_is_allowed(parse: arguments.Parse, written: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be"):
        parse(written)
