"""Figure of a recording in overlapping windows: blended latents and predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, CATEGORICAL, INK

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_recording"]

MOST_LATENTS, SHOWN_WINDOWS, FADED = 6, 12, 0.35
CAPTION = (
    "Latents (rows above) and mean prediction over units (row per modality below) on the clock of "
    "the recording{run}, {shown}. Thin lines: single windows; thick line: their blend, in which "
    "each window counts by the distance from its own edge; band: ± 2 SD of the blend. Good: thin "
    "lines that lie on the thick one wherever windows overlap. Bad: lines that part near the "
    "edges of windows, which says that the overlap is shorter than the memory of the latents."
)


def _windows(result: xr.Dataset, run: str) -> np.ndarray:
    """Return the first windows of a run, by onset."""
    onset = result["trial_onset"].values.astype(float)
    same = np.ones(onset.size, bool)
    if "run" in result.coords:
        same = result["run"].values.astype(str) == run
    rows = np.flatnonzero(same)
    return rows[np.argsort(onset[rows], kind="stable")][:SHOWN_WINDOWS]


def _draw(
    axes: Axes, clock: np.ndarray, blend: np.ndarray, pieces: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    for row, (time, values) in enumerate(pieces):
        axes.plot(time, values, color=CATEGORICAL[1 + row % 2], lw=0.6, alpha=0.9)
    axes.plot(clock, blend, color=INK, lw=1.4, alpha=FADED, zorder=0)


def _table(result: xr.Dataset, here: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    mean = result["recording_latent_mean"].transpose("recording_time", "latent").values[here]
    sd = np.sqrt(result["recording_latent_var"].transpose("recording_time", "latent").values[here])
    clock = result["recording_time"].values[here]
    frames = [
        pd.DataFrame({"latent": k + 1, "time_s": clock, "mean": mean[:, k], "sd": sd[:, k]})
        for k in range(mean.shape[1])
    ]
    return pd.concat(frames, ignore_index=True)


def draw_recording(result: xr.Dataset) -> ReportFigure:
    """Draw blended latents and predictions over the first windows of the first run.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with ``recording_latent_mean``.
    """
    run = str(result["recording_run"].values[0])
    rows, time = _windows(result, run), result["time"].values
    onset = result["trial_onset"].values.astype(float)
    end = onset[rows].max() + time[-1]
    clock = result["recording_time"].values
    here = (result["recording_run"].values.astype(str) == run) & (clock <= end)
    latents = min(result.sizes["latent"], MOST_LATENTS)
    names = [str(m) for m in result["modality"].values]
    shown = f"the first {rows.size} of {result.sizes['trial']} windows"
    figure = ReportFigure(
        title="Latents of the whole recording",
        caption=CAPTION.format(shown=shown, run=f" (run {run})" if run else ""),
        table=_table(result, here),
        height_mm=18 + 20 * (latents + len(names)),
    )
    axes_of = figure.subplots(latents + len(names), 1, sharex=True, squeeze=False)[:, 0]
    mean = result["latent_mean"].transpose("trial", "time", "latent").values
    blend = result["recording_latent_mean"].transpose("recording_time", "latent").values[here]
    var = result["recording_latent_var"].transpose("recording_time", "latent").values[here]
    groups = result["latent_group"].values.astype(str)
    for k in range(latents):
        axes, sd = axes_of[k], np.sqrt(var[:, k])
        axes.fill_between(
            clock[here], blend[:, k] - 2 * sd, blend[:, k] + 2 * sd, color=BACKGROUND, lw=0
        )
        _draw(axes, clock[here], blend[:, k], [(onset[r] + time, mean[r, :, k]) for r in rows])
        axes.set_ylabel("Latent (SD)")
        axes.set_title(f"{k + 1}: {groups[k]}", fontsize=7, color=INK, loc="left")
    for place, name in enumerate(names, start=latents):
        _draw_prediction(axes_of[place], result, name, run, rows, end)
    axes_of[-1].set_xlabel("Time of the recording (s)")
    return figure


def _draw_prediction(
    axes: Axes, result: xr.Dataset, name: str, run: str, rows: np.ndarray, end: float
) -> None:
    """Draw the mean prediction over units of one modality."""
    onset = result["trial_onset"].values.astype(float)
    if f"sample_offset_{name}" in result.coords:
        onset = onset + np.nan_to_num(result[f"sample_offset_{name}"].values.astype(float))
    clock = result[f"recording_time_{name}"].values
    here = (result[f"recording_run_{name}"].values.astype(str) == run) & (clock <= end)
    unit = f"unit_{name}"
    whole = result[f"recording_prediction_{name}"].transpose(..., unit).values[here].mean(axis=1)
    single = result[f"prediction_{name}"].transpose("trial", f"time_{name}", unit).values
    time = result[f"time_{name}"].values
    _draw(axes, clock[here], whole, [(onset[r] + time, single[r].mean(axis=1)) for r in rows])
    rate = result[f"prediction_{name}"].attrs.get("units") == "Hz"
    axes.set_ylabel("Mean rate (Hz)" if rate else "Mean signal")
    axes.set_title(name, fontsize=7, color=INK, loc="left")
