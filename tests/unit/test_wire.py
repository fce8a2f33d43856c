"""Plans: what follows from the declaration of a message."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Annotated, Any

import pytest

from stockworker.protocol.fields import FieldError
from stockworker.protocol.ids import JobId, WorkerId
from stockworker.protocol.wire import (
    Duration,
    Flag,
    Identifier,
    Integer,
    JobIdentifier,
    Level,
    Wire,
    kind_of,
    plan_of,
    shown,
)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    FIRST = 1
    SECOND = 2


@dataclass(frozen=True, slots=True)
class Part:
    name: Annotated[str, Wire("its name")]


@dataclass(frozen=True, slots=True)
class Message:
    sender: Annotated[str, Level("sender")]
    count: Annotated[int, Integer(1, 9), Wire("how many")]
    colour: Annotated[Colour, Wire("its colour")]
    parts: Annotated[tuple[Part, ...], Wire("its parts")]
    rank: Annotated[Rank, Wire("its rank", "place")] = Rank.SECOND
    wait_s: Annotated[float | None, Duration(0.0, 60.0), Wire("how long", "wait")] = None
    words: Annotated[frozenset[str], Wire("any words")] = frozenset()
    loud: Annotated[bool, Wire("whether it is loud", always=True)] = False


FULL: dict[str, Any] = {
    "count": 3,
    "colour": "blue",
    "parts": [{"name": "a"}, {"name": "b"}],
    "place": "first",
    "wait": 1.5,
    "words": ["x", "y"],
    "loud": True,
}
SHORT: dict[str, Any] = {"count": 3, "colour": "red", "parts": [], "loud": False}


def read(body: dict[str, Any]) -> Message:
    return Message("w1", *plan_of(Message).values(body))


def test_a_message_is_read_by_its_names_on_the_wire() -> None:
    expected = Message("w1", 3, Colour.BLUE, (Part("a"), Part("b")), Rank.FIRST, 1.5, frozenset({"x", "y"}), loud=True)
    assert read(FULL) == expected


@pytest.mark.parametrize("body", [FULL, SHORT], ids=["full", "short"])
def test_what_is_written_is_what_was_read(body: dict[str, Any]) -> None:
    assert plan_of(Message).write(read(body)) == body


def test_a_level_of_the_topic_is_not_in_the_body() -> None:
    assert "sender" not in plan_of(Message).write(read(FULL))
    assert plan_of(Message).levels == {"sender": Level("sender")}


@pytest.mark.parametrize("name", ["place", "wait", "words", "loud"])
def test_an_absent_or_null_field_has_its_default(name: str) -> None:
    without = {key: value for key, value in FULL.items() if key != name}
    assert read(without) == read({**FULL, name: None})


@pytest.mark.parametrize("name", ["count", "colour", "parts"])
def test_a_field_without_a_default_must_be_present(name: str) -> None:
    with pytest.raises(FieldError, match=f"^{name}: is missing$"):
        read({key: value for key, value in FULL.items() if key != name})


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"count": 10}, "count"),
        ({"colour": "green"}, "colour"),
        ({"parts": [{"name": "a"}, {}]}, "parts[1].name"),
        ({"place": "third"}, "place"),
        ({"wait": 61}, "wait"),
        ({"words": [1]}, "words[0]"),
        ({"loud": "yes"}, "loud"),
    ],
)
def test_an_illegal_value_is_refused_with_its_path(change: dict[str, Any], path: str) -> None:
    with pytest.raises(FieldError) as refused:
        read(FULL | change)
    assert refused.value.path == path


def test_unknown_fields_are_ignored() -> None:
    assert read({**FULL, "newer": 1}) == read(FULL)


def test_a_body_must_be_an_object() -> None:
    with pytest.raises(FieldError, match="expected an object, got a list"):
        plan_of(Message).read([])


def test_commands_show_the_attribute_and_the_name_on_the_wire() -> None:
    body = shown(read(FULL))
    assert (body["wait_s"], body["wait"], body["rank"], body["place"]) == (1.5, 1.5, "first", "first")


def test_a_kind_follows_from_a_type_unless_one_is_given() -> None:
    assert isinstance(kind_of(bool), Flag)
    assert isinstance(kind_of(JobId), JobIdentifier)
    assert isinstance(kind_of(WorkerId), Identifier)
    with pytest.raises(TypeError, match="give one with Annotated"):
        kind_of(int)
