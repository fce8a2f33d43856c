"""Untrusted JSON: strict parsing, bounds, and errors that name the path of the field."""

from collections.abc import Callable
from enum import StrEnum

import pytest

from stockworker.protocol.fields import (
    FieldError,
    Fields,
    check_choice,
    check_flag,
    check_identifier,
    check_integer,
    check_list,
    check_number,
    check_object,
    check_text,
    parse_json,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def integer(value: object) -> int:
    return check_integer(value, 1, 10)


def number(value: object) -> float:
    return check_number(value, 0.0, 10.0)


def short_text(value: object) -> str:
    return check_text(value, longest=3)


def colour(value: object) -> Colour:
    return check_choice(value, Colour)


def flags(value: object) -> tuple[bool, ...]:
    return check_list(value, check_flag, most=2)


@pytest.mark.parametrize(
    ("check", "value", "expected"),
    [
        (integer, 1, 1),
        (integer, 10, 10),
        (number, 10, 10.0),
        (number, 0.5, 0.5),
        (short_text, "abc", "abc"),
        (check_flag, False, False),
        (check_identifier, "host-1", "host-1"),
        (colour, "red", Colour.RED),
        (flags, [True, False], (True, False)),
        (check_object, {"a": 1}, {"a": 1}),
    ],
)
def test_a_legal_value_is_accepted_up_to_its_bounds(
    check: Callable[[object], object], value: object, expected: object
) -> None:
    accepted = check(value)
    assert accepted == expected
    assert type(accepted) is type(expected)


@pytest.mark.parametrize(
    ("check", "value", "problem"),
    [
        (integer, 0, "must be from 1 to 10"),
        (integer, 11, "must be from 1 to 10"),
        (integer, True, "expected a whole number, got true or false"),
        (integer, 1.0, "expected a whole number, got the number 1.0"),
        (number, -0.1, "must be from 0 to 10"),
        (number, float("inf"), "expected a number"),
        (number, False, "expected a number, got true or false"),
        (number, 1 << 60, "expected a number"),
        (number, 1 << 53, "expected a number"),
        (short_text, "abcd", "is longer than 3 characters"),
        (short_text, None, "expected a string, got null"),
        (short_text, "\ud800", "lone surrogate"),
        (check_flag, 1, "expected true or false, got the number 1"),
        (check_identifier, "a b", "'a b'"),
        (check_identifier, 7, "got the number 7"),
        (colour, "green", "'green'"),
        (colour, [], "expected a word, got a list"),
        (flags, [True] * 3, "holds more than 2 entries"),
        (flags, {}, "expected a list, got an object"),
        (check_object, "text", "expected an object, got the string 'text'"),
    ],
)
def test_an_illegal_value_is_refused_with_what_was_expected(
    check: Callable[[object], object], value: object, problem: str
) -> None:
    with pytest.raises(FieldError) as refused:
        check(value)
    assert problem in str(refused.value)


def test_the_largest_whole_number_that_is_exact_as_a_float_is_a_number() -> None:
    assert check_number((1 << 53) - 1, 0.0, 1e300) == (1 << 53) - 1


def test_the_error_about_a_list_names_the_index() -> None:
    with pytest.raises(FieldError) as refused:
        flags([True, 0])
    assert refused.value.path == "[1]"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "{", "", "[" * 100_000])
def test_text_outside_json_is_refused(text: str) -> None:
    with pytest.raises(FieldError):
        parse_json(text)


def test_the_path_of_an_error_grows_from_the_inside() -> None:
    error = FieldError("is missing", "token").inside("[3]").inside("leases")
    assert str(error) == "leases[3].token: is missing"


@pytest.mark.parametrize(
    ("read", "path"),
    [
        (lambda fields: fields.text("name"), "name"),
        (lambda fields: fields.integer("count", 0, 9), "count"),
        (lambda fields: fields.entries("flags", check_flag, 9), "flags[1]"),
        (lambda fields: fields.entries("ids", check_identifier, 9), "ids[0]"),
        (lambda fields: fields.entries("ids", check_identifier, 0), "ids"),
    ],
)
def test_an_error_in_an_object_names_the_whole_path(read: Callable[[Fields], object], path: str) -> None:
    fields = Fields({"count": 10, "flags": [True, 1], "ids": ["a b"]}, "header.")
    with pytest.raises(FieldError) as refused:
        read(fields)
    assert str(refused.value).startswith(f"header.{path}: ")


def test_absent_fields_have_defaults_only_where_they_may_be_absent() -> None:
    fields = Fields({"null": None})
    assert fields.optional("absent", fields.text) is None
    assert fields.optional("null", fields.text) is None
    with pytest.raises(FieldError, match="text: is missing"):
        fields.text("text")
    with pytest.raises(FieldError, match="list: is missing"):
        fields.entries("list", check_text, 9)


def test_unknown_fields_are_ignored() -> None:
    assert Fields({"known": "a", "unknown": object()}).text("known") == "a"
