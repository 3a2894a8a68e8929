"""Figures of a result: ``figures(result) -> {slug: ReportFigure}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.analyses.bicluster.figures.chains import draw_diagnostics, draw_numbers
from neuropipe.analyses.bicluster.figures.checks import draw_checks
from neuropipe.analyses.bicluster.figures.clusters import draw_coclustering, draw_regions
from neuropipe.analyses.bicluster.figures.counts import draw_counts
from neuropipe.analyses.bicluster.figures.latents import draw_dynamics, draw_trajectories
from neuropipe.plotting.style import apply_style

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.figure import ReportFigure

__all__ = ["figures"]

DRAW = {
    "counts": draw_counts,
    "coclustering": draw_coclustering,
    "numbers": draw_numbers,
    "trajectories": draw_trajectories,
    "dynamics": draw_dynamics,
    "regions": draw_regions,
    "checks": draw_checks,
    "diagnostics": draw_diagnostics,
}


def figures(result: xr.DataTree) -> dict[str, ReportFigure]:
    """Draw every figure of a result, in report order.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.

    Returns
    -------
    dict
        Slug -> figure with title, caption and the numbers behind it.
    """
    with apply_style():
        return {slug: draw(result) for slug, draw in DRAW.items()}
