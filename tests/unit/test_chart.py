"""The drawing of a symbol: what is written stays inside, on a screen and on a phone."""

from itertools import pairwise

import pytest

from stockworker.market.calculation import read_calculation
from stockworker.market.chart import NARROW, WIDE, draw
from stockworker.market.drawing import Caption, Drawing, Line
from tests.harness.sample_data import sample_bars

LETTER_PX = 6.8
BARS = sample_bars()["AAPL"]


def drawn(width: int, last: int) -> Drawing:
    return draw("AAPL", BARS, [read_calculation({"name": "rsi"})], last, width)


def edges(caption: Caption) -> tuple[float, float]:
    """The left and the right edge of a text, with an upper bound of its width."""
    x, length = caption.at[0], len(caption.text) * LETTER_PX
    left = x - length / 2 if caption.anchor == "middle" else x
    return left, left + length


@pytest.mark.parametrize("last", [5, 63, 252])
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_texts_and_lines_stay_inside_and_days_do_not_overlap(width: int, last: int) -> None:
    drawing = drawn(width, last)
    assert f'width="{width}"' in drawing.svg()
    captions = [each for each in drawing.shapes if isinstance(each, Caption)]
    for caption in captions:
        left, right = edges(caption)
        assert left >= 0, caption
        assert right <= width, caption
    lines = [x for each in drawing.shapes if isinstance(each, Line) for x, _ in each.points]
    assert min(lines) >= 0
    assert max(lines) <= width
    days = sorted(edges(each) for each in captions if each.anchor == "middle")
    assert days
    assert [(one, two) for one, two in pairwise(days) if two[0] < one[1]] == []


def test_a_wider_drawing_has_room_for_more_days() -> None:
    counts = [
        sum(isinstance(each, Caption) and each.anchor == "middle" for each in drawn(width, 252).shapes)
        for width in (NARROW, WIDE)
    ]
    assert counts[0] < counts[1]
