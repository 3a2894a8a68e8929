"""Figures of a result: ``figures(result) -> {slug: ReportFigure}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.analyses.hmm_glm.figures.annotations import ordered_dims
from neuropipe.analyses.hmm_glm.figures.differences import draw_differences
from neuropipe.analyses.hmm_glm.figures.goodness import draw_goodness
from neuropipe.analyses.hmm_glm.figures.rates import draw_rates
from neuropipe.analyses.hmm_glm.figures.selection import draw_restarts, draw_selection
from neuropipe.analyses.hmm_glm.figures.states import draw_states
from neuropipe.analyses.hmm_glm.figures.transitions import draw_dwell, draw_transitions
from neuropipe.analyses.hmm_glm.figures.weights import draw_weights
from neuropipe.plotting.style import apply_style

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.figure import ReportFigure

__all__ = ["figures"]

DRAW = {
    "states": draw_states,
    "weights": draw_weights,
    "transitions": draw_transitions,
    "dwell": draw_dwell,
    "selection": draw_selection,
    "restarts": draw_restarts,
    "rates": draw_rates,
    "goodness": draw_goodness,
    "differences": draw_differences,
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
        return {slug: draw(result) for slug, draw in DRAW.items()}
