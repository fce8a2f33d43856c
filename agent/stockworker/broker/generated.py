"""Marks of generated files: a checksum that detects edits, and the options that the file was generated with. Pure."""

# Both are comments in the last lines of the file. So no other file is needed, and a copy of the file has them as well.
# The texts of the marks are part of the files on disk: they must stay as they are.

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

_SETTINGS: Final = "# Asked for: "
_SUM: Final = "# Tells whether it was edited since (SHA-256 of the lines above): "


def finished(text: str, settings: Mapping[str, Any] | None = None) -> str:
    """Add the marks to the text of a file.

    Args:
        text: its lines.
        settings: the options that the file was generated with, as JSON data; omitted if empty.
    """
    asked = f"\n{_SETTINGS}{json.dumps(settings)}\n" if settings else "\n"
    body = text.rstrip("\n") + "\n" + asked
    return f"{body}{_SUM}{_digest(body)}\n"


def is_untouched(text: str) -> bool:
    """Whether the text is unchanged since `finished`."""
    body, mark, digest = text.rpartition(_SUM)
    return bool(mark) and digest.rstrip("\n") == _digest(body)


def settings_of(text: str) -> dict[str, Any]:
    """The options that a file was generated with; empty if it has none.

    Raises:
        ValueError: the line with the options was edited, and is not valid.
    """
    found = [line for line in text.splitlines() if line.startswith(_SETTINGS)]
    settings: dict[str, Any] = json.loads(found[-1].removeprefix(_SETTINGS)) if found else {}
    if not isinstance(settings, dict):
        raise ValueError(f"{settings!r} is not a JSON object")  # noqa: TRY004 (the text is wrong, as with invalid JSON)
    return settings


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
