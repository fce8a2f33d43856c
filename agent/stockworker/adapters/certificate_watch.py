"""Checks how long the certificates of a service and of its broker are valid, and warns in time."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stockworker.adapters.tls import valid_until
from stockworker.errors import ConfigError
from stockworker.logs import log_event
from stockworker.logs.event import LogEvent
from stockworker.logs.events import BrokerCertificateExpires, CertificateExpires
from stockworker.protocol.frozen import dataclass

_log = logging.getLogger(__name__)

_DAY_S: Final = 86_400.0
SOON_DAYS: Final = 30
"""Warn when a certificate expires within this number of days."""
URGENT_DAYS: Final = 3
"""Warn again, as an error, within this number of days."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a certificate expires, in whole days from now; negative if it has expired."""

    file: Path | None
    until: str
    days: int

    @property
    def soon(self) -> bool:
        return self.days < SOON_DAYS

    @property
    def urgent(self) -> bool:
        return self.days < URGENT_DAYS

    def __str__(self) -> str:
        return "certificate has ended" if self.days < 0 else f"certificate ends in {self.days} days"


class CertificateWatch:
    """Checks a certificate once a day, and logs a warning if it expires soon.

    Attributes:
        warning: the text for the status of the service; empty while the certificate is valid for long.
        until: when it expires, in seconds since 1970, as of the last check; None without a certificate.
    """

    def __init__(self) -> None:
        self._looked_at: float | None = None
        self.warning = ""
        self.until: float | None = None

    def look(self, file: Path | None, now: float) -> Expiry | None:
        """Return when the certificate expires; None if it was checked within a day.

        An unreadable file gives None: the connection that needs it reports it.

        Args:
            file: the certificate, if there is one.
            now: the time, in seconds since 1970.
        """
        if file is None or (self._looked_at is not None and abs(now - self._looked_at) < _DAY_S):
            return None
        self._looked_at = now
        try:
            self.until = valid_until(file)
        except ConfigError:
            return None
        found = _expiry(file, self.until, now)
        self._warn(found, str(found), CertificateExpires(file=str(file), until=found.until, days=found.days))
        return found

    def look_at_broker(self, broker: str, until: float | None, now: float) -> None:
        """Check the broker's certificate, as it was in the last handshake: `until` is None without one."""
        if until is None or (self._looked_at is not None and abs(now - self._looked_at) < _DAY_S):
            return
        self._looked_at, self.until = now, until
        found = _expiry(None, until, now)
        event = BrokerCertificateExpires(broker=broker, until=found.until, days=found.days)
        self._warn(found, f"the broker's {found}", event)

    def _warn(self, found: Expiry, text: str, event: LogEvent) -> None:
        self.warning = text if found.soon else ""
        if found.soon:
            log_event(_log, event, level=logging.ERROR if found.urgent else None)

    def forget(self) -> None:
        """Check again at the next call: the certificate may have changed."""
        self._looked_at = None


def _expiry(file: Path | None, until: float, now: float) -> Expiry:
    return Expiry(file, datetime.fromtimestamp(until, UTC).isoformat(), int((until - now) // _DAY_S))
