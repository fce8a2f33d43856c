"""Draws a symbol: the close with the indicators at the level of prices, and a panel below for each other indicator."""

# Which values are at the level of prices is not a list of names: it is measured. If all prices rise by the same amount, a
# moving average, a band or a stop rises by that amount as well. An oscillator, a range or a volume does not.

import math
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Final

from stockworker.market.bars import Bar
from stockworker.market.calculation import Calculation, History
from stockworker.market.drawing import FONT_PX, Area, Caption, Drawing, Line, Point
from stockworker.market.interval import written
from stockworker.protocol.frozen import dataclass

WIDE: Final = 1200
"""Width of a drawing for a screen, in pixels."""

NARROW: Final = 380
"""Width of a drawing for a phone, in pixels."""


_PRICE_HEIGHT, _PANEL_HEIGHT = 420, 130
_LEFT, _RIGHT, _TOP, _GAP, _FIRST_ROW = 16, 84, 56, 34, 12
_INK, _PALE, _PRICE = "#1f2933", "#d3d9e0", "#1d4ed8"
_COLORS: Final = ("#d97706", "#7c3aed", "#059669", "#dc2626", "#0891b2", "#be185d", "#65a30d", "#64748b")
_FEWEST_LABELS, _LABEL_PX = 3, 100
_LETTER_PX: Final = 6.8
"""An upper bound for the mean width of a letter, to place what follows a text."""

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """Values for each day that is drawn."""

    name: str
    values: Values


def draw(
    symbol: str, bars: Sequence[Bar], calculations: Sequence[Calculation], last: int | None = None, width: int = WIDE
) -> Drawing:
    """Draw the newest bars.

    Args:
        symbol: its name, for the title.
        bars: in the order of their days; all, so that indicators have the days that they need.
        calculations: the indicators; each has enough bars, and the fields that it needs.
        last: how many days are drawn, the newest ones; by default all.
        width: of the drawing, in pixels.
    """
    shown = bars if last is None else bars[-last:]
    overlays: list[Curve] = []
    panels: list[list[Curve]] = []
    for calculation in calculations:
        level, others = _sorted(calculation, bars, len(shown))
        overlays += level
        panels += [others] if others else []
    title = f"{symbol}, {written(shown[0].day)} to {written(shown[-1].day)}"
    drawing = Drawing(width, _TOP, title, [Caption(title, (_LEFT, 18), _INK, size=FONT_PX + 4)])
    price = Curve("close", [bar.close for bar in shown])
    places = [_x(number, len(shown), width) for number in range(len(shown))]
    _draw_panel(drawing, places, [price, *overlays], _PRICE_HEIGHT, (_PRICE, *_COLORS))
    for curves in panels:
        _draw_panel(drawing, places, curves, _PANEL_HEIGHT, _COLORS[1:])
    _draw_days(drawing, [bar.day for bar in shown], drawing.height - _GAP)
    return drawing


def _sorted(calculation: Calculation, bars: Sequence[Bar], count: int) -> tuple[list[Curve], list[Curve]]:
    """The curves of an indicator for the newest days: those at the level of prices, and the others."""
    by = max(bar.close for bar in bars) + 1.0
    found = _curves(calculation, bars, count)
    moved = _curves(calculation, [_raised(bar, by) for bar in bars], count)
    level = [curve for curve in found if _rose(curve.values, moved, curve.name, by)]
    return level, [curve for curve in found if curve not in level]


def _raised(bar: Bar, by: float) -> Bar:
    open_, high, low = (None if price is None else price + by for price in (bar.open, bar.high, bar.low))
    return bar._replace(open=open_, high=high, low=low, close=bar.close + by)


def _rose(values: Values, moved: Sequence[Curve], name: str, by: float) -> bool:
    others = next(curve.values for curve in moved if curve.name == name)
    pairs = [(new, old) for new, old in zip(others, values, strict=True) if new is not None and old is not None]
    return bool(pairs) and all(math.isclose(new, old + by, rel_tol=1e-6) for new, old in pairs)


