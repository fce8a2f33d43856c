"""The options of a publication."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """The options.

    Attributes:
        date: time of the publication, in seconds since 1970.
        valid_days: days until apt rejects the index as outdated; None for no limit.
        keep: number of versions of each package to keep; None for all.
    """

    date: int
    valid_days: int | None = None
    keep: int | None = None
