"""Figure 7: what the units do in every state, and which state follows an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.hmm_glm.figures.annotations import (
    count_text,
    mark_regions,
    row_order,
    state_names,
    state_styles,
)
from neuropipe.analyses.hmm_glm.figures.events import Around, around_events
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import INK, SIGNED
from neuropipe.plotting.panels import note, thinned_ticks

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_rates"]

MOST_NAMES = 25
LEAST_RATE = 1e-3


def _own_variance(result: xr.Dataset) -> xr.DataArray:
    """Return the diagonal of the covariance of every state."""
    values = np.diagonal(result["covariance"].values, axis1=1, axis2=2)
    return result["state_mean"].copy(data=values)


def _contrast(result: xr.Dataset) -> tuple[np.ndarray, str]:
    """Return the activity of units in states against their mean, and what it is."""
    means, share = result["state_mean"].values, result["occupancy"].values
    overall = share @ means
    if result.attrs["family"] == "gaussian":
        noise = result["variance"] if "variance" in result else _own_variance(result)
        spread = np.sqrt(share @ (noise.values + (means - overall) ** 2))
        return (means - overall) / np.maximum(spread, 1e-12), "Mean minus overall mean (SD)"
    rates = np.maximum(means, LEAST_RATE) / np.maximum(overall, LEAST_RATE)
    return np.log2(rates), "Rate over mean rate (log2)"


def _draw_contrast(axes: Axes, result: xr.Dataset, contrast: np.ndarray, label: str) -> None:
    order, regions = row_order(result)
    limit = max(float(np.quantile(np.abs(contrast), 0.98)), 1e-6)
    image = axes.imshow(
        contrast.T[order], cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    if regions:
        mark_regions(axes, regions, names="y", lines="y")
    else:
        thinned_ticks(axes, result["unit"].values.astype(str)[order], most=MOST_NAMES)
        axes.tick_params(axis="y", length=0, labelsize=5)
    count = contrast.shape[0]
    step = 1 if count <= 12 else 5
    axes.set_xticks(range(0, count, step), [str(k + 1) for k in range(0, count, step)])
    axes.set(xlabel="State", title="Activity in the states")
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.06, pad=0.03)
    bar.set_label(label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6)


def _draw_around(axes: Axes, one: Around, styles: list[dict[str, str]]) -> None:
    for state, style in enumerate(styles):
        mean, error = one.mean[:, state], one.error[:, state]
        axes.fill_between(
            one.time, mean - error, mean + error, color=style["color"], alpha=0.25, lw=0
        )
        axes.plot(one.time, mean, color=style["color"], ls=style["linestyle"], lw=1.0)
    if one.time[0] < 0 < one.time[-1]:
        axes.axvline(0, color=INK, lw=0.7, ls="--")
    drawn = one.time[np.isfinite(one.mean).any(axis=1)]
    if drawn.size > 1:
        axes.set_xlim(drawn[0], drawn[-1])
    axes.set_ylim(0, 1)
    axes.set_title(f"{one.name} (n = {one.count})")


def _table(result: xr.Dataset, contrast: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    state, unit = (index.ravel() for index in np.indices(contrast.shape))
    return pd.DataFrame(
        {
            "state": state + 1, "unit": result["unit"].values.astype(str)[unit],
            "mean": result["state_mean"].values.ravel(), "contrast": contrast.ravel(),
        }
    )  # fmt: skip


AROUND = (
    "Right: probability of each state around the moment named (time 0), mean and standard error "
    "over n moments, where half of them or more were recorded. "
)
CAPTION = (
    "Left: activity of {units} in {states} against the unit's own mean, weighted by the "
    "probability of the state{sorted} (unit: {unit}; values in the table). {around}Good: states "
    "that differ in some units of several regions; a state whose probability changes after the "
    "event in a steady way. Bad: one state in which all units are high and one in which all are "
    "low (states of overall activity, not of coupling), a state that differs in one unit alone (a "
    "unit lost or gained during the recording), probabilities that change before the event."
)


def draw_rates(result: xr.Dataset) -> ReportFigure:
    """Draw the activity of all units by state, and the states around events.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    from matplotlib.lines import Line2D

    contrast, label = _contrast(result)
    moments, styles = around_events(result), state_styles(result)
    regions = row_order(result)[1]
    figure = ReportFigure(
        title="Activity in the states, and states around events",
        caption=CAPTION.format(
            units=count_text(result.sizes["unit"], "row"),
            states=count_text(result.sizes["state"], "state"),
            sorted=", sorted by region" if regions else "",
            unit=result["state_mean"].attrs.get("units", "count/s"),
            around=AROUND if moments else "The input has no repeated events to average over. ",
        ),
        table=_table(result, contrast),
        height_mm=max(62, 12 + 34 * len(moments)),
    )
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.2])
    _draw_contrast(left.subplots(), result, contrast, label)
    if not moments:
        note(right.subplots(), "No repeated events\nto average over.")
        return figure
    axes = right.subplots(len(moments), 1, squeeze=False)[:, 0]
    for place, one in zip(axes, moments, strict=True):
        _draw_around(place, one, styles)
        place.set_ylabel("Probability")
    axes[-1].set_xlabel("Time (s)")
    handles = [
        Line2D([], [], color=style["color"], ls=style["linestyle"], label=name)
        for name, style in zip(state_names(result), styles, strict=True)
    ]
    right.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4))
    return figure
