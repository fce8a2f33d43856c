"""The job type ``technical_analysis``: indicators over stored bars, or over bars in the payload.

Payload::

    {"symbol": "AAPL"}
    {"symbol": "AAPL", "indicators": ["rsi", {"name": "sma", "period": 50}], "last": 5, "until": "2013-03-01"}
    {"symbol": "AAPL", "price": "adjusted_close", "indicators": ["macd"]}
    {"symbol": "AAPL", "bars": [{"date": "2013-03-01", "open": 438, …}, …], "indicators": ["obv"]}

Without ``indicators``, those of a usual set that there are enough bars for. ``price`` says which closing price counts;
with ``adjusted_close`` open, high and low are adjusted alike, and labels end in ``_adjusted``. Result::

    {"symbol": "AAPL", "as_of": "2013-03-01", "bars": 3270,
     "indicators": {"sma_50": [{"day": "2013-03-01", "value": 480.9}], "macd_12_26_9": [{"day": …, "value": {…}}]}}

The newest value of each indicator over stored bars is kept in the market-data store.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from stockworker.handlers.api import Context, Job, Json, PermanentError
from stockworker.handlers.bar_formats import Expected, UnreadableBars, parse_records, tomorrow
from stockworker.handlers.indicators import Calculation, read_calculation
from stockworker.handlers.market import Bar, IndicatorValue, InvalidBar, MarketStore
from stockworker.handlers.market_store import open_market_store
from stockworker.handlers.payload import day, market_data, read_payload, symbol, unknown
from stockworker.protocol.fields import FieldError, Fields

_PAYLOAD_FIELDS: Final = ("symbol", "indicators", "last", "until", "price", "bars")
_MOST_INDICATORS: Final = 100
_MOST_VALUES: Final = 2_000  # a result must fit into one message
_USUAL: Final = ("sma", "ema", "rsi", "macd", "bollinger", "atr", "stochastic", "adx", "obv")


class Price(StrEnum):
    """Which closing price counts."""

    CLOSE = "close"
    ADJUSTED_CLOSE = "adjusted_close"


@dataclass(frozen=True, slots=True)
class _Request:
    symbol: str
    calculations: tuple[Calculation, ...] | None
    last: int
    until: date | None
    price: Price
    bars: list[Json] | None


def handle(job: Job, context: Context) -> Json:
    """Compute the indicators that the payload names; see the module for payload and result."""
    request = read_payload(job, _PAYLOAD_FIELDS, _read_request)
    if request.bars is not None:
        return _result(request, *_analyse(request, _inline_bars(request), context))
    with closing(open_market_store(market_data(context))) as store:
        bars, series = _analyse(request, _stored_bars(request, store), context)
        store.store_indicators(request.symbol, {label: values[-1] for label, values in series.items()})
    return _result(request, bars, series)


def _read_request(fields: Fields, payload: Mapping[str, Json]) -> _Request:
    bars = payload.get("bars")
    if bars is not None and not isinstance(bars, list):
        raise FieldError("bars: expected a list")
    request = _Request(
        symbol=symbol(fields, "symbol"),
        calculations=_read_calculations(payload.get("indicators")),
        last=fields.optional("last", lambda name: fields.integer(name, 1, _MOST_VALUES)) or 1,
        until=fields.optional("until", lambda name: day(fields, name)),
        price=fields.optional("price", lambda name: fields.choice(name, Price)) or Price.CLOSE,
        bars=bars,
    )
    most = _MOST_VALUES // len(request.calculations or _USUAL)
    if request.last > most:
        raise FieldError(f"last: must be from 1 to {most} for that many indicators")
    return request


def _read_calculations(items: Json) -> tuple[Calculation, ...] | None:
    if items is None:
        return None
    if not isinstance(items, list) or not 0 < len(items) <= _MOST_INDICATORS:
        raise FieldError(f"indicators: expected a list of 1 to {_MOST_INDICATORS}")
    return tuple(read_calculation(item, f"indicators[{place}]") for place, item in enumerate(items))


def _inline_bars(request: _Request) -> list[Bar]:
    try:
        parsed = parse_records(request.bars or [], Expected(request.symbol, columns={}, latest_day=tomorrow()))
    except UnreadableBars as error:
        raise PermanentError(f"payload.bars: {error}") from error
    if parsed.rejected:
        first = parsed.rejected_rows[0]
        raise PermanentError(f"payload.bars: bar {first.number} of {parsed.rows}: {first.reason}")
    by_day = {bar.day: bar for bar in parsed.bars.get(request.symbol, [])}
    if len(by_day) < parsed.rows:
        raise PermanentError("payload.bars: two bars are of the same day")
    return [by_day[each] for each in sorted(by_day) if request.until is None or each <= request.until]


def _stored_bars(request: _Request, store: MarketStore) -> list[Bar]:
    bars = store.bars(request.symbol, until=request.until)
    if not bars and request.symbol not in store.symbols():
        raise PermanentError(f"there are no bars: {unknown('symbol', request.symbol, store.symbols())}")
    return bars


def _analyse(
    request: _Request, bars: Sequence[Bar], context: Context
) -> tuple[Sequence[Bar], dict[str, list[IndicatorValue]]]:
    calculations = _possible(request, len(bars))
    suffix = ""
    if request.price is Price.ADJUSTED_CLOSE:
        suffix = "_adjusted"
        try:
            bars = [bar.adjusted() for bar in bars]
        except InvalidBar as error:
            raise PermanentError(f"{request.symbol}: {error}: use price close") from error
    series = {}
    for done, calculation in enumerate(calculations):
        if context.cancelled():
            raise InterruptedError(f"stopped after {done} of {len(calculations)} indicators; the job can run again")
        context.progress(done / len(calculations), calculation.label)
        series[calculation.label + suffix] = calculation.values(bars)
    return bars, series


def _possible(request: _Request, count: int) -> Sequence[Calculation]:
    if request.calculations is None:
        usual = [read_calculation(name, name) for name in _USUAL]
        calculations = [calculation for calculation in usual if calculation.bars_needed <= count]
        if not calculations:
            raise PermanentError(f"{request.symbol} has no bars{_until(request)}")
        return calculations
    for calculation in request.calculations:
        if calculation.bars_needed > count:
            message = f"{calculation.label} needs {calculation.bars_needed} bars: {request.symbol} has {count}"
            raise PermanentError(message + _until(request))
    return request.calculations


def _until(request: _Request) -> str:
    return "" if request.until is None else f" until {request.until}"


def _result(request: _Request, bars: Sequence[Bar], series: Mapping[str, Sequence[IndicatorValue]]) -> Json:
    return {
        "symbol": request.symbol,
        "as_of": bars[-1].day.isoformat(),
        "bars": len(bars),
        "indicators": {
            label: [{"day": found.day.isoformat(), "value": found.value} for found in values[-request.last :]]
            for label, values in series.items()
        },
    }
