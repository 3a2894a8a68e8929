"""Figure of simulated sessions: planted latents beside those found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.gp_vae.scoring import mapped, score, with_times_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK
from neuropipe.plotting.style import apply_style
from neuropipe.plotting.truth import Comparison, Scale, compared, identity_line, measures

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["compare"]

SHOWN_TRIALS, SHOWN_LATENTS = 6, 4
NORMAL_95 = 1.959964


def _scales(truth: xr.Dataset) -> dict[str, Scale]:
    names = [str(name) for name in truth["latent"].values]
    recovered = {
        f"joint_r2_{name}": Scale(
            f"latent '{name}' (R2)", 1.0, 0.9,
            "explained variance on test trials by an affine map of all latents, fitted on "
            "training trials",
        )
        for name in names
    }  # fmt: skip
    covered = {
        "coverage": Scale(
            "latents inside 95 % intervals", 0.95, 0.85,
            "share of planted values inside the interval of the estimate, mean over latents",
        )
    }  # fmt: skip
    rate = {"rate_r2": Scale("rates of units (R2)", 1.0, 0.8, "explained variance on test trials")}
    return recovered | covered | rate


def compare(result: xr.Dataset, truth: xr.Dataset) -> Comparison:
    """Set latents of a simulated session beside the planted ones.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    truth : xarray.Dataset
        Second return value of ``simulate``.
    """
    scores = score(result, truth)
    names = [f"coverage_{name}" for name in truth["latent"].values]
    scores["coverage"] = float(np.mean([scores[name] for name in names if name in scores]))
    table = measures(scores, _scales(truth))
    with apply_style():
        return Comparison(table, _draw(result, with_times_of(truth, result), table))


def _draw(result: xr.Dataset, truth: xr.Dataset, table: pd.DataFrame) -> ReportFigure:
    import pandas as pd

    names = [str(name) for name in truth["latent"].values][:SHOWN_LATENTS]
    test = np.flatnonzero(result["trial_split"].values == "test")
    trials = test[:SHOWN_TRIALS]
    time, parts = truth["time"].values, []
    figure = ReportFigure(
        title="Planted latents and those found, on trials that were held out",
        width="wide", height_mm=20 + 27 * len(names),
        caption=(
            "Each row: one planted latent (black) and its estimate (blue, with the 95 % interval) "
            f"on {len(trials)} of {len(test)} test trials, drawn one after the other; right: all "
            "test trials. Latents are known up to an affine map, which was fitted on training "
            "trials. Good is a blue line on the black one, and points along the dashed line. "
            f"{compared(table)}"
        ),
    )  # fmt: skip
    axes = figure.subplots(len(names), 2, squeeze=False, width_ratios=[4, 1])
    for (left, right), name in zip(axes, names, strict=True):
        planted = truth["latent_value"].sel(latent=name).values
        centre, spread = mapped(result, planted)
        for place, trial in enumerate(trials):
            at = time + place * (time[-1] + 2 * time[0])
            band = NORMAL_95 * spread[trial]
            left.fill_between(
                at, centre[trial] - band, centre[trial] + band, color=CATEGORICAL[0], alpha=0.25,
                lw=0,
            )  # fmt: skip
            left.plot(at, planted[trial], color=INK, lw=1.1, label="planted")
            left.plot(at, centre[trial], color=CATEGORICAL[0], lw=0.9, label="found")
            rows = {
                "latent": name, "trial": trial + 1, "time_s": time, "planted": planted[trial],
                "found": centre[trial], "sd": spread[trial],
            }  # fmt: skip
            parts.append(pd.DataFrame(rows))
        left.set_title(name, loc="left")
        right.plot(
            planted[test].ravel(), centre[test].ravel(), ".", ms=1.5, alpha=0.4,
            color=CATEGORICAL[0], rasterized=True,
        )  # fmt: skip
        identity_line(right, planted[test])
        right.set_ylabel("Found")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].legend(handles[:2], labels[:2], fontsize=6, frameon=False, ncols=2)
    axes[-1, 0].set_xlabel("Time over the trials shown (s)")
    axes[-1, 1].set_xlabel("Planted")
    figure.table = pd.concat(parts, ignore_index=True)
    return figure
