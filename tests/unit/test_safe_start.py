"""The mark of a dispatcher that has not yet run well."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from stockworker.adapters.start_mark import StartMark
from stockworker.dispatcher.safe_start import HEALTHY_S, MarkedTurns, read_mark
from stockworker.protocol.packet import Packet
from stockworker.shell.turn import CommonInput, LinkChanged, Now, TurnOutput

STARTED = 1000.0
SOON, LATER = Now(STARTED + 1.0, 0.0), Now(STARTED + HEALTHY_S, 0.0)
NOTHING = TurnOutput((), ())


class RecordingTurns:
    """Records the mark during each turn; `broken` raises instead."""

    def __init__(self, mark: StartMark) -> None:
        self.marks: list[str | None] = []
        self.broken = False
        self._mark = mark

    def take(self, _items: Sequence[CommonInput | object], _now: Now) -> TurnOutput:
        self.marks.append(self._mark.read())
        if self.broken:
            raise ArithmeticError
        return NOTHING

    def next_in_s(self, now: Now) -> float:
        return now.steady


@pytest.fixture
def mark(tmp_path: Path) -> StartMark:
    return StartMark(tmp_path / "jobs.sqlite3")


def test_the_mark_holds_the_topics_of_the_turn_that_does_not_end(mark: StartMark) -> None:
    inner = RecordingTurns(mark)
    turns = MarkedTurns[object, TurnOutput](inner, mark, STARTED, 3)
    turns.take([Packet("a/1", b""), LinkChanged(up=True), Packet("a/2", b""), Packet("a/1", b"")], SOON)
    assert (inner.marks, mark.read()) == (["3 a/1 a/2"], "3 ")
    inner.broken = True
    with pytest.raises(ArithmeticError):
        turns.take([Packet("a/3", b"")], SOON)
    assert mark.read() == "3 a/3"


def test_the_mark_exists_from_the_start(mark: StartMark) -> None:
    MarkedTurns[object, TurnOutput](RecordingTurns(mark), mark, STARTED, 3)
    assert read_mark(mark.read()) == (3, "")


@pytest.mark.parametrize(
    ("text", "read"),
    [(None, (0, "")), ("", (0, "")), ("damaged", (0, "")), ("2 ", (2, "")), ("2 a/1 a/2", (2, "a/1 a/2"))],
)
def test_a_mark_that_is_missing_or_damaged_counts_nothing(text: str | None, read: tuple[int, str]) -> None:
    assert read_mark(text) == read


def test_the_mark_has_a_bound(mark: StartMark) -> None:
    inner = RecordingTurns(mark)
    MarkedTurns[object, TurnOutput](inner, mark, STARTED, 3).take(
        [Packet(f"{each}{'x' * 60_000}", b"") for each in range(1000)], SOON
    )
    assert len(inner.marks[0] or "") < 5_000


def test_a_process_that_has_run_well_has_no_mark(mark: StartMark) -> None:
    inner = RecordingTurns(mark)
    turns = MarkedTurns[object, TurnOutput](inner, mark, STARTED, 3)
    turns.take([], LATER)
    inner.broken = True
    with pytest.raises(ArithmeticError):
        turns.take([Packet("a/1", b"")], LATER)
    assert inner.marks == [None, None]
    assert mark.read() is None


def test_the_next_turn_is_that_of_the_turns(mark: StartMark) -> None:
    assert MarkedTurns[object, TurnOutput](RecordingTurns(mark), mark, STARTED, 3).next_in_s(SOON) == SOON.steady


def test_without_a_disk_there_is_no_mark(tmp_path: Path) -> None:
    mark = StartMark(tmp_path / "missing" / "jobs.sqlite3")
    mark.write("a")
    mark.remove()
    assert mark.read() is None


def test_a_shorter_text_leaves_nothing_of_a_longer_one(mark: StartMark) -> None:
    for text in ("1 jobs/queue/high/\N{EURO SIGN}", "1 ", "2 a"):
        mark.write(text)
        assert mark.read() == text
    mark.remove()
    mark.write("3 ")
    assert mark.read() == "3 "
