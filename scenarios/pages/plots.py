"""Pictures as SVG, in the colours of the page."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scenarios.pages.page import Html, join, tag

_WIDTH, _HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 26


@dataclass(frozen=True, slots=True)
class Point:
    """A value, and how far it spread."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour, joined by a line."""

    name: str
    colour: str
    points: Sequence[Point]


def plot(
    series: Sequence[Series],
    *,
    say_x: Callable[[float], str],
    say_y: Callable[[float], str],
    logarithmic: bool = False,
    alt: str = "",
) -> Html:
    """Lines over an axis; the other one begins at zero."""
    points = [point for one in series for point in one.points]
    xs = sorted({point.x for point in points})
    top = _round_up(max(point.high for point in points))

    def scale(x: float) -> float:
        return math.log(x) if logarithmic else x

    first, last = scale(xs[0]), scale(xs[-1])
    span = (last - first) or 1

    def at(x: float, y: float) -> tuple[float, float]:
        share = (scale(x) - first) / span if len(xs) > 1 else 0.5
        room = _HEIGHT - _TOP - _BOTTOM
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT), _TOP + room * (1 - y / top)

    parts = [_grid(top, say_y, at, xs[0], xs[-1])]
    parts += [_text(at(x, 0)[0], _HEIGHT - 8, say_x(x), "middle") for x in xs]
    parts += [_line(one, at) for one in series]
    return tag(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=alt or "plot"
    )


At = Callable[[float, float], tuple[float, float]]


def _grid(top: float, say: Callable[[float], str], at: At, first: float, last: float) -> Html:
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = at(first, top * share)[1]
        ends = {"x1": f"{_LEFT}", "x2": f"{_WIDTH - _RIGHT}", "y1": f"{y:.1f}", "y2": f"{y:.1f}"}
        parts.append(tag("line", cls="axis", **ends))
        parts.append(_text(_LEFT - 7, y + 4, say(top * share), "end"))
    return join(parts)


def _line(series: Series, at: At) -> Html:
    places = [at(point.x, point.y) for point in series.points]
    path = " ".join(
        f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(places)
    )
    colour = f"var({series.colour})"
    parts = [tag("path", d=path, fill="none", stroke=colour, stroke_width="2")]
    for point, (x, y) in zip(series.points, places, strict=True):
        low, high = at(point.x, point.low)[1], at(point.x, point.high)[1]
        ends = {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": f"{low:.1f}", "y2": f"{high:.1f}"}
        parts.append(tag("line", stroke=colour, stroke_width="5", opacity=".25", **ends))
        parts.append(tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="3.5", fill=colour))
    return join(parts)


def _text(x: float, y: float, text: str, anchor: str = "start", cls: str = "") -> Html:
    more = {"cls": cls} if cls else {}
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **more)


def _round_up(value: float) -> float:
    """The next number that begins with 1, 2, 4 or 6, so that its half is easy to read."""
    if value <= 0:
        return 1.0
    unit: float = 10 ** math.floor(math.log10(value))
    return next((step * unit for step in (1, 2, 4, 6) if value <= step * unit), 10 * unit)


_ROW: Final = 30


def bars(
    rows: Mapping[str, Mapping[str, float]],
    colours: Mapping[str, str],
    say: Callable[[float], str],
    alt: str,
) -> Html:
    """One bar a row, made of parts: row -> part -> value."""
    longest = max(sum(parts.values()) for parts in rows.values()) or 1
    width, left, right = 640, 92, 66
    drawn = []
    for number, (name, parts) in enumerate(rows.items()):
        y, x = number * _ROW, float(left)
        drawn.append(_text(left - 10, y + 18, name, "end", "strong"))
        for part, value in parts.items():
            length = value / longest * (width - left - right)
            title = tag("title", f"{part}: {say(value)}")
            place = {"x": f"{x:.1f}", "y": f"{y + 5}", "width": f"{length:.1f}", "height": "18"}
            drawn.append(tag("rect", title, fill=f"var({colours[part]})", **place))
            x += length
        drawn.append(_text(x + 8, y + 18, say(sum(parts.values()))))
    box = f"0 0 {width} {len(rows) * _ROW + 4}"
    return tag("svg", *drawn, cls="bars", viewBox=box, role="img", aria_label=alt)
