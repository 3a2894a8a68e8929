"""Figures of a result: ``figures(result) -> {slug: ReportFigure}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.analyses.ntf.figures.activity import draw_activity
from neuropipe.analyses.ntf.figures.affinity import draw_affinity
from neuropipe.analyses.ntf.figures.communities import draw_communities
from neuropipe.analyses.ntf.figures.components import draw_components
from neuropipe.analyses.ntf.figures.connectome import draw_connectome
from neuropipe.analyses.ntf.figures.rank import draw_rank
from neuropipe.analyses.ntf.figures.traces import draw_traces
from neuropipe.analyses.ntf.motifs import ordered_dims
from neuropipe.plotting.style import apply_style

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.figure import ReportFigure

__all__ = ["figures"]

DRAW = {
    "components": draw_components,
    "communities": draw_communities,
    "traces": draw_traces,
    "rank": draw_rank,
    "affinity": draw_affinity,
    "activity": draw_activity,
}


def figures(result: xr.Dataset) -> dict[str, ReportFigure]:
    """Draw every figure of a result, in report order.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.

    Returns
    -------
    dict
        Slug -> figure with title, caption and the numbers behind it.
    """
    result = ordered_dims(result)
    with apply_style():
        drawn = {slug: draw(result) for slug, draw in DRAW.items()}
        if "wiring_weight" in result:
            drawn["connectome"] = draw_connectome(result)
        return drawn
