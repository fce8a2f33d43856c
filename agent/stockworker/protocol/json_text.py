"""Values as JSON text: compact, UTF-8 as it is, and nothing that is not JSON (RFC 8259)."""

import json
from json.encoder import encode_basestring
from typing import Any, Final

json_text: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""Any JSON value as text.

Raises:
    ValueError: a number is not finite.
"""

quoted: Final = encode_basestring
"""A string as text."""

_LONG: Final = 4096
_CONTROL: Final = tuple(map(chr, range(0x20)))


def quoted_content(text: str) -> str:
    """A string as text, like `quoted`, in less than half of the time if it is long."""
    # `quoted` looks at one character after the other. Searches for one character are several times as fast, and a JSON text
    # has few control characters, or none (RFC 8259, section 7).
    if len(text) < _LONG or any(code in text for code in _CONTROL):
        return encode_basestring(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def number_text(value: float) -> str:
    """A number as text.

    Raises:
        ValueError: it is not finite.
    """
    # The difference is 0 unless the number is infinite or not a number. Any other type is the encoder's business.
    return repr(value) if type(value) is float and value - value == 0.0 else json_text(value)


def flag_text(value: Any) -> str:
    """True or false as text."""
    return "true" if value else "false"
