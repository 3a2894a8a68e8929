"""Figures of a result: ``figures(result) -> {slug: ReportFigure}``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.analyses.gp_vae.figures.decoders import draw_loadings, draw_variance
from neuropipe.analyses.gp_vae.figures.latents import draw_latents
from neuropipe.analyses.gp_vae.figures.predictions import draw_prediction
from neuropipe.analyses.gp_vae.figures.recording import draw_recording
from neuropipe.analyses.gp_vae.figures.scores import draw_scores
from neuropipe.analyses.gp_vae.figures.training import draw_training
from neuropipe.plotting.style import apply_style

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.figure import ReportFigure

__all__ = ["figures"]

DRAW = {
    "latents": draw_latents,
    "loadings": draw_loadings,
    "prediction": draw_prediction,
    "variance": draw_variance,
    "scores": draw_scores,
    "training": draw_training,
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
        found = {slug: draw(result) for slug, draw in DRAW.items()}
        if "recording_latent_mean" in result:
            found["recording"] = draw_recording(result)
        return found
