"""Points in time as old systems write them: a number of seconds or milliseconds, or ISO 8601. Pure."""

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from stockworker.protocol.fields import LATEST_TIME

_LEAST_MILLISECONDS: Final = 1e11
"""A larger number is a count of milliseconds: as seconds it would be after the year 5000."""


def unix_time(value: Any, zone_s: float = 0.0) -> float | None:
    """Seconds since the epoch; None for MySQL's zero date.

    Args:
        value: a number or a text.
        zone_s: the offset from UTC of a text without one.

    Raises:
        ValueError: it is not a time between 1970 and 9999.
    """
    seconds = _number(value)
    if seconds is None:
        text = str(value).strip()
        if text.startswith("0000-00-00"):
            return None
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=timezone(timedelta(seconds=zone_s)))
            seconds = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
        except (ValueError, OverflowError):
            raise ValueError(f"{text[:40]!r} is not a time") from None
    elif abs(seconds) >= _LEAST_MILLISECONDS:
        seconds /= 1000
    if not 0 <= seconds <= LATEST_TIME:
        raise ValueError(f"{value!r:.40} is not a time between 1970 and 9999")
    return seconds


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:
        return math.inf
