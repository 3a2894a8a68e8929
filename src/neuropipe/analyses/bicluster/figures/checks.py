"""Figure 7: statistics of the counts beside those of counts drawn from the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuropipe.analyses.bicluster.figures.order import colour
from neuropipe.plotting.figure import ReportFigure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_checks"]

NAMES = {
    "fano": "Fano factor",
    "isi0_fraction": "Share of empty bins",
    "lag1_corr": "Lag-1 correlation",
    "pairwise_corr": "Correlation with\nother units",
}
CAPTION = (
    "Statistics of each unit's counts (horizontal) against counts drawn from the model (vertical: "
    "median and 95 % interval over {draws} replicated data sets), n = {units} units; the lag is "
    "one bin, correlations with other units are means over them. Right: variance over mean of the "
    "summed count (histogram: replicated data sets, line: data). Held-out entries: {bits}. Good: "
    "points on the diagonal, the line inside the histogram, a gain above zero. Bad: intervals "
    "that miss the diagonal on one side: the family or the number of factors does not fit."
)


def draw_checks(result: xr.DataTree) -> ReportFigure:
    """Draw the posterior predictive checks.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    """
    drawn = {name: result[f"posterior_predictive/{name}"].values for name in NAMES}
    drawn = {name: values.reshape(-1, values.shape[-1]) for name, values in drawn.items()}
    replicas, units = drawn["fano"].shape
    gain = float(result["held_out_bits_per_spike"])
    text = "none" if np.isnan(gain) else f"{gain:+.3f} bits per spike over a constant rate"
    frame = pd.DataFrame({"unit": result["unit"].values})
    figure = ReportFigure(
        title="Does the model reproduce the counts",
        caption=CAPTION.format(draws=replicas, units=units, bits=text),
        table=frame,
        height_mm=52,
    )
    panels = figure.subplots(1, 5)
    for panel, (name, title) in zip(panels[:4], NAMES.items(), strict=True):
        seen = result[f"observed_data/{name}"].values
        low, middle, high = np.nanquantile(drawn[name], [0.025, 0.5, 0.975], axis=0)
        frame[name], frame[f"{name}_model"] = seen, middle
        panel.errorbar(
            seen, middle, yerr=[middle - low, high - middle], fmt="o", ms=2, lw=0.5,
            color=colour(0), ecolor="#9A9A9A",
        )  # fmt: skip
        ends = [np.nanmin([seen, low]), np.nanmax([seen, high])]
        panel.plot(ends, ends, color="k", lw=0.6, ls="--")
        panel.set(xlabel="Data", ylabel="Model")
        if name == "fano":
            _log_axes(panel)
        panel.set_title(title, fontsize=7)
    total = result["posterior_predictive/pop_var"].values.ravel()
    panels[4].hist(total[np.isfinite(total)], bins=20, color=colour(0))
    panels[4].axvline(float(result["observed_data/pop_var"]), color=colour(3), lw=1.2)
    panels[4].set(xlabel="Variance / mean", ylabel="Replicated data sets")
    panels[4].set_title("Summed count", fontsize=7)
    return figure


def _log_axes(axes: Axes) -> None:
    """Set log axes with plain numbers: single units may be far more variable than the others."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_locator(NullLocator())
