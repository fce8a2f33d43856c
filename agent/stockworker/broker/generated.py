"""Files that a command writes and writes anew: whether somebody else has edited one, and what it was asked for. Pure.

The last lines of such a file say it, as comments: no other file has to be kept, and a copy says it too.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

_SETTINGS: Final = "# Asked for: "
_SUM: Final = "# Tells whether it was edited since (SHA-256 of the lines above): "


def finished(text: str, settings: Mapping[str, Any] | None = None) -> str:
    """Complete the text of a file.

    Args:
        text: its lines.
        settings: what it was asked for, in the terms of JSON; not said where there is nothing to say.
    """
    asked = f"\n{_SETTINGS}{json.dumps(settings)}\n" if settings else "\n"
    body = text.rstrip("\n") + "\n" + asked
    return f"{body}{_SUM}{_digest(body)}\n"


def is_untouched(text: str) -> bool:
    """Whether it is as `finished` has made it."""
    body, mark, digest = text.rpartition(_SUM)
    return bool(mark) and digest.rstrip("\n") == _digest(body)


def settings_of(text: str) -> dict[str, Any]:
    """What a file was asked for, edited or not; empty where it does not say.

    Raises:
        ValueError: somebody has edited that very line.
    """
    found = [line for line in text.splitlines() if line.startswith(_SETTINGS)]
    settings: dict[str, Any] = json.loads(found[-1].removeprefix(_SETTINGS)) if found else {}
    if not isinstance(settings, dict):
        raise ValueError(f"{settings!r} is no object")  # noqa: TRY004 (it is a text that is wrong, as where it is no JSON)
    return settings


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
