"""Reads the records of a JSON file one by one, and accepts what a parser of the whole text accepts."""

import io
import json
from typing import Any

import pytest

from stockworker.market.json_records import LONGEST_RECORD, NotRecords, read_records

LONG = "x" * 50_000


def records(text: str) -> list[Any]:
    return list(read_records(io.StringIO(text)))


@pytest.mark.parametrize(
    "value", [[], [1], [1, "a", None, True, {"a": [{}]}, -1.5e3], [LONG] * 20, [' "\\,]}'], list(range(100_000))]
)
def test_the_values_of_a_list_are_its_records(value: list[Any]) -> None:
    for text in (json.dumps(value), f" \n\t\r{json.dumps(value, indent=3)}\n ", json.dumps({"bars": value})):
        assert records(text) == value


def test_other_values_beside_the_list_are_ignored() -> None:
    assert records('{"meta": {"bars": [1]}, "bars": [2, 3], "next": null}') == [2, 3]
    assert records('{"a": 1,"bars" : [ ] , "b":[[]]}') == []


@pytest.mark.parametrize(
    "text",
    ["", " ", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1]]", "[1],", "{", "{}", '{"bars"}', '{"bars":', '{"bars":[1]',
     '{"bars":[1],}', '{"bars":[1]} x', '{"bars":[1],"bars":[2]}', '{"bars":1}', "{bars:[1]}", '{1:2,"bars":[1]}', "5",
     "nul", '"a', "[NaN]", "[-Infinity]", "[01]", "[1.]", "['a']", '["\n"]', "[" * 200_000, '[{"a":' * 30_000, "[\u00a01]",
     "[" + "9" * 5_000 + "]", "[1,\x0b2]"],
)  # fmt: skip
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(NotRecords):
        records(text)


@pytest.mark.parametrize(
    "value", ["x" * LONGEST_RECORD, "x" * 10 * LONGEST_RECORD, 5 * [LONG], {LONG: LONG}, [1] * 40_000]
)
def test_a_long_record_is_refused(value: Any) -> None:
    for text in (json.dumps([value]), f"[{json.dumps(value)}, 5]"):
        with pytest.raises(NotRecords, match="65,536 characters"):
            records(text)


def test_a_long_list_beside_the_records_is_skipped_piece_by_piece() -> None:
    for value in (5 * [LONG], {LONG: LONG}, [1] * 40_000):
        assert records(json.dumps({"a": value, "bars": [1]})) == [1]
    with pytest.raises(NotRecords, match="65,536 characters"):
        records(json.dumps({"a": ["x" * LONGEST_RECORD], "bars": [1]}))


def test_a_number_is_not_cut_where_a_part_of_the_text_ends() -> None:
    for length in range(LONGEST_RECORD - 3, LONGEST_RECORD + 3):
        for text in (f"[{' ' * length}12345]", f"[{' ' * length * 2}12345]"):
            assert records(text) == [12345]


def test_an_error_names_the_place_in_the_whole_text() -> None:
    with pytest.raises(NotRecords, match=r"is not JSON: expected ',' or '\]' at character 400001"):
        records(f"[{'1' + ' ' * 399_999}x]")
