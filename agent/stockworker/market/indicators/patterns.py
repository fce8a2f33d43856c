"""Patterns of candles."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from stockworker.market.columns import Columns, Values
from stockworker.market.indicators.declaration import (
    CANDLE,
    Indicator,
)
from stockworker.market.series import (
    Series,
    each,
    shifted,
    sma,
)


def engulfing(c: Columns) -> Values:
    found: Series = [None]
    bodies = list(zip(c.open, c.close, strict=True))
    for (old_open, old_close), (new_open, new_close) in pairwise(bodies):
        bottom, top = sorted((old_open, old_close))
        covers = min(new_open, new_close) <= bottom and max(new_open, new_close) >= top
        wider = min(new_open, new_close) < bottom or max(new_open, new_close) > top
        turns = (new_close >= new_open) != (old_close >= old_open)
        size = 100.0 if min(new_open, new_close) < bottom and max(new_open, new_close) > top else 80.0
        found.append((size if new_close >= new_open else -size) if covers and wider and turns else 0.0)
    return found[: len(c.close)]


def doji(c: Columns) -> Values:
    usual = shifted(sma([high - low for high, low in zip(c.high, c.low, strict=True)], 10), 1)
    return each(lambda o, close, size: 100.0 if abs(close - o) <= 0.1 * size else 0.0, c.open, c.close, usual)


PATTERNS: Final[Mapping[str, Indicator]] = {
    "engulfing": Indicator(
        "Engulfing candles",
        engulfing,
        (),
        lambda: 2,
        "100 if a rising body covers the falling one before, -100 if a falling one covers a rising one, else 0. 80 and -80 if "
        "they share an end.",
        needs=("open",),
        windowed=True,
    ),
    "doji": Indicator(
        "Doji",
        doji,
        (),
        lambda: 11,
        "100 if |C - open| is at most a tenth of the mean of H - L of the ten days before, else 0.",
        needs=CANDLE,
        windowed=True,
    ),
}
