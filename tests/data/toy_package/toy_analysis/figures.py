"""Figure of the toy analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.plotting.figure import ReportFigure

if TYPE_CHECKING:
    import xarray as xr


def figures(result: xr.Dataset) -> dict[str, ReportFigure]:
    """Return the histogram of the means."""
    table = result["mean_activity"].to_dataframe().reset_index()
    figure = ReportFigure(title="Means", caption="Mean of each row.", table=table, width="narrow")
    axes = figure.subplots()
    axes.hist(result["mean_activity"].values, bins=10, color="#0072B2")
    axes.set(xlabel="mean activity (1)", ylabel="rows")
    return {"means": figure}
