import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.worker.output import LONGEST_LINE, TAIL, Lines, Throttle


def test_a_throttle_admits_a_burst_and_then_a_rate() -> None:
    throttle = Throttle(burst=3, per_s=2.0)
    assert [throttle.admit(10.0) for _ in range(5)] == [True, True, True, False, False]
    assert throttle.refused == 2
    assert [throttle.admit(now) for now in (10.4, 10.5, 10.6, 11.0)] == [False, True, False, True]
    assert [throttle.admit(1000.0) for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), min_size=1)), st.data())
def test_lines_do_not_depend_on_how_they_were_cut(texts: list[str], data: st.DataObject) -> None:
    written = "\n".join(texts).encode()
    lines, found, position, now = Lines(), [], 0, 0.0
    while position < len(written):
        size = data.draw(st.integers(1, 7))
        found += lines.feed(written[position : position + size], now)
        position += size
        now += 1.0
    assert found + lines.finish() == texts
    assert lines.finish() == []


def test_empty_lines_are_left_out() -> None:
    assert Lines().feed(b"\none\n\n\ntwo\n", 0.0) == ["one", "two"]


@pytest.mark.parametrize("character", ["x", "\U0001f4c8"])
def test_a_line_without_end_is_cut_and_not_kept(character: str) -> None:
    lines = Lines()
    for _ in range(100):
        assert lines.feed(character.encode() * 1000, 0.0) == []
    assert len(lines._partial) <= 4 * LONGEST_LINE
    assert len(lines.tail) == TAIL
    assert lines.feed(b"\n", 0.0) == [character * LONGEST_LINE]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert Lines().feed(b"K\xe4ufer\n", 0.0) == ["K\ufffdufer"]


def test_lines_left_out_are_counted_before_the_next_one_and_at_the_end() -> None:
    lines = Lines()
    assert len(lines.feed(b"x\n" * 110, 0.0)) == 100
    assert lines.feed(b"later\n", 10.0) == ["(10 lines left out)", "later"]
    assert len(lines.feed(b"x\n" * 1000, 10.0)) == 99
    assert lines.finish() == ["(901 lines left out)"]
