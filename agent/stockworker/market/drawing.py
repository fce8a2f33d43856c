"""Drawings made of lines, areas and texts, written as SVG without any library, or as PNG with matplotlib."""

import dataclasses
from collections.abc import Sequence
from dataclasses import field
from html import escape
from typing import Any, BinaryIO, Final, Literal

from stockworker.protocol.frozen import dataclass

Point = tuple[float, float]

FONT_PX: Final = 12


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points."""

    points: Sequence[Point]
    color: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Area:
    """A filled polygon."""

    points: Sequence[Point]
    color: str
    opacity: float


@dataclass(frozen=True, slots=True)
class Caption:
    """A text whose middle is at the height of its point."""

    text: str
    at: Point
    color: str
    anchor: Literal["start", "middle", "end"] = "start"
    size: float = FONT_PX


@dataclasses.dataclass(slots=True)
class Drawing:
    """Shapes in the order in which they are drawn. Lengths are pixels, from the left and the top."""

    width: int
    height: int
    title: str
    shapes: list[Line | Area | Caption] = field(default_factory=list)

    def svg(self) -> str:
        """The drawing as a document of its own."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
            f'viewBox="0 0 {self.width} {self.height}" font-family="sans-serif">'
        )
        shapes = map(_svg, self.shapes)
        background = f'<rect width="{self.width}" height="{self.height}" fill="white"/>'
        return "\n".join((head, f"<title>{escape(self.title)}</title>", background, *shapes, "</svg>", ""))

    def write_png(self, file: BinaryIO) -> None:
        """Write the drawing as PNG.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (optional, and slow to import)
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI, facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        for shape in self.shapes:
            _plot(axes, shape)
        figure.savefig(file, format="png")


_DPI: Final = 100
_POINTS_PER_PX: Final = 72 / _DPI


def _svg(shape: Line | Area | Caption) -> str:
    match shape:
        case Line(points, color, width, dashed):
            dashes = ' stroke-dasharray="3 3"' if dashed else ""
            return (
                f'<polyline points="{_places(points)}" fill="none" stroke="{color}" stroke-width="{width:g}"{dashes}/>'
            )
        case Area(points, color, opacity):
            return f'<polygon points="{_places(points)}" fill="{color}" fill-opacity="{opacity:g}"/>'
        case Caption(text, (x, y), color, anchor, size):
            place = f'x="{x:.1f}" y="{y + size * 0.35:.1f}" fill="{color}" text-anchor="{anchor}" font-size="{size:g}"'
            return f"<text {place}>{escape(text)}</text>"


def _places(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _plot(axes: Any, shape: Line | Area | Caption) -> None:
    match shape:
        case Line(points, color, width, dashed):
            style = (0, (3, 3)) if dashed else "-"
            axes.plot(*zip(*points, strict=True), color=color, linewidth=width * _POINTS_PER_PX, linestyle=style)
        case Area(points, color, opacity):
            axes.fill(*zip(*points, strict=True), color=color, alpha=opacity, linewidth=0)
        case Caption(text, (x, y), color, anchor, size):
            side = {"start": "left", "middle": "center", "end": "right"}[anchor]
            shown = text.replace("$", r"\$")  # a pair of them would be a formula
            axes.text(x, y, shown, color=color, ha=side, va="center", fontsize=size * _POINTS_PER_PX)
