"""Looks how long our own certificate is still valid, so that somebody hears of it in time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stockworker.adapters.tls import valid_until
from stockworker.errors import ConfigError

_DAY_S: Final = 86_400.0
SOON_DAYS: Final = 30
"""Whose certificate ends within so many days had better renew it."""
_URGENT_DAYS: Final = 3


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a certificate ends, in whole days from now; below zero if it has ended."""

    file: Path
    until: str
    days: int

    @property
    def soon(self) -> bool:
        return self.days < SOON_DAYS

    @property
    def urgent(self) -> bool:
        return self.days < _URGENT_DAYS

    def __str__(self) -> str:
        return "certificate has ended" if self.days < 0 else f"certificate ends in {self.days} days"


class ExpiryWatch:
    """Looks at a certificate once a day. All methods take the time as seconds since the epoch."""

    def __init__(self) -> None:
        self._looked_at: float | None = None

    def look(self, file: Path | None, now: float) -> Expiry | None:
        """Say when the certificate ends; None if it was looked at within a day.

        A file that can't be read is not our business: whoever connects with it says so.
        """
        if file is None or (self._looked_at is not None and abs(now - self._looked_at) < _DAY_S):
            return None
        self._looked_at = now
        try:
            until = valid_until(file)
        except ConfigError:
            return None
        return Expiry(file, datetime.fromtimestamp(until, UTC).isoformat(), int((until - now) // _DAY_S))

    def forget(self) -> None:
        """Look again at once: the file may be another one now."""
        self._looked_at = None
