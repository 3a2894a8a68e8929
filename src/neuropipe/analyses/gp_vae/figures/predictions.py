"""Figure 3: predictions of one test trial for every modality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, MISSING, SIGNED
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_prediction"]

FRAMES = 8
CAPTION = (
    "Data (top) and prediction (middle) of test trial {trial}, the middle one: each row a unit, "
    "sorted by the time of its largest prediction, as z-scores over the trial (counts smoothed "
    "by a normal kernel of two bins for display); frames at {frames} times. Bottom: means over "
    "units, data grey. Good: the same bands in both. Bad: a prediction without change where the "
    "data move. Predictions here have seen the trial; how well units are predicted that were "
    "hidden is in the figure of scores."
)


def _scaled(values: np.ndarray) -> np.ndarray:
    count = np.maximum(np.isfinite(values).sum(axis=0), 1)
    filled = np.where(np.isfinite(values), values, 0.0)
    centre = filled.sum(axis=0) / count
    spread = np.sqrt((np.where(np.isfinite(values), values - centre, 0) ** 2).sum(axis=0) / count)
    return (values - centre) / np.where(spread > 0, spread, 1.0)


def _smoothed(values: np.ndarray) -> np.ndarray:
    lags = np.arange(-6, 7)
    kernel = np.exp(-0.5 * (lags / 2) ** 2)
    weight = np.convolve(np.ones(len(values)), kernel, mode="full")[6:-6]
    filled = np.nan_to_num(values)
    rows = [np.convolve(row, kernel, mode="full")[6:-6] / weight for row in filled.T]
    return np.stack(rows, axis=1)


def _raster(axes: Axes, time: np.ndarray, scaled: np.ndarray) -> object:
    import matplotlib as mpl

    step = float(np.median(np.diff(time))) if time.size > 1 else 1.0
    extent = (time[0] - step / 2, time[-1] + step / 2, scaled.shape[1] - 0.5, -0.5)
    colormap = mpl.colormaps[SIGNED].with_extremes(bad=MISSING)
    return axes.imshow(
        np.ma.masked_invalid(scaled.T), cmap=colormap, vmin=-2.5, vmax=2.5,
        aspect="auto", extent=extent, interpolation="nearest", rasterized=True,
    )  # fmt: skip


def _frames(axes: Axes, values: np.ndarray) -> None:
    side = round(np.sqrt(values.shape[1]))
    if side * side != values.shape[1]:
        note(axes, "Frames are not square.")
        return
    picked = np.linspace(0, len(values) - 1, FRAMES).round().astype(int)
    strip = np.concatenate(list(values[picked].reshape(-1, side, side)), axis=1)
    axes.imshow(strip, cmap="gray", aspect="equal")
    axes.set_axis_off()


def _column(
    axes: np.ndarray, figure: ReportFigure, result: xr.Dataset, name: str, trial: int
) -> None:
    """Draw data, prediction and means of one modality, from top to bottom."""
    one = result[f"prediction_{name}"].transpose("trial", f"time_{name}", f"unit_{name}")
    predicted, time = one.values[trial].astype(float), result[f"time_{name}"].values
    data = result[f"example_{name}"].transpose(f"time_{name}", f"unit_{name}").values.astype(float)
    counts = one.attrs.get("units") == "Hz"
    shown = _smoothed(data) / float(one.attrs["bin_width_s"]) if counts else data
    if one.attrs.get("decoder") == "mlp":
        _frames(axes[0], data)
        _frames(axes[1], predicted)
    else:
        order = np.argsort(_scaled(predicted).argmax(axis=0), kind="stable")
        for place, values in zip(axes, (shown, predicted), strict=False):
            image = _raster(place, time, _scaled(values)[:, order])
            place.tick_params(labelbottom=False)
        figure.colorbar(image, ax=list(axes[:2]), shrink=0.6, label="z-score", pad=0.02)
        axes[0].set_ylabel(f"Unit ({predicted.shape[1]}), data")
        axes[1].set_ylabel("Prediction")
    axes[0].set_title(name)
    axes[2].plot(time, np.nan_to_num(shown).mean(axis=1), color="#9A9A9A", lw=1)
    axes[2].plot(time, predicted.mean(axis=1), color=CATEGORICAL[0], lw=1)
    axes[2].set(xlabel="Time (s)", ylabel="Mean rate (Hz)" if counts else "Mean signal")


def _table(result: xr.Dataset, names: list[str], trial: int) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for name in names:
        values = result[f"prediction_{name}"].transpose("trial", f"time_{name}", f"unit_{name}")
        mean = values.values[trial].mean(axis=1)
        rows += [
            {"modality": name, "time_s": t, "mean_prediction": v}
            for t, v in zip(result[f"time_{name}"].values, mean, strict=True)
        ]
    return pd.DataFrame(rows)


def draw_prediction(result: xr.Dataset) -> ReportFigure:
    """Draw the prediction of one test trial for every modality.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    names = [str(m) for m in result["modality"].values]
    trial = int(result.attrs["example_trial"])
    figure = ReportFigure(
        title="Data and prediction of one trial",
        caption=CAPTION.format(trial=result["trial"].values[trial], frames=FRAMES),
        table=_table(result, names, trial),
        height_mm=105,
    )
    axes_of = figure.subplots(3, len(names), squeeze=False, height_ratios=[2, 2, 1])
    for column, name in enumerate(names):
        _column(axes_of[:, column], figure, result, name, trial)
    return figure
