"""The job type ``technical_analysis``: computes indicators over stored bars, or over bars in the payload."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date
from enum import StrEnum
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from stockworker.adapters import clock
from stockworker.handlers.api import Context, Job, Json, PermanentError
from stockworker.handlers.definition import WRONG_PAYLOAD, Definition, Failure
from stockworker.handlers.kinds import Custom, Several, Written, unknown
from stockworker.handlers.payload import market_data, read_payload, to_json
from stockworker.market.acceleration import faster_formulas
from stockworker.market.adjustment import Adjust, CantAdjust
from stockworker.market.bar_fields import RECORDS
from stockworker.market.bar_formats import Expected, UnreadableBars, parse_records, tomorrow
from stockworker.market.bars import DAY, SYMBOL, BarColumns, Count, IndicatorValue, InvalidBar, MarketStore, columns_of
from stockworker.market.calculation import Calculation, History, fields_of, read_calculation
from stockworker.market.interval import DAILY, INTERVAL, Interval
from stockworker.market.loading import Incomplete, View, load_columns
from stockworker.market.source_format import ZONE, SourceFormat
from stockworker.market.store import open_market_store
from stockworker.protocol.fields import FieldError
from stockworker.protocol.frozen import dataclass
from stockworker.protocol.wire import Integer, Wire

_MOST_INDICATORS: Final = 100
_MOST_SYMBOLS: Final = 1_000
_MOST_VALUES: Final = 2_000  # a result must fit into one message
USUAL: Final = ("sma", "ema", "rsi", "macd", "bollinger", "atr", "stochastic", "adx", "obv")


class Price(StrEnum):
    """Which closing price the indicators use."""

    CLOSE = "close"
    ADJUSTED_CLOSE = "adjusted_close"


_SEVERAL: Final = Several(SYMBOL, _MOST_SYMBOLS)


def _read_symbols(value: Json) -> tuple[str, ...]:
    """The symbols; none for `"all"`."""
    return () if value == "all" else tuple(dict.fromkeys(_SEVERAL.read(value)))


@dataclass(frozen=True, slots=True)
class AnalysisPayload:
    """The payload."""

    symbol: Annotated[str | None, SYMBOL, Wire("The symbol to analyse. Give either `symbol` or `symbols`.")] = None
    symbols: Annotated[
        tuple[str, ...] | None,
        Custom(f'`"all"`, or {_SEVERAL.notation}', _read_symbols),
        Wire('Several symbols, or `"all"` that have bars. A symbol that fails stops no other one.'),
    ] = None
    indicators: Annotated[
        tuple[Calculation, ...] | None,
        Several(Custom("indicator", read_calculation), _MOST_INDICATORS),
        Wire(
            'What to compute. An indicator is its name, `"rsi"`, or an object with parameters, `{"name": "sma", "period": '
            f"50}}`. By default these, if there are enough bars: {', '.join(f'`{name}`' for name in USUAL)}."
        ),
    ] = None
    last: Annotated[
        int,
        Integer(0, _MOST_VALUES),
        Wire(
            "How many days to return, the newest ones; with 0, the values are only stored. Days times indicators times symbols "
            f"may be at most {_MOST_VALUES:,}."
        ),
    ] = 1
    until: Annotated[date | None, DAY, Wire("Use only the bars up to and including this day.")] = None
    price: Annotated[
        Price,
        Wire(
            "The closing price. With `adjusted_close`, open, high and low are scaled by the same factor, and labels end "
            "in `_adjusted`."
        ),
    ] = Price.CLOSE
    adjust: Annotated[
        Adjust,
        Wire(
            "Adjust prices and volumes for stored [splits and dividends](#splits-and-dividends): `splits`, `dividends`, "
            "`all`. Labels end in `_adjusted_for_splits` and so on."
        ),
    ] = Adjust.NONE
    interval: Annotated[
        Interval,
        INTERVAL,
        Wire("The [interval](#intervals) of the bars. Stored bars of shorter ones make longer ones."),
    ] = DAILY
    made_of: Annotated[
        Interval | None,
        INTERVAL,
        Wire(
            "Make the bars of those of this interval. By default, stored bars of `interval` are used if the symbol has any, "
            "and otherwise those of the longest interval that fits."
        ),
    ] = None
    time_zone: Annotated[
        ZoneInfo | None,
        ZONE,
        Wire("The time zone of the exchange, whose days end at midnight there; by default UTC."),
    ] = None
    incomplete: Annotated[
        Incomplete, Wire("What happens to a last bar whose time is not over: `keep` it, or `drop` it.")
    ] = Incomplete.KEEP
    bars: Annotated[
        tuple[Json, ...] | None,
        RECORDS,
        Wire("Use these [bars](#bars), in any order, and neither read nor change the store."),
    ] = None

    def __post_init__(self) -> None:
        if (self.symbol is None) == (self.symbols is None):
            raise FieldError("give either symbol or symbols", "symbol")
        if self.symbols is not None and self.bars is not None:
            raise FieldError("bars are of one symbol; give symbol instead", "symbols")
        source = self.interval if self.made_of is None else self.made_of
        if source is not self.interval and not source.can_make(self.interval):
            raise FieldError(f"bars of {self.made_of} can't make bars of {self.interval}", "made_of")
        if self.adjust is not Adjust.NONE and (self.price is Price.ADJUSTED_CLOSE or self.bars is not None):
            raise FieldError("needs stored bars and price close", "adjust")
        self.check_last(len(self.symbols or (self.symbol,)))

    @property
    def view(self) -> View:
        """Which bars are used."""
        adjusted = self.price is Price.ADJUSTED_CLOSE
        zone = self.time_zone or UTC
        return View(self.interval, self.made_of, zone, self.until, self.incomplete, adjusted, self.adjust)

    @property
    def suffix(self) -> str:
        """The end of all labels."""
        if self.adjust is not Adjust.NONE:
            return f"_adjusted_for_{self.adjust}"
        return "_adjusted" if self.price is Price.ADJUSTED_CLOSE else ""

    def check_last(self, symbols: int) -> None:
        """Check that the result about this many symbols fits into one message.

        Raises:
            FieldError: it may not.
        """
        most = _MOST_VALUES // (len(self.indicators or USUAL) * symbols)
        if self.last > most:
            raise FieldError(f"must be from 0 to {most} for that many indicators and symbols", "last")


@dataclass(frozen=True, slots=True)
class AnalysisResult:
    """The result."""

    symbol: Annotated[str, SYMBOL, Wire("The symbol.")]
    as_of: Annotated[date, DAY, Wire("Day of the newest bar that was used.")]
    bars: Annotated[Count, Wire("Bars that were used.")]
    indicators: Annotated[
        Mapping[str, Sequence[IndicatorValue]],
        Written("object of lists", ".<label>[]", IndicatorValue),
        Wire(
            "The values of each indicator. Its label is the name with the parameters, such as `sma_50`, "
            "`bollinger_20_2` or `obv`."
        ),
    ]


@dataclass(frozen=True, slots=True)
class FailedSymbol:
    """The outcome for a symbol that could not be analysed."""

    error: Annotated[str, Wire("Instead of these: why the symbol was not analysed.")]


@dataclass(frozen=True, slots=True)
class AnalysesResult:
    """The result for several symbols."""

    symbols: Annotated[
        Mapping[str, AnalysisResult | FailedSymbol],
        Written("object of objects", ".<symbol>", AnalysisResult, FailedSymbol),
        Wire("The result of each symbol."),
    ]
    analysed: Annotated[Count, Wire("Symbols that were analysed.")]
    failed: Annotated[Count, Wire("Symbols that were not.")]


NOTHING_ANALYSED: Final = Failure(
    "none of {count} symbols could be analysed: {reasons}",
    "Each of `symbols` failed in one of the ways above. The text has the first five reasons.",
)
TOO_MANY_SYMBOLS: Final = Failure(
    f"{{count}} symbols have bars; name 1 to {_MOST_SYMBOLS:,} of them in payload.symbols",
    'The payload has `"symbols": "all"`, and the store has none or too many.',
)
UNKNOWN_SYMBOL: Final = Failure("there are no bars: {problem}", "The symbol has no bars in the store.")
NO_INTERVAL: Final = Failure(
    "{symbol} has no bars of {interval}; it has bars of {stored}",
    "The symbol has bars of other intervals only, and none of these can make the wanted ones.",
)
NO_BARS: Final = Failure(
    "{symbol} has {count} bars{until}, too few for the usual indicators",
    "The payload names no indicators, and there is no bar up to `until`, or only one that has only a close.",
)
TOO_FEW_BARS: Final = Failure(
    "{label} needs {needed} bars: {symbol} has {count}{until}", "There are fewer bars than an indicator needs."
)
NO_ADJUSTED_CLOSE: Final = Failure(
    "{symbol}: {problem}; use price close",
    "`price` is `adjusted_close`, and a bar has none, or the scaled prices are out of bounds.",
)
NOT_ADJUSTED: Final = Failure(
    "{symbol}: {problem}",
    "`adjust` can't be applied: the prices are adjusted already, a dividend is not below the price, or bars are longer than a day.",
)
UNREADABLE_BARS: Final = Failure("payload.bars: {problem}", "Two keys of a bar in the payload mean the same field.")
NOT_KNOWN: Final = Failure(
    "{label} needs {field}, and the bar of {symbol} on {day} has none",
    "An indicator uses a price or the volume, and a bar has only the others, such as the close.",
)
INVALID_BAR: Final = Failure(
    "payload.bars: bar {row} of {count}: {reason}", "A bar in the payload is not valid; see [Bars](#bars)."
)
SAME_DAY: Final = Failure("payload.bars: two bars have the same day", "Two bars in the payload have the same day.")
STOPPED: Final = Failure(
    "stopped after {done} of {total} {what}; the job can run again",
    "The job was cancelled or timed out, or the worker stops.",
    retried=True,
)

DEFINITION: Final = Definition(
    payload=AnalysisPayload,
    result=AnalysisResult,
    failures=(
        UNKNOWN_SYMBOL,
        NO_INTERVAL,
        NO_BARS,
        TOO_FEW_BARS,
        NO_ADJUSTED_CLOSE,
        NOT_ADJUSTED,
        NOT_KNOWN,
        UNREADABLE_BARS,
        INVALID_BAR,
        SAME_DAY,
        NOTHING_ANALYSED,
        TOO_MANY_SYMBOLS,
        STOPPED,
    ),
    several=AnalysesResult,
)


def handle(job: Job, context: Context) -> Json:
    """Compute the indicators that the payload names."""
    payload = read_payload(job, AnalysisPayload)
    if payload.bars is not None and payload.symbol is not None:
        return to_json(_analyse(payload, payload.symbol, _inline_bars(payload, payload.symbol), context))
    with closing(open_market_store(market_data(context))) as store:
        if payload.symbol is None:
            return to_json(_analyse_all(payload, store, context))
        result = _analyse(payload, payload.symbol, _stored_bars(payload, payload.symbol, store), context)
        store.store_indicators({payload.symbol: _newest(result)}, payload.interval)
    return to_json(_shown(result, payload.last))


def _newest(result: AnalysisResult) -> dict[str, IndicatorValue]:
    return {label: values[-1] for label, values in result.indicators.items()}


def _analyse_all(payload: AnalysisPayload, store: MarketStore, context: Context) -> AnalysesResult:
    symbols = payload.symbols or tuple(store.symbols())
    if not 0 < len(symbols) <= _MOST_SYMBOLS:
        raise TOO_MANY_SYMBOLS.error(count=len(symbols))
    try:
        payload.check_last(len(symbols))
    except FieldError as error:
        raise WRONG_PAYLOAD.error(field=f".{error.path}", problem=error.problem) from error
    found: dict[str, AnalysisResult | FailedSymbol] = {}
    for symbol in symbols:
        if context.cancelled():
            raise STOPPED.error(done=len(found), total=len(symbols), what="symbols")
        context.progress(len(found) / len(symbols), symbol)
        try:
            found[symbol] = _analyse(payload, symbol, _stored_bars(payload, symbol, store), None, len(symbols))
        except PermanentError as error:
            found[symbol] = FailedSymbol(str(error))
    analysed = {symbol: each for symbol, each in found.items() if isinstance(each, AnalysisResult)}
    if not analysed:
        reasons = "; ".join(each.error for each in list(found.values())[:5] if isinstance(each, FailedSymbol))
        raise NOTHING_ANALYSED.error(count=len(found), reasons=reasons)
    store.store_indicators({symbol: _newest(each) for symbol, each in analysed.items()}, payload.interval)
    shown = {symbol: _shown(each, payload.last) for symbol, each in found.items()}
    return AnalysesResult(symbols=shown, analysed=len(analysed), failed=len(found) - len(analysed))


def _shown(outcome: AnalysisResult | FailedSymbol, last: int) -> AnalysisResult | FailedSymbol:
    return replace(outcome, indicators={}) if last == 0 and isinstance(outcome, AnalysisResult) else outcome


def _inline_bars(payload: AnalysisPayload, symbol: str) -> BarColumns:
    source = payload.made_of or payload.interval
    try:
        written = SourceFormat(interval=source, time_zone=payload.time_zone)
        parsed = parse_records(payload.bars or (), Expected(symbol, tomorrow(), written))
    except UnreadableBars as error:
        raise UNREADABLE_BARS.error(problem=error) from error
    if parsed.rejected:
        first = parsed.rejected_rows[0]
        raise INVALID_BAR.error(row=first.row, count=parsed.rows, reason=first.reason)
    by_day = {bar.day: bar for bar in parsed.bars.get(symbol, [])}
    if len(by_day) < parsed.rows:
        raise SAME_DAY.error()
    latest = payload.view.latest(source)
    bars = [by_day[each] for each in sorted(by_day) if latest is None or each <= latest]
    with _adjusting(symbol):
        return columns_of(payload.view.of(bars, source, clock.utc_now()))


def _stored_bars(payload: AnalysisPayload, symbol: str, store: MarketStore) -> BarColumns:
    fields = fields_of(payload.indicators or _usual())
    with _adjusting(symbol):
        bars = load_columns(store, symbol, payload.view, clock.utc_now(), fields)
    if not bars.days:
        _check_stored(payload, symbol, store)
    return bars


@contextmanager
def _adjusting(symbol: str) -> Iterator[None]:
    try:
        yield
    except InvalidBar as error:
        raise NO_ADJUSTED_CLOSE.error(symbol=symbol, problem=error) from error
    except CantAdjust as error:
        raise NOT_ADJUSTED.error(symbol=symbol, problem=error) from error


def _check_stored(payload: AnalysisPayload, symbol: str, store: MarketStore) -> None:
    """Check that a symbol without bars has some that are outside of the wanted time."""
    stored = store.intervals(symbol)
    if not stored:
        raise UNKNOWN_SYMBOL.error(problem=unknown("symbol", symbol, store.symbols()))
    source = payload.made_of or payload.interval
    if source not in stored and not any(each.can_make(source) for each in stored if payload.made_of is None):
        names = ", ".join(map(str, stored))
        raise NO_INTERVAL.error(symbol=symbol, interval=source, stored=names)


def _analyse(
    payload: AnalysisPayload, symbol: str, bars: BarColumns, context: Context | None, symbols: int = 1
) -> AnalysisResult:
    """Compute the indicators of one of some symbols; without a context, neither report progress nor stop."""
    count = len(bars.days)
    history = History(bars, faster_formulas(count * len(payload.indicators or USUAL), symbols))
    calculations = _possible(payload, symbol, history)
    series = {}
    for done, calculation in enumerate(calculations):
        if context is not None:
            if context.cancelled():
                raise STOPPED.error(done=done, total=len(calculations), what="indicators")
            context.progress(done / len(calculations), calculation.label)
        if gap := calculation.gap(history):
            raise NOT_KNOWN.error(label=calculation.label, field=gap[0], symbol=symbol, day=gap[1])
        series[calculation.label + payload.suffix] = calculation.values(history, max(payload.last, 1))
    return AnalysisResult(symbol=symbol, as_of=bars.days[-1], bars=count, indicators=series)


def _usual() -> list[Calculation]:
    return [read_calculation(name) for name in USUAL]


def _possible(payload: AnalysisPayload, symbol: str, history: History) -> Sequence[Calculation]:
    count = len(history)
    until = "" if payload.until is None else f" until {payload.until}"
    if payload.indicators is None:
        calculations = [each for each in _usual() if each.bars_needed <= count and each.gap(history) is None]
        if not calculations:
            raise NO_BARS.error(symbol=symbol, count=count, until=until)
        return calculations
    for calculation in payload.indicators:
        if calculation.bars_needed > count:
            raise TOO_FEW_BARS.error(
                label=calculation.label,
                needed=calculation.bars_needed,
                symbol=symbol,
                count=count,
                until=until,
            )
    return payload.indicators
