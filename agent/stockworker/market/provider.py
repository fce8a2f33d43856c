"""Asks the HTTP provider of prices: its addresses, how often it is asked, and when it is asked again."""

import dataclasses
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import UTC, date, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlsplit

from stockworker.adapters import clock
from stockworker.adapters.http import AddressRefused, Fetched, FetchError, HttpStatus, fetch
from stockworker.adapters.http_hosts import Host, Hosts
from stockworker.handlers.kinds import Checked, Custom
from stockworker.market.source_format import TIME_UNITS
from stockworker.protocol.fields import FieldError, check_object, check_text
from stockworker.protocol.frozen import dataclass

_PLACEHOLDER: Final = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
_RATE: Final = re.compile(r"([1-9]\d{0,5})/(s|min|h|day)", re.ASCII)
_PERIODS: Final[Mapping[str, float]] = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86_400.0}
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_LIMITED: Final = {429, 503}  # too many requests, service unavailable: both may name the time of the next attempt
_RETRY_S: Final = 0.5
_STEP_S: Final = 0.2


def check_template(template: str) -> str:
    """Return the address of a provider if its placeholders are known.

    Raises:
        ValueError: they are not, or `{symbol}` is missing.
    """
    names = []
    for name, how in _PLACEHOLDER.findall(template):
        if name not in {"symbol", "since", "until", "interval"}:
            raise ValueError(f"{{{name[:20]}}} is not known; use {{symbol}}, {{since}}, {{until}} and {{interval}}")
        if how and (name in {"symbol", "interval"} or ("%" not in how and how not in TIME_UNITS)):
            raise ValueError(f"{{{name}:{how[:20]}}} is not known; write {{since:%Y%m%d}} or {{since:epoch}}")
        names.append(name)
    if "symbol" not in names:
        raise ValueError("the address must contain {symbol}")
    if set(_PLACEHOLDER.sub("", template)) & set("{}"):
        raise ValueError("the address has a bracket without its partner")
    host_of(template)
    return template


def host_of(template: str) -> Host:
    """The host to ask. The symbol comes from the submitter, so it must not be a part of the host."""
    parts = urlsplit(template.partition("{")[0])
    return Host(parts.hostname or "", parts.port)


def address(template: str, symbol: str, since: date, until: date, interval: str = "") -> str:
    """The address of the bars of a symbol. Each character of the symbol that an address could misread is escaped.

    Args:
        template: the address with its placeholders.
        symbol: as the provider writes it.
        since: the first day, or the time in the zone of the provider. Without codes, only its day is written.
        until: the same of the end.
        interval: as the provider writes it.
    """

    def fill(found: re.Match[str]) -> str:
        if found[1] in {"symbol", "interval"}:
            return quote(symbol if found[1] == "symbol" else interval, safe="")
        day = since if found[1] == "since" else until
        if found[2] in TIME_UNITS:
            time = day if isinstance(day, datetime) else datetime(day.year, day.month, day.day, tzinfo=UTC)
            return str(int(time.timestamp()) * TIME_UNITS[found[2]])
        return quote(day.strftime(found[2]) if found[2] else day.isoformat()[:10], safe="")

    return _PLACEHOLDER.sub(fill, template)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` requests in any `period_s`."""

    count: int
    period_s: float


def _read_rate(text: str) -> Rate:
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:20]!r} is not a rate; write 5/min, or another number and s, min, h or day")
    return Rate(int(found[1]), _PERIODS[found[2]])


def _read_headers(value: Any) -> dict[str, str]:
    found = {}
    for name, text in check_object(value).items():
        try:
            found[name] = _read_header(name, text)
        except FieldError as error:
            raise error.inside(str(name)[:40]) from None
    return found


def _read_header(name: str, text: Any) -> str:
    if not _HEADER.fullmatch(name) or name.lower() in {"host", "connection", "accept-encoding"}:
        raise FieldError("is not a header that can be set")
    if not check_text(text, 4_096).isascii() or not text.isprintable():
        raise FieldError("must be printable ASCII")
    return str(text)


RATE: Final = Checked("rate, such as `5/min`", _read_rate)
HEADERS: Final = Custom("object of texts", _read_headers)


class Stopped(Exception):
    """The job must stop."""


@dataclasses.dataclass(slots=True)
class Pacing:
    """When the next request may begin. Several threads share it.

    Attributes:
        begin: counts a request that may begin now, and returns 0; or returns the seconds after which to ask again.
        cancelled: whether the job must stop.
    """

    begin: Callable[[], float]
    cancelled: Callable[[], bool]
    _not_before: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        """Wait until a request may begin, and count it.

        Raises:
            Stopped: the job must stop.
        """
        while (delay := self._delay()) > 0:
            self.sleep(delay)

    def pause(self, seconds: float) -> None:
        """Let no request begin for some time."""
        with self._lock:
            self._not_before = max(self._not_before, clock.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait, in steps.

        Raises:
            Stopped: the job must stop.
        """
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            if self.cancelled():
                raise Stopped
            time.sleep(min(_STEP_S, left))

    def _delay(self) -> float:
        if self.cancelled():
            raise Stopped
        with self._lock:
            paused = self._not_before - clock.monotonic()
            return paused if paused > 0 else self.begin()


@dataclass(frozen=True, slots=True)
class Provider:
    """How a provider is asked.

    Attributes:
        hosts: the hosts that may be asked, by redirects too.
        headers: sent with each request.
        timeout_s: longest time for one answer.
        limit_bytes: largest answer.
        longest_wait_s: how long one address may wait for a provider that asks for later attempts.
        pacing: shared by all requests of the job.
    """

    hosts: Hosts
    headers: Mapping[str, str]
    timeout_s: float
    limit_bytes: int
    longest_wait_s: float
    pacing: Pacing

    def ask(self, url: str, validators: Mapping[str, str] | None = None, *, origin: str = "") -> Fetched | None:
        """Fetch an address. A busy provider is asked again at the time that it names, and after another failure once more.

        Args:
            url: the address.
            validators: the headers of a conditional request.
            origin: the address that led to this one, which gets `headers` only if it is at the same place.

        Returns:
            The answer; None if the provider has nothing that is not known by the validators.

        Raises:
            FetchError: the last attempt failed.
            Stopped: the job must stop.
        """
        headers = {**(self.headers if _place(url) == _place(origin or url) else {}), **(validators or {})}
        if origin.startswith("https:") and not url.startswith("https:"):
            raise AddressRefused(url, "the next page of an https address is not one")
        waited, failures = 0.0, 0
        while True:
            self.pacing.wait()
            try:
                return self._fetch(url, headers)
            except FetchError as error:
                if validators and isinstance(error, HttpStatus) and error.status == HTTPStatus.NOT_MODIFIED:
                    return None
                failures += 1
                limited = isinstance(error, HttpStatus) and error.status in _LIMITED
                delay = _delay(error, failures) if limited else _RETRY_S
                waited += delay
                if not error.retryable or waited > self.longest_wait_s or (failures > 1 and not limited):
                    raise
                (self.pacing.pause if limited else self.pacing.sleep)(delay)

    def _fetch(self, url: str, headers: Mapping[str, str]) -> Fetched:
        return fetch(url, timeout_s=self.timeout_s, limit_bytes=self.limit_bytes, hosts=self.hosts, headers=headers)


def _place(url: str) -> tuple[str, str]:
    """The scheme, host and port of an address."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _delay(error: FetchError, failures: int) -> float:
    asked: float | None = getattr(error, "retry_after_s", None)
    return _RETRY_S * 4**failures if asked is None else asked
