"""Identifiers: checked once where they enter, then distinct types."""

# Every id is one topic level, so it may hold nothing that means something to MQTT (``/``, ``+``, ``#``) or to a shell.
#
# A job's ID belongs to its owner, so that no client can take the ID of another one's job. The **full ID** of a job is
# ``OWNER:ID``. Where the broker could not verify the sender of a job, the job belongs to the shared owner, and its full ID
# is ``ID`` alone. The dispatcher, its store, workers, notices and logs know full IDs only.
#
# A client may write an ID in a shorter way, which `full_id` completes: ``ID`` is the client's own job, and ``:ID`` a
# shared one. `short_id` is the way back, for people and programs that mostly see their own jobs.

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

PROBE: Final = "stockworker-check"
"""The job type of a probe of `stockworker check`, and the beginning of its other IDs. The dispatcher answers a probe, but
neither counts nor logs it. A tracer (`stockworker.dispatcher.tracers`) is a probe that a worker answers, too."""

DEFAULT_DISPATCHER: Final = ClientId("dispatcher")
"""The ID of the dispatcher, and its user name at the broker, unless others are configured."""

ID_GRAMMAR: Final = "[A-Za-z0-9._-]{1,64}"
MATCHES_ID: Final = re.compile(ID_GRAMMAR).fullmatch
JOB_ID_GRAMMAR: Final = f"(?:(?:{ID_GRAMMAR})?:)?{ID_GRAMMAR}"
MATCHES_JOB_ID: Final = re.compile(JOB_ID_GRAMMAR).fullmatch


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


def check_job_id(text: str) -> JobId:
    """Return `text` if it is a valid job ID, in any of its three forms.

    Raises:
        ValueError: it is not; the text has the form of a job ID.
    """
    if MATCHES_JOB_ID(text) is None:
        raise ValueError(
            f"{text[:160]!r} is not a valid ID: write ID, OWNER:ID or :ID, each of 1 to 64 characters of A-Z a-z 0-9 . _ -"
        )
    return JobId(text)


def owner_of(full: JobId) -> ClientId | None:
    """The owner of a job; None is the shared owner."""
    owner, colon, _ = full.partition(":")
    return ClientId(owner) if colon else None


def full_id(written: JobId, client_id: ClientId | None) -> JobId:
    """The full ID of the job that `client_id` means.

    Args:
        written: a job ID in any of its three forms.
        client_id: who wrote it; None if the broker could not verify that.
    """
    if written.startswith(":"):
        return JobId(written[1:])
    return written if client_id is None or ":" in written else JobId(f"{client_id}:{written}")


def short_id(full: JobId, client_id: ClientId) -> JobId:
    """How `client_id` writes the full ID of a job: `full_id` of it is `full` again."""
    return JobId(full.removeprefix(f"{client_id}:") if ":" in full else f":{full}")


def written_id(full: JobId) -> JobId:
    """The full ID of a job in the form that means the same from every client."""
    return full if ":" in full else JobId(f":{full}")


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
