"""Figure of a simulation: true latents against the recovered ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_recovery"]

TRIALS, MOST_POINTS = 4, 3000
CAPTION = (
    "True latents (black) of {trials} test trials and an affine map of all recovered latents "
    "(colour), fitted on training trials; right: every time of the test trials, with R2 there. "
    "Good: both lines together, points on the diagonal. Bad: a cloud, which is a latent that was "
    "not found."
)


def _mapped(result: xr.Dataset, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return test trials, the mapped estimate of all trials (R, T), and R2 of the test."""
    split = result["trial_split"].values
    mean = np.nan_to_num(result["latent_mean"].transpose("trial", "time", "latent").values)
    design = np.concatenate([mean, np.ones((*mean.shape[:2], 1))], axis=2)
    train, test = split == "train", np.flatnonzero(split == "test")
    flat = design[train].reshape(-1, design.shape[2])
    weights = np.linalg.lstsq(flat, true[train].ravel(), rcond=None)[0]
    found = design @ weights
    error = ((found[test] - true[test]) ** 2).sum()
    spread = ((true[test] - true[test].mean()) ** 2).sum()
    return test, found, float(1 - error / max(spread, 1e-300))


def _points(axes: Axes, true: np.ndarray, found: np.ndarray, color: str) -> None:
    step = max(1, true.size // MOST_POINTS)
    axes.plot(
        true.ravel()[::step], found.ravel()[::step], ".", ms=1.5, color=color, rasterized=True
    )
    limits = [float(true.min()), float(true.max())]
    axes.plot(limits, limits, color=INK, lw=0.7)
    axes.set(xlabel="True", ylabel="Recovered")


def draw_recovery(result: xr.Dataset, truth: xr.Dataset) -> ReportFigure:
    """Draw true and recovered latents of a simulation.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    truth : xarray.Dataset
        Second return value of `neuropipe.simulate.spikes_and_frames`.
    """
    import pandas as pd

    names = [str(one) for one in truth["latent"].values]
    if "video" in names and "prediction_video" not in result:
        names.remove("video")
    rows, time = [], result["time"].values
    found = {name: _mapped(result, truth["latent_value"].sel(latent=name).values) for name in names}
    table = pd.DataFrame({"latent": names, "test_r2": [found[name][2] for name in names]})
    trials = min(TRIALS, found[names[0]][0].size)
    figure = ReportFigure(
        title="True and recovered latents", caption=CAPTION.format(trials=trials), table=table,
        height_mm=12 + 28 * len(names),
    )  # fmt: skip
    grid = figure.add_gridspec(len(names), trials + 1, width_ratios=[1] * trials + [1.3])
    for row, name in enumerate(names):
        test, estimate, r2 = found[name]
        true = truth["latent_value"].sel(latent=name).values
        color = CATEGORICAL[row]
        for column in range(trials):
            axes = figure.add_subplot(grid[row, column], sharey=rows[-1] if column else None)
            axes.plot(time, true[test[column]], color=INK, lw=1)
            axes.plot(time, estimate[test[column]], color=color, lw=1)
            axes.tick_params(labelleft=column == 0, labelbottom=row == len(names) - 1)
            axes.set_xlabel("Time (s)" if row == len(names) - 1 else "")
            rows.append(axes)
            if column == 0:
                axes.set(ylabel=name)
        right = figure.add_subplot(grid[row, trials])
        _points(right, true[test], estimate[test], color)
        right.set_title(f"R² {r2:.3f}", fontsize=7, loc="left")
    return figure
