"""Draws the last year of a symbol: price with moving average and Bollinger bands, and the relative strength below."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from stockworker.handlers.market import Bar

SIZE_PX: Final = (1500, 900)
_DPI: Final = 125

_INK, _PALE = "#1f2933", "#9aa5b1"
_PRICE, _AVERAGE, _BANDS, _STRENGTH = "#1d4ed8", "#d97706", "#64748b", "#7c3aed"
_OVERBOUGHT, _OVERSOLD = 70, 30  # the levels of J. W. Wilder, who invented the index

Values = Sequence[Mapping[str, Any]]
"""One indicator in the result of ``technical_analysis``: a day and a value each."""


def draw(symbol: str, bars: Sequence[Bar], indicators: Mapping[str, Values], updated_from: date, path: Path) -> None:
    """Write the chart as PNG.

    Args:
        symbol: the name of the share.
        bars: the days to show.
        indicators: with ``sma_50``, ``bollinger_20_2`` and ``rsi_14``.
        updated_from: the first day that `price_update` has fetched; it is marked.
        path: the file to write.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)
    figure = Figure(figsize=(SIZE_PX[0] / _DPI, SIZE_PX[1] / _DPI), dpi=_DPI, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    price, strength = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    first, last = bars[0].day, bars[-1].day
    figure.suptitle(f"{symbol}: daily close, {first:%-d %b %Y} to {last:%-d %b %Y}", color=_INK, fontsize=15)
    _draw_price(price, bars, indicators)
    _draw_strength(strength, indicators["rsi_14"])
    for axes in (price, strength):
        _dress(axes)
        axes.axvline(updated_from, color=_PALE, linewidth=1, linestyle=(0, (2, 3)))
    price.annotate(
        "from price_update",
        (updated_from, 1.015),
        xycoords=("data", "axes fraction"),
        color=_INK,
        fontsize=9,
    )
    price.set_xlim(first, last)
    locator = AutoDateLocator(minticks=6, maxticks=14)
    strength.xaxis.set_major_locator(locator)
    strength.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    figure.align_ylabels()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_price(axes: Any, bars: Sequence[Bar], indicators: Mapping[str, Values]) -> None:
    bands = indicators["bollinger_20_2"]
    days = _days(bands)
    lower, middle, upper = ([value["value"][name] for value in bands] for name in ("lower", "middle", "upper"))
    axes.fill_between(
        days, lower, upper, color=_BANDS, alpha=0.13, linewidth=0, label="Bollinger bands (20 days, 2 s.d.)"
    )
    axes.plot(days, middle, color=_BANDS, linewidth=1, linestyle="--", label="SMA 20")
    average = indicators["sma_50"]
    axes.plot(_days(average), [value["value"] for value in average], color=_AVERAGE, linewidth=1.4, label="SMA 50")
    axes.plot([bar.day for bar in bars], [bar.close for bar in bars], color=_PRICE, linewidth=1.6, label="Close")
    _note_on_the_right(axes, bars[-1].close, f"{bars[-1].close:.2f}", _PRICE)
    axes.set_ylabel("Price (US$)")
    # Above the axes: inside, it would cover the prices of some symbol.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, reverse=True, fontsize=10)


def _draw_strength(axes: Any, values: Values) -> None:
    days, strength = _days(values), [value["value"] for value in values]
    axes.axhspan(_OVERSOLD, _OVERBOUGHT, color=_STRENGTH, alpha=0.06, linewidth=0)
    axes.plot(days, strength, color=_STRENGTH, linewidth=1.3)
    axes.set_ylim(0, 100)
    axes.set_yticks([0, _OVERSOLD, 50, _OVERBOUGHT, 100])
    axes.set_ylabel("RSI 14")
    for level, meaning in ((_OVERBOUGHT, "overbought"), (_OVERSOLD, "oversold")):
        axes.axhline(level, color=_STRENGTH, linewidth=0.8, alpha=0.5)
        _note_on_the_right(axes, level, meaning, _STRENGTH)


def _note_on_the_right(axes: Any, level: float, text: str, color: str) -> None:
    """Write beside the axes, where no line can run through it."""
    axes.annotate(
        text,
        (1, level),
        xytext=(5, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize=9,
    )


def _days(values: Values) -> list[date]:
    return [date.fromisoformat(value["day"]) for value in values]


def _dress(axes: Any) -> None:
    axes.grid(visible=True, color=_PALE, alpha=0.25, linewidth=0.8)
    axes.tick_params(colors=_INK, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(_PALE)
