"""A byte order mark before JSON is named: no editor and no log shows it."""

import pytest

from stockworker.handlers.spec import Limits
from stockworker.protocol.fields import FieldError, parse_json, parse_json_at
from stockworker.protocol.ids import Token
from stockworker.worker.outcome import judge_command

NAMED = r"begins with a byte order mark \(BOM\), .*; save it as UTF-8 without BOM"


def test_in_a_payload() -> None:
    with pytest.raises(FieldError, match=NAMED):
        parse_json('\ufeff{"a": 1}')
    with pytest.raises(FieldError, match=NAMED):
        parse_json_at('\ufeff{"a": 1}', 0)


def test_in_the_output_of_a_command() -> None:
    result = judge_command(Token("t"), 0, '\ufeff{"a": 1}'.encode(), b"", Limits())
    assert result.error is not None
    assert "standard output is not a result: it begins with a byte order mark" in result.error


def test_inside_of_a_text_it_is_a_character() -> None:
    assert parse_json('"\ufeff"') == "\ufeff"
