"""Plots of CPU seconds and memory against size, read from printed or transcribed tables."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from claims import Claim

# Okabe and Ito's colours, told apart with any kind of colour vision; markers differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "s", "^", "D")
STYLE = {
    "svg.hashsalt": "neuropipe", "svg.fonttype": "path", "font.size": 8, "axes.titlesize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
    "legend.fontsize": 7, "font.family": "DejaVu Sans",
}  # fmt: skip
LARGE_MB = 10.0  # what is printed in GB is below this number


@dataclass(frozen=True)
class Line:
    """One quantity against the size that is varied in its panel."""

    panel: str
    name: str
    quantity: str  # "seconds" or "memory" (MB)
    size: np.ndarray
    value: np.ndarray

    @property
    def exponent(self) -> float:
        """Slope of the logarithms."""
        return float(np.polyfit(np.log(self.size), np.log(self.value), 1)[0])


def numbers(text: str) -> list[float]:
    """Return the numbers of a cell: one, or several parted by slashes."""
    return [float(word.replace(",", "")) for word in text.split("/")]


def _read(pattern: str | list[str], text: str) -> dict[str, list[tuple[float, float]]]:
    """Return pairs of size and value by quantity, from the first pattern that matches."""
    for one in [pattern] if isinstance(pattern, str) else pattern:
        found: dict[str, list[tuple[float, float]]] = {}
        for match in re.finditer(one, text, re.MULTILINE):
            groups = match.groupdict()
            for quantity in groups.keys() - {"size"}:
                values = zip(numbers(groups["size"]), numbers(groups[quantity]), strict=True)
                found.setdefault(quantity, []).extend(values)
        if found:
            return found
    return {}


def series(claim: Claim, text: str) -> list[Line]:
    """Return the lines of a claim's plot that a text holds, each of two points or more."""
    lines = []
    for row in claim.rows:
        for name, pattern in row.items():
            if name == "panel":
                continue
            for quantity, pairs in sorted(_read(pattern, text).items()):
                size, value = np.array(sorted(set(pairs))).T
                if quantity == "memory" and value.max() < LARGE_MB:
                    value = 1000 * value
                if size.size > 1:
                    lines.append(Line(row["panel"], name, quantity, size, value))
    return lines


def draw(title: str, lines: list[Line]) -> bytes:
    """Return the SVG: a column for each size that is varied, seconds above memory."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(line.panel for line in lines))
    quantities = [q for q in ("seconds", "memory") if any(line.quantity == q for line in lines)]
    names = list(dict.fromkeys(line.name for line in lines))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 2.3 * len(panels), 0.5 + 2.0 * len(quantities)),
                        layout="constrained")  # fmt: skip
        axes = figure.subplots(len(quantities), len(panels), squeeze=False)
        for row, quantity in enumerate(quantities):
            for column, panel in enumerate(panels):
                here = [n for n in lines if (n.panel, n.quantity) == (panel, quantity)]
                _panel(axes[row, column], here, names, quantity if column == 0 else "")
                axes[row, column].set_xlabel(panel)
        figure.suptitle(title, fontsize=9)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _panel(axes: Any, lines: list[Line], names: list[str], label: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    if not lines:
        axes.set_axis_off()
        return
    for line in lines:
        k = names.index(line.name)
        axes.loglog(
            line.size, line.value, color=COLOURS[k % 4], marker=MARKERS[k % 4], markersize=3.5,
            linewidth=1.2, label=f"{line.name} (power {line.exponent:.2f})",
        )  # fmt: skip
    axes.set_xticks(sorted({size for line in lines for size in line.size}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** (0.14 * len(lines)))  # room for the legend
    if (spanned := axes.get_ylim()[1] / low) < 300:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if spanned < 30 else (1, 3)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", rotation=30)
    axes.legend(loc="upper left")
    if label:
        axes.set_ylabel({"seconds": "CPU seconds", "memory": "memory (MB)"}[label])
