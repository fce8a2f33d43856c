"""Frozen dataclasses behave like those of the standard library: each test runs with both."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from stockworker.protocol import frozen

LIBRARY: dict[str, Any] = {"library": dataclasses.dataclass, "own": frozen.dataclass}


class Made:
    """Classes that one of the two has made."""

    def __init__(self, dataclass: Callable[..., Any]) -> None:
        @dataclass(frozen=True, slots=True)
        class Point:
            """A point."""

            kind: ClassVar[str] = "point"
            x: int
            y: int = 2
            hidden: str = dataclasses.field(default="s", repr=False)
            seen: list[int] = dataclasses.field(default_factory=list, compare=False)

            def __post_init__(self) -> None:
                if self.x < 0:
                    raise ValueError("below 0")

        @dataclass(frozen=True, slots=True, kw_only=True)
        class Place(Point):
            """A point with a name."""

            name: str
            z: int = 3

        @dataclass(frozen=True, slots=True)
        class One:
            """One field."""

            value: Any

        @dataclass(frozen=True, slots=True)
        class Empty:
            """None."""

        self.Point, self.Place, self.One, self.Empty = Point, Place, One, Empty
        for made in (Point, Place, One, Empty):
            made.__qualname__ = made.__name__


MADE = {name: Made(dataclass) for name, dataclass in LIBRARY.items()}


@pytest.fixture(params=MADE, ids=str)
def made(request: pytest.FixtureRequest) -> Any:
    return MADE[request.param]


def test_values_of_one_class_are_compared(made: Any) -> None:
    assert made.Point(1) == made.Point(x=1, y=2, hidden="s", seen=[5])
    assert made.Point(1) != made.Point(1, 3)
    assert made.Point(1) != made.Place(1, name="n")
    assert made.One(1) != made.Point(1)
    assert made.Empty() == made.Empty()
    assert made.One((1, 2)) == made.One((1, 2))
    assert made.One((1, 2)) != (1, 2)


def test_equal_values_have_equal_hashes(made: Any) -> None:
    assert hash(made.Point(1)) == hash(made.Point(1, seen=[5]))
    assert len({made.One(1), made.One(1), made.One(2), made.Empty(), made.Empty()}) == 3
    with pytest.raises(TypeError):
        hash(made.One([]))


def test_hidden_fields_are_not_shown(made: Any) -> None:
    assert repr(made.Place(1, name="n")) == "Place(x=1, y=2, seen=[], name='n', z=3)"
    assert repr(made.Empty()) == "Empty()"


def test_fields_have_defaults_of_their_own(made: Any) -> None:
    first, second = made.Point(1), made.Point(1)
    first.seen.append(1)
    assert second.seen == []
    assert made.Point.kind == "point"


@pytest.mark.parametrize("arguments", [(), (1, 2, "s", [], 5)], ids=str)
def test_fields_must_be_complete_and_known(made: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="__init__"):
        made.Point(*arguments)
    with pytest.raises(TypeError, match="name"):
        made.Place(1)
    with pytest.raises(TypeError, match="other"):
        made.One(1, other=2)


def test_nothing_changes(made: Any) -> None:
    point = made.Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        point.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):  # the latter is an error in the library
        point.other = 2
    assert not hasattr(point, "__dict__")


def test_it_is_a_dataclass(made: Any) -> None:
    assert dataclasses.replace(made.Place(1, name="n"), y=5) == made.Place(1, 5, name="n")
    assert dataclasses.asdict(made.One(made.One(1))) == {"value": {"value": 1}}
    assert made.Point.__match_args__ == ("x", "y", "hidden", "seen")
    with pytest.raises(ValueError, match="below 0"):
        made.Point(-1)


def test_it_is_copied(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = made.Place(1, name="n", seen=[1])
    monkeypatch.setitem(globals(), "Place", made.Place)
    for copied in (copy.copy(place), copy.deepcopy(place), pickle.loads(pickle.dumps(place))):  # noqa: S301 (made here)
        assert (copied, copied.seen) == (place, [1])
    assert copy.deepcopy(place).seen is not place.seen


@pytest.mark.parametrize("options", [{"frozen": False, "slots": True}, {"frozen": True, "slots": False}], ids=str)
def test_other_dataclasses_are_for_the_library(options: dict[str, bool]) -> None:
    with pytest.raises(TypeError, match="standard library"):
        frozen.dataclass(**options)
