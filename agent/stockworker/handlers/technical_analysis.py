"""The job type ``technical_analysis``: computes indicators over stored bars, or over bars in the payload."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Annotated, Final

from stockworker.handlers.api import Context, Job, Json
from stockworker.handlers.bar_formats import RECORDS, Expected, UnreadableBars, parse_records, tomorrow
from stockworker.handlers.calculation import Calculation, read_calculation
from stockworker.handlers.definition import Definition, Failure
from stockworker.handlers.kinds import Custom, Several, Written, unknown
from stockworker.handlers.market import DAY, SYMBOL, Bar, Count, IndicatorValue, InvalidBar, MarketStore
from stockworker.handlers.market_store import open_market_store
from stockworker.handlers.payload import market_data, read_payload, to_json
from stockworker.protocol.fields import FieldError
from stockworker.protocol.wire import Integer, Wire

_MOST_INDICATORS: Final = 100
_MOST_VALUES: Final = 2_000  # a result must fit into one message
USUAL: Final = ("sma", "ema", "rsi", "macd", "bollinger", "atr", "stochastic", "adx", "obv")


class Price(StrEnum):
    """Which closing price the indicators use."""

    CLOSE = "close"
    ADJUSTED_CLOSE = "adjusted_close"


@dataclass(frozen=True, slots=True)
class AnalysisPayload:
    """The payload."""

    symbol: Annotated[str, SYMBOL, Wire("The symbol to analyse.")]
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
        Integer(1, _MOST_VALUES),
        Wire(f"How many days to return, the newest ones. Days times indicators may be at most {_MOST_VALUES:,}."),
    ] = 1
    until: Annotated[date | None, DAY, Wire("Use only the bars up to and including this day.")] = None
    price: Annotated[
        Price,
        Wire(
            "The closing price. With `adjusted_close`, open, high and low are scaled by the same factor, and labels end "
            "in `_adjusted`."
        ),
    ] = Price.CLOSE
    bars: Annotated[
        tuple[Json, ...] | None,
        RECORDS,
        Wire("Use these [bars](#bars), in any order, and neither read nor change the store."),
    ] = None

    def __post_init__(self) -> None:
        most = _MOST_VALUES // len(self.indicators or USUAL)
        if self.last > most:
            raise FieldError(f"must be from 1 to {most} for that many indicators", "last")


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


UNKNOWN_SYMBOL: Final = Failure("there are no bars: {problem}", "The symbol has no bars in the store.")
NO_BARS: Final = Failure(
    "{symbol} has no bars{until}", "The payload names no indicators, and there is no bar up to `until`."
)
TOO_FEW_BARS: Final = Failure(
    "{label} needs {needed} bars: {symbol} has {count}{until}", "There are fewer bars than an indicator needs."
)
NO_ADJUSTED_CLOSE: Final = Failure(
    "{symbol}: {problem}; use price close",
    "`price` is `adjusted_close`, and a bar has none, or the scaled prices are out of bounds.",
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
    "stopped after {done} of {total} indicators; the job can run again",
    "The job was cancelled or timed out, or the worker stops.",
    retried=True,
)

DEFINITION: Final = Definition(
    payload=AnalysisPayload,
    result=AnalysisResult,
    failures=(
        UNKNOWN_SYMBOL,
        NO_BARS,
        TOO_FEW_BARS,
        NO_ADJUSTED_CLOSE,
        NOT_KNOWN,
        UNREADABLE_BARS,
        INVALID_BAR,
        SAME_DAY,
        STOPPED,
    ),
)


def handle(job: Job, context: Context) -> Json:
    """Compute the indicators that the payload names."""
    payload = read_payload(job, AnalysisPayload)
    if payload.bars is not None:
        return to_json(_result(payload, *_analyse(payload, _inline_bars(payload), context)))
    with closing(open_market_store(market_data(context))) as store:
        bars, series = _analyse(payload, _stored_bars(payload, store), context)
        store.store_indicators(payload.symbol, {label: values[-1] for label, values in series.items()})
    return to_json(_result(payload, bars, series))


def _inline_bars(payload: AnalysisPayload) -> list[Bar]:
    try:
        parsed = parse_records(payload.bars or (), Expected(payload.symbol, tomorrow()))
    except UnreadableBars as error:
        raise UNREADABLE_BARS.error(problem=error) from error
    if parsed.rejected:
        first = parsed.rejected_rows[0]
        raise INVALID_BAR.error(row=first.row, count=parsed.rows, reason=first.reason)
    by_day = {bar.day: bar for bar in parsed.bars.get(payload.symbol, [])}
    if len(by_day) < parsed.rows:
        raise SAME_DAY.error()
    return [by_day[each] for each in sorted(by_day) if payload.until is None or each <= payload.until]


def _stored_bars(payload: AnalysisPayload, store: MarketStore) -> list[Bar]:
    bars = store.bars(payload.symbol, until=payload.until)
    if not bars and payload.symbol not in store.symbols():
        raise UNKNOWN_SYMBOL.error(problem=unknown("symbol", payload.symbol, store.symbols()))
    return bars


def _analyse(
    payload: AnalysisPayload, bars: Sequence[Bar], context: Context
) -> tuple[Sequence[Bar], dict[str, list[IndicatorValue]]]:
    calculations = _possible(payload, len(bars))
    suffix = ""
    if payload.price is Price.ADJUSTED_CLOSE:
        suffix = "_adjusted"
        try:
            bars = [bar.adjusted() for bar in bars]
        except InvalidBar as error:
            raise NO_ADJUSTED_CLOSE.error(symbol=payload.symbol, problem=error) from error
    series = {}
    for done, calculation in enumerate(calculations):
        if context.cancelled():
            raise STOPPED.error(done=done, total=len(calculations))
        context.progress(done / len(calculations), calculation.label)
        _check_known(payload.symbol, calculation, bars)
        series[calculation.label + suffix] = calculation.values(bars, payload.last)
    return bars, series


def _check_known(symbol: str, calculation: Calculation, bars: Sequence[Bar]) -> None:
    for name in calculation.fields:
        for bar in bars:
            if getattr(bar, name) is None:
                raise NOT_KNOWN.error(label=calculation.label, field=name, symbol=symbol, day=bar.day)


def _possible(payload: AnalysisPayload, count: int) -> Sequence[Calculation]:
    until = "" if payload.until is None else f" until {payload.until}"
    if payload.indicators is None:
        usual = [read_calculation(name) for name in USUAL]
        calculations = [calculation for calculation in usual if calculation.bars_needed <= count]
        if not calculations:
            raise NO_BARS.error(symbol=payload.symbol, until=until)
        return calculations
    for calculation in payload.indicators:
        if calculation.bars_needed > count:
            raise TOO_FEW_BARS.error(
                label=calculation.label,
                needed=calculation.bars_needed,
                symbol=payload.symbol,
                count=count,
                until=until,
            )
    return payload.indicators


def _result(
    payload: AnalysisPayload, bars: Sequence[Bar], series: Mapping[str, Sequence[IndicatorValue]]
) -> AnalysisResult:
    return AnalysisResult(
        symbol=payload.symbol,
        as_of=bars[-1].day,
        bars=len(bars),
        indicators=series,
    )
