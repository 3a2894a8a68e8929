"""Figure of searchlight maps: three slices through the best centre."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.summary import ALPHA, count_text, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, SIGNED

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

__all__ = ["draw_searchlight"]

MOST, AXES = 3, ("x", "y", "z")
VIEWS = ((1, 2), (0, 2), (0, 1))  # sagittal, coronal, axial


def _slice(
    axes: Axes,
    position: np.ndarray,
    score: np.ndarray,
    normal: int,
    best: np.ndarray,
    passed: np.ndarray,
) -> PathCollection:
    """Draw the centres of one slice as squares, those that passed the test with an outline."""
    top = float(np.nanmax(np.abs(score))) or 1.0
    a, b = VIEWS[normal]
    near = np.isclose(position[:, normal], best[normal])
    own = position[near]
    sides = [np.ptp(own[:, k]) or 1.0 for k in (a, b)]
    size = max(2.0, 2500.0 / max(near.sum(), 1))
    image = axes.scatter(own[:, a], own[:, b], c=score[near], s=size, marker="s", cmap=SIGNED,
                         vmin=-top, vmax=top, lw=0)  # fmt: skip
    marked = position[near & passed]
    axes.scatter(marked[:, a], marked[:, b], s=size, marker="s", fc="none", ec=INK, lw=0.4)
    axes.plot(best[a], best[b], "+", color=INK, ms=6)
    axes.set(xlabel=f"{AXES[a]} (mm)", ylabel=f"{AXES[b]} (mm)")
    axes.set_title(f"{AXES[normal]} = {best[normal]:.0f} mm")
    if min(sides) > 0:
        axes.set_aspect("equal", adjustable="datalim")
    return image


def _table(result: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame({axis: result[axis].values for axis in AXES})
    for k, name in enumerate(names_of(result["model"])):
        if np.isfinite(result["searchlight_score"].values[k]).any():
            frame[name] = result["searchlight_score"].values[k]
            if "searchlight_pvalue" in result:
                frame[f"{name} p"] = result["searchlight_pvalue"].values[k]
    return frame


def draw_searchlight(result: xr.Dataset) -> ReportFigure:
    """Draw three slices through the best centre of up to three models.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with a searchlight.
    """
    position = np.stack([result[axis].values for axis in AXES], axis=1)
    scores = result["searchlight_score"].transpose("model", "centre").values
    names = names_of(result["model"])
    order = np.argsort(-np.nan_to_num(np.nanmax(scores, axis=1), nan=-9))[:MOST]
    tested = "searchlight_pvalue" in result
    score = f"Score ({result['searchlight_score'].attrs.get('comparator', 'spearman')})"
    caption = (
        f"Comparison of the RDM of every neighbourhood with a model, mean of "
        f"{count_text(result.sizes['subject'], 'subject')}, in three slices through the best "
        "centre (+), one row per model (the best three). "
        + (
            f"Outlined, and as a share in the title: centres at p < {ALPHA}, corrected over all "
            f"centres by {result['searchlight_pvalue'].attrs.get('test', 'signs of subjects')}. "
            if tested
            else "Two to four subjects: not tested. "
        )
        + "Good: compact patches at the size of the neighbourhood or larger, where anatomy expects "
        "them. Bad: the rim of the brain or single voxels (motion, vessels)."
    )
    figure = ReportFigure(
        title="Searchlight", caption=caption, table=_table(result), width="wide",
        height_mm=55 * len(order),
    )  # fmt: skip
    grid = figure.subplots(len(order), 3, squeeze=False)
    for axes, k in zip(grid, order, strict=True):
        best = position[int(np.nanargmax(scores[k]))]
        p = result["searchlight_pvalue"].values[k] if tested else np.ones(len(position))
        for normal in range(3):
            image = _slice(axes[normal], position, scores[k], normal, best, p < ALPHA)
        share = ""
        if tested:
            share = f", {100 * np.mean(p < ALPHA):.0f} %"
        axes[0].annotate(
            f"{names[k]}{share}", (0, 1.2), xycoords="axes fraction", color=CATEGORICAL[0]
        )
        figure.colorbar(
            image,
            ax=list(axes),
            label=score,
            shrink=0.8,
        )
    return figure
