"""The guess of which name was meant."""

import pytest

from stockworker.handlers.kinds import unknown
from stockworker.protocol.suggestion import suggestion

KNOWN = ("host", "port", "keepalive")


@pytest.mark.parametrize(("word", "meant"), [("hots", "host"), ("keep_alive", "keepalive"), ("Port", "port")])
def test_the_known_word_that_is_most_like_a_misspelled_one_is_suggested(word: str, meant: str) -> None:
    assert suggestion(word, KNOWN) == f"; did you mean '{meant}'?"


@pytest.mark.parametrize("word", ["", "tls", "certificate"])
def test_a_word_that_is_like_no_known_one_gets_no_suggestion(word: str) -> None:
    assert suggestion(word, KNOWN) == ""


def test_without_known_words_there_is_no_suggestion() -> None:
    assert suggestion("host", ()) == ""


def test_an_unknown_name_where_none_is_known_says_so() -> None:
    assert str(unknown("symbol", "ACME", ())) == (
        "unknown symbol 'ACME'; no symbol is stored here yet, so import its data first"
    )
