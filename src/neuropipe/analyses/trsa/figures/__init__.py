"""Figures of a result: ``figures(result) -> {slug: ReportFigure}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.analyses.trsa.figures.arrangement import draw_arrangement
from neuropipe.analyses.trsa.figures.homology import draw_homology
from neuropipe.analyses.trsa.figures.identification import draw_identification
from neuropipe.analyses.trsa.figures.models import draw_models
from neuropipe.analyses.trsa.figures.movie import draw_movie
from neuropipe.analyses.trsa.figures.rdms import draw_rdms
from neuropipe.analyses.trsa.figures.searchlight import draw_searchlight
from neuropipe.plotting.style import apply_style

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.figure import ReportFigure

__all__ = ["figures"]

DRAW = {
    "rdms": draw_rdms,
    "models": draw_models,
    "identification": draw_identification,
    "arrangement": draw_arrangement,
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
    with apply_style():
        drawn = {slug: draw(result) for slug, draw in DRAW.items()}
        if "time" in result["rdm"].dims:
            drawn["movie"] = draw_movie(result)
        if "searchlight_score" in result:
            drawn["searchlight"] = draw_searchlight(result)
        if "betti" in result:
            drawn["homology"] = draw_homology(result)
        return drawn