def _curves(calculation: Calculation, bars: Sequence[Bar], count: int) -> list[Curve]:
    found = calculation.values(History(bars), count)
    absent: list[float | None] = [None] * (count - len(found))
    names = next((list(each.value) for each in found if isinstance(each.value, dict)), None)
    if names is None:
        plain = [each.value if isinstance(each.value, int | float) else None for each in found]
        return [Curve(calculation.label, absent + plain)]
    return [
        Curve(
            f"{calculation.label} {name}",
            absent + [each.value.get(name) if isinstance(each.value, dict) else None for each in found],
        )
        for name in names
    ]


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to pixels."""

    low: float
    high: float
    top: float
    height: float

    def y(self, value: float) -> float:
        return self.top + self.height * (self.high - value) / (self.high - self.low)


def _draw_panel(
    drawing: Drawing, places: Sequence[float], curves: Sequence[Curve], height: float, colors: Sequence[str]
) -> None:
    """Draw curves, and a legend above them, below what is drawn already."""
    known = [value for curve in curves for value in curve.values if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    painted = list(zip(curves, _repeat(colors, len(curves)), strict=True))
    scale = _Scale(low - margin, high + margin, _draw_legend(drawing, painted), height)
    right = drawing.width - _RIGHT
    for value in _ticks(scale.low, scale.high):
        y = scale.y(value)
        drawing.shapes.append(Line([(_LEFT, y), (right, y)], _PALE))
        drawing.shapes.append(Caption(f"{value:,.10g}", (right + 6, y), _INK))
    _fill_band(drawing, curves, places, scale)
    for curve, color in painted:
        drawing.shapes += [Line(points, color, 1.5) for points in _runs(curve.values, places, scale)]
    drawing.height = math.ceil(scale.top + height + _GAP)


def _draw_legend(drawing: Drawing, painted: Sequence[tuple[Curve, str]]) -> float:
    """Write the name and the newest value of each curve; return where the panel begins."""
    x, y = float(_LEFT), drawing.height - _FIRST_ROW
    for curve, color in painted:
        newest = next((value for value in reversed(curve.values) if value is not None), None)
        text = curve.name if newest is None else f"{curve.name} {newest:,.6g}"
        length = len(text) * _LETTER_PX
        if x > _LEFT and x + length > drawing.width:
            x, y = float(_LEFT), y + FONT_PX + 4
        drawing.shapes.append(Caption(text, (x, y), color))
        x += length + 3 * _LETTER_PX
    return y + _FIRST_ROW


def _repeat(colors: Sequence[str], count: int) -> list[str]:
    return [colors[number % len(colors)] for number in range(count)]


def _runs(values: Values, places: Sequence[float], scale: _Scale) -> list[list[Point]]:
    """The parts of a curve between its gaps; a single point becomes a dash."""
    found = []
    for is_known, run in groupby(zip(places, values, strict=True), key=lambda each: each[1] is not None):
        if is_known:
            points = [(x, scale.y(value)) for x, value in run if value is not None]
            found.append(
                points if len(points) > 1 else [(points[0][0] - 1, points[0][1]), (points[0][0] + 1, points[0][1])]
            )
    return found


def _fill_band(drawing: Drawing, curves: Sequence[Curve], places: Sequence[float], scale: _Scale) -> None:
    """Fill between the lower and the upper band of an indicator."""
    by_name: Mapping[str, Values] = {curve.name: curve.values for curve in curves}
    for name, lower in by_name.items():
        upper = by_name.get(f"{name.removesuffix(' lower')} upper")
        if not name.endswith(" lower") or upper is None:
            continue
        both = [
            (x, scale.y(bottom), scale.y(top))
            for x, bottom, top in zip(places, lower, upper, strict=True)
            if bottom is not None and top is not None
        ]
        outline = [(x, top) for x, _, top in both] + [(x, bottom) for x, bottom, _ in reversed(both)]
        drawing.shapes.append(Area(outline, _COLORS[-1], 0.12))


def _x(number: int, count: int, width: float) -> float:
    return _LEFT + (width - _LEFT - _RIGHT) * (number + 0.5) / count


def _ticks(low: float, high: float) -> list[float]:
    """About five round values between two values."""
    size = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(size * factor for factor in (1, 2, 5, 10) if (high - low) / (size * factor) <= 6)  # noqa: PLR2004 (lines that a small panel has room for)
    first = math.ceil(low / step)
    return [round(number * step, 12) for number in range(first, math.floor(high / step) + 1)]


def _draw_days(drawing: Drawing, days: Sequence[date], bottom: float) -> None:
    """Write the days below the panels: the first ones of years or months, if there are enough of them."""
    for number in _labelled(days, drawing.width // _LABEL_PX):
        x, text = _x(number, len(days), drawing.width), written(days[number])
        drawing.shapes.append(Line([(x, _TOP), (x, bottom)], _PALE, dashed=True))
        centre = max(x, len(text) * _LETTER_PX / 2)
        drawing.shapes.append(Caption(text, (centre, bottom + 16), _INK, "middle"))


def _labelled(days: Sequence[date], most: int) -> list[int]:
    firsts: list[int] = []
    for shown in ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d %H"):
        firsts = [
            place for place in range(1, len(days)) if days[place].strftime(shown) != days[place - 1].strftime(shown)
        ]
        if len(firsts) >= _FEWEST_LABELS:
            break
    step = max(1, math.ceil(len(firsts) / most))
    return firsts[::step] or [0]
