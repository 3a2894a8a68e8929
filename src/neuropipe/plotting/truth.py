"""Comparison of a result with what a simulator planted: measures, and strips of states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from neuropipe.plotting.palette import CATEGORICAL, INK, MISSING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from neuropipe.plotting.figure import ReportFigure

__all__ = ["Comparison", "Scale", "compared", "identity_line", "measures", "state_strips"]


class Scale(NamedTuple):
    """How to read one measure: its name for the reader, its best value, and what it means."""

    name: str
    perfect: float
    good: float
    meaning: str


@dataclass(frozen=True)
class Comparison:
    """Estimate against truth.

    Attributes
    ----------
    table : pandas.DataFrame
        ``measure value perfect good verdict meaning``, one row per measure.
    figure : ReportFigure
        Planted and found quantities beside each other.
    """

    table: pd.DataFrame
    figure: ReportFigure


def measures(scores: Mapping[str, float], scales: Mapping[str, Scale]) -> pd.DataFrame:
    """Return the table of measures: value, best value, from where on it is good, and the verdict.

    Parameters
    ----------
    scores : mapping of str to float
        What the ``score`` of an analysis returns; measures without a scale are left out.
    scales : mapping of str to Scale
        In the order of the table. A `good` above (below) `perfect` is an upper (lower) limit.
    """
    import pandas as pd

    rows = []
    for key, scale in scales.items():
        if key not in scores or not np.isfinite(scores[key]):
            continue
        value = float(scores[key])
        near = abs(value - scale.perfect) <= abs(scale.good - scale.perfect) + 1e-12
        verdict = "good" if near else "not good"
        row = (scale.name, round(value, 3), scale.perfect, scale.good, verdict, scale.meaning)
        rows.append(row)
    columns = ["measure", "value", "perfect", "good", "verdict", "meaning"]
    return pd.DataFrame(rows, columns=columns)


def compared(table: pd.DataFrame) -> str:
    """Return one sentence that says how many measures are good, for a caption."""
    good = int((table["verdict"] == "good").sum())
    return f"{good} of {len(table)} measures reach their mark."


def identity_line(axes: Axes, *values: ArrayLike) -> None:
    """Draw the line of equal values over the range of all values."""
    joined = np.concatenate([np.ravel(np.asarray(one, dtype=float)) for one in values])
    ends = [np.nanmin(joined), np.nanmax(joined)]
    axes.plot(ends, ends, color=INK, lw=0.8, ls="--", zorder=0)


def state_strips(
    axes: Axes, time: ArrayLike, paths: Sequence[ArrayLike], names: Sequence[str]
) -> None:
    """Draw discrete labels along time, one strip per path; -1 is pale grey.

    Parameters
    ----------
    axes : Axes
    time : array_like (n_times,)
        Seconds, uniform.
    paths : sequence of array_like (n_times,)
        Labels from 0.
    names : sequence of str
        Names of the strips, first at the top.
    """
    from matplotlib.colors import ListedColormap

    time, rows = np.asarray(time, dtype=float), np.stack([np.asarray(one) for one in paths])
    step = float(np.median(np.diff(time))) if time.size > 1 else 1.0
    colors = [CATEGORICAL[k % len(CATEGORICAL)] for k in range(max(int(rows.max()) + 1, 1))]
    axes.imshow(
        rows, cmap=ListedColormap([MISSING, *colors]), vmin=-1.5, vmax=len(colors) - 0.5,
        aspect="auto", interpolation="nearest",
        extent=(time[0] - step / 2, time[-1] + step / 2, len(rows) - 0.5, -0.5),
    )  # fmt: skip
    axes.hlines(np.arange(1, len(rows)) - 0.5, *axes.get_xlim(), color="white", lw=1.5)
    axes.set_yticks(range(len(rows)), list(names))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Time (s)")
