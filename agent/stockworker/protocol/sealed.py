"""How to distinguish a sealed payload, result or error text from a plain one. `sealing.envelope` has the notation."""

import re
from typing import Final

PREFIX: Final = "sealed."

LONGEST_ERROR: Final = 1900
"""Longest sealed error text, in characters: with what a dispatcher adds to a reason it stays below `MAX_TEXT`."""

_INSIDE: Final = re.compile(r"sealed\.[0-9]+(?:\.[A-Za-z0-9_-]*){3}")


def is_sealed(text: str) -> bool:
    """Whether `text` claims to be sealed. No JSON text begins so."""
    return text.startswith(PREFIX)


def find(text: str) -> str | None:
    """The sealed string inside `text`: a dispatcher may have added words to a reason."""
    found = _INSIDE.search(text)
    return None if found is None else found[0]


def first_line(text: str | None) -> str:
    """The first line of an error text: the lines after it are a stack or the output of a program."""
    return (text or "").partition("\n")[0]


def without_sealed(text: str) -> str:
    """`text` for people who can't open what is sealed in it: logs and lists."""
    return _INSIDE.sub("(sealed for its submitter)", text)
