"""Colours: Okabe-Ito for categories, perceptually uniform maps for quantities."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BACKGROUND",
    "CATEGORICAL",
    "CIRCULAR",
    "INK",
    "LINE_STYLES",
    "MARKERS",
    "MISSING",
    "SEQUENTIAL",
    "SIGNED",
    "category_styles",
]

CATEGORICAL = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#000000",
)
LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
SEQUENTIAL, SIGNED, CIRCULAR = "viridis", "RdBu_r", "twilight"
INK, BACKGROUND, MISSING = "#333333", "#BDBDBD", "#E8E8E8"


def category_styles(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return colour, marker and line style of each category.

    Colours repeat after eight, together with another line style; the marker doubles the colour,
    so that no pair is told apart by hue alone.

    Parameters
    ----------
    names : sequence of str
        Categories in the order in which they get their colours; repeated names count once.

    Examples
    --------
    >>> category_styles(["sensory", "motor"])["motor"]["color"]
    '#E69F00'
    """
    return {
        name: {
            "color": CATEGORICAL[i % len(CATEGORICAL)],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": LINE_STYLES[i // len(CATEGORICAL) % len(LINE_STYLES)],
        }
        for i, name in enumerate(dict.fromkeys(names))
    }
