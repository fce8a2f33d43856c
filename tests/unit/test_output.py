import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.protocol.attempt import AttemptOutput
from stockworker.protocol.body import content_size
from stockworker.worker.output import (
    LONGEST_LINE,
    TAIL,
    KeptOutput,
    Lines,
    Throttle,
    fit_in_message,
    last_bytes,
)


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


# --- what is kept with an attempt ---


def kept(most: int, *chunks: bytes) -> AttemptOutput | None:
    output = KeptOutput(most)
    for chunk in chunks:
        output.add(chunk)
    return output.take()


def test_all_of_a_short_output_is_kept_as_it_was_written() -> None:
    assert kept(10, b"a\n", b"\0b\x1b[0m") == AttemptOutput("a\n\0b\x1b[0m", 0)
    assert kept(3, b"abc") == AttemptOutput("abc", 0)


def test_the_end_of_a_long_output_is_kept_and_the_rest_is_counted() -> None:
    assert kept(3, b"abcd") == AttemptOutput("bcd", 1)
    assert kept(3, *[b"0123456789"] * 1000) == AttemptOutput("789", 9997)
    assert kept(3, b"x" * 1000, b"ab") == AttemptOutput("xab", 999)


@given(st.lists(st.binary(max_size=20)), st.integers(1, 30))
def test_no_more_than_the_end_is_kept_in_memory_and_no_byte_is_lost_uncounted(chunks: list[bytes], most: int) -> None:
    written = b"".join(chunks)
    output = KeptOutput(most)
    for chunk in chunks:
        output.add(chunk)
        assert len(output._end) <= 2 * most + 20
    taken = output.take() or AttemptOutput("")
    assert written[taken.omitted :].decode(errors="replace") == taken.text
    assert len(written) - taken.omitted <= most


def test_a_character_is_not_cut() -> None:
    assert kept(3, "aä€".encode()) == AttemptOutput("€", 3)
    assert kept(2, "aä€".encode()) == AttemptOutput("", 6)
    assert kept(4, "aä€".encode()) == AttemptOutput("€", 3)
    assert kept(4, b"x" + b"\x80" * 6) == AttemptOutput("\ufffd", 6)


def test_nothing_is_kept_of_no_output_and_with_0_bytes() -> None:
    assert kept(10) is None
    assert kept(10, b"") is None
    assert kept(0, b"text") is None


def test_what_is_not_kept_elsewhere_is_counted_too() -> None:
    output = KeptOutput(4)
    output.omit(7)
    assert output.take() == AttemptOutput("", 7)
    output.add(b"12345")
    assert output.take() == AttemptOutput("2345", 8)


def test_the_last_bytes_of_an_output_end_it() -> None:
    output = AttemptOutput("abcä", 10)
    assert last_bytes(output, 5) == output
    assert last_bytes(output, 4) == AttemptOutput("bcä", 11)
    assert last_bytes(output, 1) == AttemptOutput("", 15)
    assert last_bytes(output, 0) == AttemptOutput("", 15)
    assert last_bytes(output, -3) == AttemptOutput("", 15)


def test_an_output_is_cut_to_its_room_as_a_json_string() -> None:
    output = AttemptOutput("\x1b" * 10 + "ä", 1)
    assert content_size(output.text) == 64
    assert fit_in_message(output, 64) is output
    assert fit_in_message(output, 63) == AttemptOutput("\x1b" * 9 + "ä", 2)
    assert fit_in_message(output, 58) == AttemptOutput("\x1b" * 9 + "ä", 2)
    assert fit_in_message(output, 57) == AttemptOutput("\x1b" * 8 + "ä", 3)
    assert fit_in_message(output, 4) == AttemptOutput("ä", 11)
    assert fit_in_message(output, 3) == AttemptOutput("", 13)
