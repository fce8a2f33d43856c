"""The market data that the page shows: symbols and charts. Its store is read in a thread."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from stockworker.handlers.kinds import unknown
from stockworker.market.bars import MarketStore
from stockworker.market.calculation import Calculation, History, read_calculation
from stockworker.market.chart import NARROW, WIDE, draw
from stockworker.market.indicators.table import INDICATORS
from stockworker.protocol.fields import FieldError

SPANS: Final = {"3 months": 63, "1 year": 252, "5 years": 1260}
"""How many bars a chart shows."""

WIDTHS: Final = {"wide": WIDE, "narrow": NARROW}
"""How many pixels a chart is wide; phones get a narrow one, whose texts they show in full size."""

MOST_INDICATORS: Final = 6

OpenStore = Callable[[], AbstractContextManager[MarketStore]]


class MarketCharts:
    """Reads the store that `open_store` opens; it raises StoreError if the store can't be read."""

    def __init__(self, open_store: OpenStore) -> None:
        self._open_store = open_store

    def symbols(self) -> Sequence[tuple[object, ...]]:
        """All symbols, with the number of their bars, and the days of the first and the last.

        Raises:
            StoreError: the store can't be read.
        """
        with self._open_store() as store:
            return store.stored_symbols()

    def chart(self, symbol: str, indicators: Sequence[str], span: str, width: str) -> str:
        """A chart as SVG.

        Raises:
            FieldError: the symbol, the span, the width or an indicator is not known, or can't be drawn.
            StoreError: the store can't be read.
        """
        if span not in SPANS:
            raise unknown("span", span, SPANS)
        if width not in WIDTHS:
            raise unknown("width", width, WIDTHS)
        calculations = self.calculations(indicators)
        with self._open_store() as store:
            bars = store.bars(symbol)
        if not bars:
            raise FieldError(f"there are no bars of {symbol[:40]!r}")
        history = History(bars)
        for each in calculations:
            if problem := each.problem(history):
                raise FieldError(problem)
        return draw(symbol, bars, calculations, min(len(bars), SPANS[span]), WIDTHS[width]).svg()

    def calculations(self, indicators: Sequence[str]) -> list[Calculation]:
        """The indicators with their usual parameters.

        Raises:
            FieldError: one is not known, or there are too many.
        """
        if len(indicators) > MOST_INDICATORS:
            raise FieldError(f"choose {MOST_INDICATORS} indicators at most, not {len(indicators)}")
        return [read_calculation({"name": name}) for name in dict.fromkeys(indicators)]


INDICATOR_NAMES: Final = tuple(sorted(INDICATORS))
