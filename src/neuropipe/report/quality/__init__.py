"""Data-quality figures of one recording: before and after preprocessing, by stated rules."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.figure import ReportFigure

__all__ = ["FIGURES", "figures"]

# Modality -> function of the two stores; a new modality adds its line.
FIGURES = {
    "calcium": "neuropipe.report.quality.calcium:calcium_figures",
    "fmri": "neuropipe.report.quality.fmri:fmri_figures",
    "spikes": "neuropipe.report.quality.spikes:spikes_figures",
}


def figures(raw: xr.DataTree, processed: xr.DataTree | None = None) -> dict[str, ReportFigure]:
    """Return the data-quality figures of one recording.

    Parameters
    ----------
    raw : xarray.DataTree
        The ingested store.
    processed : xarray.DataTree or None
        The preprocessed store; None for a modality without preprocessing.

    Returns
    -------
    dict of str to ReportFigure
        By slug, in report order; empty for a modality without figures.

    Raises
    ------
    DataError
        If a store lacks the series that it should hold.
    """
    modality = str(raw.attrs.get("schema", "")).removeprefix("neuropipe.")
    if modality not in FIGURES:
        return {}
    module, _, name = FIGURES[modality].partition(":")
    return getattr(import_module(module), name)(raw, processed)
