"""Looks how long our own certificate is still valid, so that somebody hears of it in time."""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stockworker.adapters.tls import valid_until
from stockworker.errors import ConfigError
from stockworker.logs import log_event
from stockworker.logs.events import CertificateExpires

_log = logging.getLogger(__name__)

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


class CertificateWatch:
    """Looks at a certificate once a day, and warns in the log of one that ends soon.

    Attributes:
        warning: what a status has to say of it; empty while there is time.
    """

    def __init__(self) -> None:
        self._looked_at: float | None = None
        self.warning = ""

    def look(self, file: Path | None, now: float) -> Expiry | None:
        """Say when the certificate ends; None if it was looked at within a day.

        A file that can't be read is not our business: whoever connects with it says so.

        Args:
            file: the certificate, if there is one.
            now: the time, in seconds since the epoch.
        """
        if file is None or (self._looked_at is not None and abs(now - self._looked_at) < _DAY_S):
            return None
        self._looked_at = now
        try:
            until = valid_until(file)
        except ConfigError:
            return None
        found = Expiry(file, datetime.fromtimestamp(until, UTC).isoformat(), int((until - now) // _DAY_S))
        self.warning = str(found) if found.soon else ""
        if found.soon:
            level = logging.ERROR if found.urgent else None
            event = CertificateExpires(file=str(file), until=found.until, days=found.days)
            log_event(_log, event, level=level)
        return found

    def forget(self) -> None:
        """Look again at once: the file may be another one now."""
        self._looked_at = None
