"""Sizes and lists of messages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.protocol.body import (
    _BODY_ENVELOPE,
    ENTRY_ENVELOPE,
    MAX_BODY,
    MAX_CONTENT,
    MAX_LIST,
    content_size,
    fits,
    in_batches,
    make_packet,
    sendable,
)
from stockworker.protocol.topics import TopicKind


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_size_of_a_content_is_that_of_its_json_string(text: str) -> None:
    assert content_size(text) == len(json.dumps(text, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("letter", "size"), [("a", 1), ("\u00e4", 2), ("\u20ac", 3), ("\x1f", 6), ("\U0001f4c8", 4), ('"', 2)]
)
def test_a_content_fits_up_to_the_last_byte(letter: str, size: int) -> None:
    most = (MAX_CONTENT - 2) // size
    assert fits(letter * most)
    assert not fits(letter * (most + 1))


def test_batches_keep_the_order_and_are_no_longer_than_allowed() -> None:
    batches = list(in_batches(range(150), lambda _: 10))
    assert [len(batch) for batch in batches] == [MAX_LIST, MAX_LIST, 150 - 2 * MAX_LIST]
    assert [item for batch in batches for item in batch] == list(range(150))


def test_large_items_travel_in_smaller_batches() -> None:
    assert [len(batch) for batch in in_batches("abcde", lambda _: MAX_BODY // 3)] == [2, 2, 1]


def test_what_utf_8_can_not_hold_is_replaced() -> None:
    assert sendable("a\ud800b", 2) == "a?"


def test_a_batch_may_be_exactly_full() -> None:
    room = MAX_BODY - _BODY_ENVELOPE
    sizes = [room // 2 - ENTRY_ENVELOPE, room - room // 2 - ENTRY_ENVELOPE] * 2
    assert [len(batch) for batch in in_batches(sizes, int)] == [2, 2]


def test_an_item_that_fills_a_message_travels_alone() -> None:
    assert list(in_batches([MAX_CONTENT, MAX_CONTENT], int)) == [(MAX_CONTENT,), (MAX_CONTENT,)]


def test_of_nothing_there_is_no_batch() -> None:
    assert list(in_batches((), len)) == []


def test_a_packet_names_its_schema() -> None:
    packet = make_packet(TopicKind.MONITOR, "system/monitor", ',"here":0')
    assert json.loads(packet.body) == {"schema": 1, "here": 0}
