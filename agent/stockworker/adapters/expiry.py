"""Looks how long our own certificate is still valid, so that somebody hears of it in time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stockworker.adapters.tls import valid_until
from stockworker.errors import ConfigError

_DAY_S: Final = 86_400.0
_SOON_DAYS: Final = 30
_URGENT_DAYS: Final = 3


@dataclass(frozen=True, slots=True)
class Expiry:
    """A certificate that ends soon, or has ended; then `days` is below zero."""

    file: Path
    until: str
    days: int

    @property
    def urgent(self) -> bool:
        return self.days < _URGENT_DAYS


class ExpiryWatch:
    """Looks at a certificate once a day. All methods take the time as seconds since the epoch."""

    def __init__(self) -> None:
        self._looked_at: float | None = None

    def look(self, file: Path | None, now: float) -> Expiry | None:
        """Say whether the certificate ends within 30 days; None if it does not, or was looked at within a day.

        A file that can't be read is not our business: whoever connects with it says so.
        """
        if file is None or (self._looked_at is not None and abs(now - self._looked_at) < _DAY_S):
            return None
        self._looked_at = now
        try:
            until = valid_until(file)
        except ConfigError:
            return None
        days = int((until - now) // _DAY_S)
        if days >= _SOON_DAYS:
            return None
        return Expiry(file, datetime.fromtimestamp(until, UTC).isoformat(), days)

    def forget(self) -> None:
        """Look again at once: the file may be another one now."""
        self._looked_at = None
