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
