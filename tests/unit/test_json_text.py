"""JSON text: compact, and nothing but JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockworker.protocol.json_text import flag_text, json_text, number_text, quoted, quoted_content


@pytest.mark.parametrize("value", ["", 'a "quote"', "line\nbreak\u2028", "é😀\x00", "\\"])
def test_a_string_is_quoted(value: str) -> None:
    assert quoted(value) == json_text(value)
    assert json.loads(quoted(value)) == value


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["", "x" * 4096, '"\\' * 2048]))
def test_a_long_string_is_quoted_like_a_short_one(value: str, more: str) -> None:
    assert quoted_content(value + more + value) == quoted(value + more + value)


@pytest.mark.parametrize("value", [0, 7, -1.5, 0.1, 1e300, 5e-324, True])
def test_a_number_is_written_so_that_it_is_read_again(value: float) -> None:
    assert number_text(value) == json_text(value)
    assert json.loads(number_text(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        number_text(value)


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false")])
def test_a_flag_is_a_word(value: Any, text: str) -> None:
    assert flag_text(value) == text
