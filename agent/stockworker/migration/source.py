"""The port of an old queue, from which jobs are moved."""

# How to write a source
# ---------------------
#
# A source shows the records of an old queue, and keeps for each of them who owns it. That is its `Standing`:
#
#     PENDING ──▶ CLAIMED ──▶ MOVED ──▶ RETURNING ──▶ PENDING
#        ▲           │          ▲           │
#        └───────────┘          └───────────┘
#
# - PENDING: the old workers own it. They may take it at any moment.
# - CLAIMED: the migration owns it, and no old worker takes it. The dispatcher may or may not have its job.
# - MOVED: the dispatcher has its job. The record stays as proof, or is gone if the mapping deletes it.
# - RETURNING: the dispatcher may have its job or may have cancelled it, and the migration finds out.
# - RUNNING and DONE belong to the old workers for good. They are counted, and never changed.
#
# So each record has exactly one owner at each moment, and `shift` is the only operation that changes it. A source must
# keep three promises:
#
# 1. `shift` is durable when it returns, and atomic for each record: after a SIGKILL at any point, a record is in one of the
#    two standings. `shift` returns the tokens that it has shifted. The others were not in the expected standing any longer.
# 2. `shift` to CLAIMED excludes the old workers by the lock or the state that they use themselves: a row is updated where
#    it is still pending, an entry is popped and stored in one script of Redis, a message is moved to an own queue in one
#    transaction of AMQP. A claim that ends with the connection is not enough: after a SIGKILL the old worker would get
#    a record whose job the dispatcher has.
# 3. The value of the field that the mapping uses as ID stays the same from the claim on. The ID of the job is derived from
#    it. Where records have no ID (a list of payloads), the source makes one when it reads a pending record, shows it as
#    the field `claim_id`, and stores it together with the record in the claim. A record that is not claimed gets another
#    one when it is read again.
#
# `page(PENDING, …)` may hold locks until the next `shift`. The caller always shifts after it, possibly nothing. Records
# that it does not shift stay as they are: they can't be decoded, and the report lists them.
#
# A source has no opinion about jobs. It returns raw values, and `decoding` makes jobs of them or refuses. Values are
# text, bytes, numbers, None, or lists and dictionaries of them. A time is ISO 8601 text, or a number as it is stored.
# Text that may not be UTF-8 is bytes.
#
# To add one: write a module beside `sqlite.py` with a class that fulfils `Source`, and add its line to `sources.py` with the
# package of its library. The library is imported there and nowhere else. All calls come from one thread. Then add its kind
# of old queue to `tests/harness/old_queues.py`: the contract and `tests/migration` run with each of them. MQTT can't keep the
# second promise; `mqtt` explains what it promises instead.
#
# Errors: raise `SourceFailed` for everything that the server or the library reports. The text names the source without
# its password, and what to do.

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Final, Protocol

from stockworker.errors import StockworkerError
from stockworker.protocol.frozen import dataclass

Raw = Any  # text, bytes, a number, None, or lists and dictionaries of them: the old system decides
Record = Mapping[str, Raw]
"""The fields of one record, by name."""

SourceToken = str | int
"""How a source finds a record again. Only the source understands it."""

Position = str | int
"""The place after a page. Only the source understands it."""

PAGE: Final = 1000
"""Most records of one page."""


class Standing(StrEnum):
    """The owner of a record; see the head of this module."""

    PENDING = "pending"
    CLAIMED = "claimed"
    MOVED = "moved"
    RETURNING = "returning"
    RUNNING = "running"
    DONE = "done"


class SourceFailed(StockworkerError):
    """The old queue can't be read or changed. The text names it, and what to do."""

    code = "source"


@dataclass(frozen=True, slots=True)
class Found:
    """One record of a source."""

    token: SourceToken
    record: Record


@dataclass(frozen=True, slots=True)
class SourcePage:
    """Records in the order of the source.

    Attributes:
        found: at most `PAGE` records.
        after: where the next page begins; None after the last page.
    """

    found: tuple[Found, ...]
    after: Position | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """A table, a key or a queue, as `--inspect` finds it.

    Attributes:
        kind: `table`, `key` or `queue`: the word of the mapping.
        name: its name.
        samples: a few records; a table without rows has one whose values are None.
        size: the number of its records.
        note: what a person should know about the look.
    """

    kind: str
    name: str
    samples: tuple[Record, ...]
    size: int
    note: str = ""


class Source(Protocol):
    """An old queue, opened with a mapping.

    Attributes:
        identity: distinguishes this queue from all others, with any spelling of its address: the server's own ID, the
            database and the table. IDs of jobs are derived from it.
        shown: its address without a password.
    """

    identity: str
    shown: str

    def page(self, standing: Standing, after: Position | None, limit: int) -> SourcePage:
        """Read records of one standing. Locked records may be missing; another pass finds them."""

    def shift(self, tokens: Collection[SourceToken], before: Standing, after: Standing) -> Collection[SourceToken]:
        """Change the owner of records; return those that were in `before`."""

    def counts(self) -> Mapping[Standing, int]:
        """The number of records of each standing that the source can count."""

    def close(self) -> None:
        """End the connection. Records that were read and not claimed go back to the old workers."""
