"""Dot plots of the metrics of one analysis over collections, drawn as plain SVG.

They are part of the page, not figures of an analysis: colours come from the style sheet, so that
they follow its light and dark scheme, and no element has an id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

from neuropipe.report.markup import format_number

__all__ = ["Dot", "Panel", "marker", "nice_ticks", "panel_svg"]

WIDTH, LEFT, RIGHT, TOP, AXIS = 344, 132, 54, 6, 26
LINE, GAP = 17, 9
NAME_LENGTH = 17
VARIANT_SHAPES = 4


@dataclass(frozen=True)
class Dot:
    """One value of one collection; ``value`` is NaN when the analysis gave none."""

    collection: str
    label: str
    group: int
    variant: int
    value: float
    low: float
    high: float
    n: str = ""


@dataclass(frozen=True)
class Panel:
    """One metric over all collections."""

    metric: str
    unit: str
    dots: tuple[Dot, ...]

    @property
    def title(self) -> str:
        """Name and unit, as on the axis."""
        return f"{self.metric} ({self.unit})" if self.unit not in ("", "1") else self.metric


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round numbers between `low` and `high`, about `count` of them.

    >>> nice_ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / max(count, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    steps = [f * magnitude for f in (10, 5, 2, 1, 0.5, 0.2, 0.1)]
    fitting = [step for step in steps if step >= raw * 0.8][-1:]
    # Two ticks at least: one alone gives no scale.
    for step in fitting + [step for step in steps if step < raw * 0.8]:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last > first:
            break
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def _domain(dots: tuple[Dot, ...]) -> tuple[float, float]:
    finite = [v for dot in dots for v in (dot.value, dot.low, dot.high) if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-300):
        pad = max(abs(low) * 0.1, 1.0 if _whole(dots) else 0.0) or 1.0
    else:
        pad = (high - low) * 0.07
    return low - pad, high + pad


def _whole(dots: tuple[Dot, ...]) -> bool:
    """Tell whether the values are counts, whose axis has no fractions."""
    return all(dot.value.is_integer() for dot in dots if math.isfinite(dot.value))


def _shorten(name: str) -> str:
    """Keep both ends: names of recordings differ in either."""
    if len(name) <= NAME_LENGTH:
        return name
    half = (NAME_LENGTH - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def marker(shape: int, x: float, y: float, group: int) -> str:
    """Return a marker (circle, square, diamond, triangle) at a point; group -1 has no colour."""
    css = f'class="dot c{group % 8}"' if group >= 0 else 'class="dot"'
    if shape == 0:
        return f'<circle {css} cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if shape == 1:
        return f'<rect {css} x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    corners = {
        2: ((0, -5.6), (5.6, 0), (0, 5.6), (-5.6, 0)),
        3: ((0, -5.2), (5.2, 4), (-5.2, 4)),
    }[shape]
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'<polygon {css} points="{points}"/>'


def _describe(panel: Panel) -> str:
    values = [dot for dot in panel.dots if math.isfinite(dot.value)]
    if not values:
        return f"{panel.title}: no values"
    low, high = (f(dot.value for dot in values) for f in (min, max))
    span = f"from {format_number(low)} to {format_number(high)}"
    return f"{panel.title}, {len(values)} values {span}"


def _dot_parts(dot: Dot, y: float, scale: tuple[float, float]) -> list[str]:
    low, high = scale

    def x_of(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    if not math.isfinite(dot.value):
        return [f'<text class="none" x="{LEFT + 4}" y="{y + 4:.1f}">no value</text>']
    parts = []
    name = f"{dot.collection}, {dot.label}: {format_number(dot.value)}"
    if math.isfinite(dot.low) and math.isfinite(dot.high):
        left, right = x_of(dot.low), x_of(dot.high)
        parts.append(
            f'<line class="range c{dot.group % 8}" x1="{left:.1f}" x2="{right:.1f}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        name += f" [{format_number(dot.low)}, {format_number(dot.high)}]"
    if dot.n:
        name += f", n = {dot.n}"
    shape = marker(dot.variant % VARIANT_SHAPES, x_of(dot.value), y, dot.group)
    parts.append(f"<g><title>{escape(name)}</title>{shape}</g>")
    parts.append(
        f'<text class="value" x="{WIDTH - 2}" y="{y + 4:.1f}" text-anchor="end">'
        f"{escape(format_number(dot.value))}</text>"
    )
    return parts


def _axis_parts(scale: tuple[float, float], bottom: float, whole: bool) -> list[str]:
    low, high = scale
    parts = []
    for tick in nice_ticks(low, high, count=3):
        if whole and not tick.is_integer():
            continue
        x = LEFT + (tick - low) / (high - low) * (WIDTH - LEFT - RIGHT)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">'
            f"{escape(format_number(tick))}</text>"
        )
    return parts


def panel_svg(panel: Panel) -> Markup:
    """Return the dot plot of one metric: a row per collection, a line per variant.

    Rows are in the order of the dots; bars show ``low`` to ``high`` where given.
    """
    rows: dict[str, list[Dot]] = {}
    for dot in panel.dots:
        rows.setdefault(dot.collection, []).append(dot)
    scale = _domain(panel.dots)
    body: list[str] = []
    y = TOP + GAP / 2
    for name, dots in rows.items():
        body.append(
            f'<text class="row" x="{LEFT - 10}" y="{y + LINE / 2 + 4:.1f}" text-anchor="end">'
            f"<title>{escape(name)}</title>{escape(_shorten(name))}</text>"
        )
        for dot in dots:
            body.extend(_dot_parts(dot, y + LINE / 2, scale))
            y += LINE
        y += GAP
    bottom = round(y - GAP / 2)
    parts = [*_axis_parts(scale, bottom, _whole(panel.dots)), *body]
    return Markup(
        f'<svg class="dotplot" role="img" viewBox="0 0 {WIDTH} {bottom + AXIS}" '
        f'aria-label="{escape(_describe(panel))}">{"".join(parts)}</svg>'
    )
