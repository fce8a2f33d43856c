"""Identifiers: checked once where they enter, then distinct types."""

# Every id is one topic level, so it may hold nothing that means something to MQTT (``/``, ``+``, ``#``) or to a shell.

import re
from typing import Final, NewType, Protocol

JobId = NewType("JobId", str)
WorkerId = NewType("WorkerId", str)
ClientId = NewType("ClientId", str)
JobType = NewType("JobType", str)
Tag = NewType("Tag", str)
UniqueKey = NewType("UniqueKey", str)
Token = NewType("Token", str)
"""Fencing token of a lease: a report counts only under the token of the job's newest lease."""

ID_GRAMMAR: Final = "[A-Za-z0-9._-]{1,64}"
MATCHES_ID: Final = re.compile(ID_GRAMMAR).fullmatch


class Entropy(Protocol):
    """Where the pure core gets its randomness from: `random.Random`, seeded or of the system."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def getrandbits(self, k: int, /) -> int:
        """An integer of `k` random bits."""


def check_id(text: str) -> str:
    """Return `text` if it is a valid ID.

    Raises:
        ValueError: it is not; the text has the form of an ID.
    """
    if MATCHES_ID(text) is None:
        raise ValueError(f"{text[:80]!r} is not a valid ID: 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return text


def make_job_id(wall: float, entropy: Entropy) -> JobId:
    """Make a UUIDv7 (RFC 9562, section 5.7), so that ids sort by the time they were made.

    Args:
        wall: seconds since the epoch.
        entropy: source of the 74 random bits.
    """
    milliseconds = int(wall * 1000) & 0xFFFF_FFFF_FFFF
    random_a = entropy.getrandbits(12)
    random_b = entropy.getrandbits(62)
    value = f"{milliseconds << 80 | 0x7 << 76 | random_a << 64 | 0b10 << 62 | random_b:032x}"
    return JobId(f"{value[:8]}-{value[8:12]}-{value[12:16]}-{value[16:20]}-{value[20:]}")


def make_token(entropy: Entropy) -> Token:
    """Make a fencing token: 64 random bits, so that tokens of a restored backup never meet new ones."""
    return Token(f"{entropy.getrandbits(64):016x}")
