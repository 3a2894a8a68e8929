"""Fit and texts of the toy analysis."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import xarray as xr

from neuropipe.errors import ComputationError

if TYPE_CHECKING:
    import pandas as pd

    from toy_analysis.spec import Settings


def fit(data: xr.Dataset, settings: Settings, seed: int) -> xr.Dataset:
    """Return ``mean_activity(neuron)``."""
    if settings.fail:
        raise ComputationError("TOY: asked to fail; set analyses.toy.fail to false")
    _ask_slurm(settings)
    mean = settings.factor * data["activity"].mean(["time", "subject"])
    return xr.Dataset({"mean_activity": mean}, attrs={"converged": 1, "issues": "[]"})


def _ask_slurm(settings: Settings) -> None:
    """Take more memory or time than the first attempt has, where Slurm gives them."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    told = subprocess.run(
        ["scontrol", "show", "job", job], capture_output=True, text=True, check=True
    ).stdout
    given = int(re.search(r"MinMemoryNode=(\d+)M", told)[1])
    if given < settings.need_mb:
        raise ComputationError(f"TOY: {given} MB are too few, {settings.need_mb} are needed")
    hours, minutes, _ = re.search(r"TimeLimit=(\d+):(\d+):(\d+)", told).groups()
    if 60 * int(hours) + int(minutes) < settings.need_minutes:
        time.sleep(3600)


def text(settings: Settings, result: xr.Dataset) -> str:
    """Return the methods paragraph."""
    return f"Means of {result.sizes['neuron']} rows were taken (factor {settings.factor})."


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Return one line per row."""
    return result["mean_activity"].to_dataframe().reset_index()


def headline(result: xr.Dataset) -> str:
    """Return one sentence."""
    return f"{result.sizes['neuron']} rows, grand mean {float(result['mean_activity'].mean()):.3g}."


def metrics(result: xr.Dataset) -> list[dict[str, Any]]:
    """Return the metrics of ``table.tsv``."""
    values = result["mean_activity"]
    entry = {"metric": "grand_mean", "value": float(values.mean()), "unit": "1"}
    return [entry | {"low": float(values.min()), "high": float(values.max()), "n": values.size}]
