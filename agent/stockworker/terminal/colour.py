"""Colour on a terminal: which parts of a line have one, and whether colours are shown at all."""

# Colours never carry a meaning of their own: each word appears without them, too. A `Painted` line is plain text with
# marks beside it, so nothing in the text can pretend to be a colour: the text is escaped piece by piece when it is printed.

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, Final

_RESET: Final = "\x1b[0m"


class Colour(StrEnum):
    """Colours by what they are for: the parameter of an SGR sequence (ECMA-48)."""

    GOOD = "32"
    BAD = "31"
    NOTABLE = "33"
    HEADER = "1"


class Painted(str):
    """A line of text with coloured parts.

    Attributes:
        parts: first and last position of each part, and its colour; in order, without overlaps.
    """

    __slots__ = ("parts",)
    parts: tuple[tuple[int, int, Colour], ...]


def paint(text: str, parts: Iterable[tuple[int, int, Colour | None]]) -> str:
    """Mark parts of a line."""
    painted = Painted(text)
    painted.parts = tuple((begin, end, colour) for begin, end, colour in parts if colour is not None and begin < end)
    return painted if painted.parts else text


class When(StrEnum):
    """When to show colours."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


_chosen = [When.AUTO]


def choose(when: When) -> None:
    """Set when colours are shown, for this process."""
    _chosen[0] = when


def shown() -> bool:
    """Whether standard output gets colours: on a terminal, unless NO_COLOR is set (no-color.org)."""
    if _chosen[0] is not When.AUTO:
        return _chosen[0] is When.ALWAYS
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def pieces(line: str, clean: Callable[[str], str]) -> Iterator[str]:
    """The pieces of a line as they are printed: `clean` escapes each of them."""
    at = 0
    for begin, end, colour in line.parts if isinstance(line, Painted) and shown() else ():
        yield clean(line[at:begin])
        yield f"\x1b[{colour}m{clean(line[begin:end])}{_RESET}"
        at = end
    yield clean(line[at:])


class _Choose(argparse.Action):
    def __call__(self, _parser: Any, namespace: argparse.Namespace, values: Any, _option: Any = None) -> None:
        setattr(namespace, self.dest, values)
        choose(When(values))


def add_colour(parser: argparse.ArgumentParser) -> None:
    """Accept ``--color``."""
    parser.add_argument(
        "--color",
        action=_Choose,
        choices=tuple(map(str, When)),
        default=When.AUTO,
        help="colours in tables (default: auto, which is on a terminal, unless NO_COLOR is set)",
    )
