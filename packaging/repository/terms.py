"""What a publication is to be like."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms.

    Attributes:
        date: when it is published, in seconds since the epoch.
        valid_days: for how many days clients of apt may rely on it; without a limit if there is none.
        keep: how many versions of each package stay; all if there is none.
    """

    date: int
    valid_days: int | None = None
    keep: int | None = None
