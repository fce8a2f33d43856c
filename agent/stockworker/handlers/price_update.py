"""The job type ``price_update``: bring symbols up to date from the HTTP provider that the worker is configured with.

Payload::

    {"symbols": ["AAPL", "MSFT"]}                          from the newest stored bar of each on
    {"symbols": ["AAPL"], "since": "2013-01-01"}           again from this day on, to take in corrections
    {}                                                     every symbol that has bars

The newest stored bar is asked for again, since it may have been taken before its day was over. One symbol is asked for
after the other. A symbol that the provider does not know, or answers nonsense for, is reported in the result, and the
job fails only when no symbol could be updated. When the provider is down or asks for patience the job stops there; run
again it goes on, since what was stored stays.

Settings: ``provider``, the address with ``{symbol}`` and, as it likes, ``{since}`` in it, for example
``http://127.0.0.1:8000/daily/{symbol}.json?since={since}``, answered with bars as `bar_formats` reads them;
``first_day`` (what ``{since}`` is for a symbol without bars; 1970-01-01), ``timeout_s`` (for one answer; 30),
``limit_mib`` (how large one may be; 16).
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date
from typing import Final
from urllib.parse import quote, urlsplit

from stockworker.adapters.http import FetchError, fetch
from stockworker.handlers.api import Context, Job, Json, PermanentError
from stockworker.handlers.bar_formats import Expected, ParsedBars, UnreadableBars, parse_bars, tomorrow
from stockworker.handlers.market import InvalidBar, MarketStore, check_symbol
from stockworker.handlers.market_store import open_market_store
from stockworker.handlers.payload import day, market_data, read_payload, read_settings, texts
from stockworker.protocol.fields import FieldError, Fields

_PAYLOAD_FIELDS: Final = ("symbols", "since")
_MOST_SYMBOLS: Final = 1_000  # a result must fit into one message
_MIB: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class _Request:
    symbols: tuple[str, ...] | None
    since: date | None


@dataclass(frozen=True, slots=True)
class _Provider:
    template: str
    host: str
    first_day: date
    timeout_s: float
    limit_bytes: int


class _NotUpdated(Exception):
    """This symbol can't be updated; the text says why. Others may."""


def handle(job: Job, context: Context) -> Json:
    """Update the prices of the symbols that the payload names; see the module for payload and settings."""
    request = read_payload(job, _PAYLOAD_FIELDS, _read_request)
    provider = read_settings(context, job.type, _read_settings)
    outcomes: dict[str, Json] = {}
    with closing(open_market_store(market_data(context))) as store:
        symbols = request.symbols or _stored_symbols(store)
        for done, symbol in enumerate(symbols):
            if context.cancelled():
                raise InterruptedError(f"stopped after {done} of {len(symbols)} symbols; the job can run again")
            context.progress(done / len(symbols), symbol)
            try:
                outcomes[symbol] = _update(symbol, request.since, store, provider)
            except _NotUpdated as error:
                context.log.warning("%s not updated: %s", symbol, error)
                outcomes[symbol] = {"error": str(error)}
    failed = [symbol for symbol, outcome in outcomes.items() if "error" in outcome]
    if len(failed) == len(outcomes):
        reasons = "; ".join(f"{symbol}: {outcomes[symbol]['error']}" for symbol in failed[:5])
        raise PermanentError(f"none of {len(failed)} symbols could be updated: {reasons}")
    return {"symbols": outcomes, "updated": len(outcomes) - len(failed), "failed": len(failed)}


def _read_request(fields: Fields, payload: Mapping[str, Json]) -> _Request:
    named = texts(payload, "symbols")
    if named is not None and not 0 < len(named) <= _MOST_SYMBOLS:
        raise FieldError(f"symbols: name from 1 to {_MOST_SYMBOLS} symbols, or leave it out for all")
    try:
        symbols = None if named is None else tuple(dict.fromkeys(check_symbol(symbol) for symbol in named))
    except InvalidBar as error:
        raise FieldError(f"symbols: {error}") from None
    return _Request(symbols, since=fields.optional("since", lambda name: day(fields, name)))


def _read_settings(fields: Fields, _settings: Mapping[str, Json]) -> _Provider:
    template = fields.text("provider")
    if "{symbol}" not in template:
        raise FieldError("provider: {symbol} must stand in the address")
    limit_mib = fields.optional("limit_mib", lambda name: fields.integer(name, 1, 1024))
    return _Provider(
        template=template,
        # The symbol is the submitter's: it does not choose the host.
        host=urlsplit(template.partition("{")[0]).hostname or "",
        first_day=fields.optional("first_day", lambda name: day(fields, name)) or date(1970, 1, 1),
        timeout_s=fields.optional("timeout_s", lambda name: fields.number(name, 0.1, 3600)) or 30.0,
        limit_bytes=(limit_mib or 16) * _MIB,
    )


def _stored_symbols(store: MarketStore) -> tuple[str, ...]:
    symbols = tuple(store.symbols())
    if not 0 < len(symbols) <= _MOST_SYMBOLS:
        raise PermanentError(f"{len(symbols)} symbols have bars: name from 1 to {_MOST_SYMBOLS} in payload.symbols")
    return symbols


def _update(symbol: str, since: date | None, store: MarketStore, provider: _Provider) -> Json:
    first_day = since or store.last_day(symbol) or provider.first_day
    parsed = _ask(symbol, first_day, provider)
    if parsed.rejected:
        first = parsed.rejected_rows[0]
        message = f"{parsed.rejected} of {parsed.rows} rows hold no valid bar, the first is row {first.number}"
        raise _NotUpdated(f"{message}: {first.reason}")
    counts = store.upsert_bars(symbol, parsed.bars.get(symbol, []))
    last_day = store.last_day(symbol)
    return {**asdict(counts), "last_day": None if last_day is None else last_day.isoformat()}


def _ask(symbol: str, since: date, provider: _Provider) -> ParsedBars:
    url = provider.template.replace("{symbol}", quote(symbol, safe="")).replace("{since}", since.isoformat())
    try:
        answer = fetch(url, timeout_s=provider.timeout_s, limit_bytes=provider.limit_bytes, hosts={provider.host})
        return parse_bars(answer.body, None, Expected(symbol=symbol, columns={}, latest_day=tomorrow()))
    except FetchError as error:
        if error.retryable:
            raise
        raise _NotUpdated(str(error)) from error
    except UnreadableBars as error:
        raise _NotUpdated(f"the provider's answer can't be read: {error}") from error
