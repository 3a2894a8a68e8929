"""The result as a tidy table, one sentence, and numbers that compare across collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["headline", "metrics", "summary"]


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Return one row per latent and modality.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.

    Returns
    -------
    pandas.DataFrame
        ``latent`` (from 1), ``group``, ``length_scale_s``, ``modality``, ``seen``,
        ``variance_explained``, ``largest_loading`` and ``largest_unit`` (empty for multi-layer
        decoders).
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    shares = result["variance_explained"].transpose("modality", "latent").values
    seen = result["latent_mask"].transpose("modality", "latent").values.astype(bool)
    for k, group in enumerate(result["latent_group"].values.astype(str)):
        for m, name in enumerate(map(str, result["modality"].values)):
            size, unit = _largest(result, name, k)
            rows.append(
                {
                    "latent": k + 1,
                    "group": group,
                    "length_scale_s": float(result["length_scale_s"][k]),
                    "modality": name,
                    "seen": bool(seen[m, k]),
                    "variance_explained": float(shares[m, k]),
                    "largest_loading": size,
                    "largest_unit": unit,
                }
            )
    return pd.DataFrame(rows)


def _largest(result: xr.Dataset, name: str, latent: int) -> tuple[float, str]:
    if f"loading_{name}" not in result:
        return np.nan, ""
    values = result[f"loading_{name}"].transpose(f"unit_{name}", "latent").values[:, latent]
    if not np.isfinite(values).any() or not np.nanmax(np.abs(values)) > 0:
        return np.nan, ""
    place = int(np.nanargmax(np.abs(values)))
    return float(values[place]), str(result[f"unit_{name}"].values[place])


def _score(result: xr.Dataset, metric: str, name: str, split: str = "test") -> float:
    if metric not in result["metric"].values:
        return np.nan
    return float(result["score"].sel(metric=metric, modality=name, split=split))


def headline(result: xr.Dataset) -> str:
    """Return one sentence with the numbers of the result and no claim about them."""
    groups = result["latent_group"].values.astype(str)
    names = [str(m) for m in result["modality"].values]
    parts = []
    for name in names:
        for metric, text in (("bits_per_spike", "bits per spike"), ("r2", "R2")):
            value = _score(result, metric, name)
            if np.isfinite(value):
                parts.append(f"{value:.2f} {text} of {name}")
    shared = int((groups == "shared").sum())
    private = len(groups) - shared
    kinds = f"{len(groups)} latent{'s' * (len(groups) != 1)}"
    if len(names) > 1:
        kinds = f"{shared} shared and {private} private latents"
    scores = f"; held-out units in test trials: {', '.join(parts)}" if parts else ""
    return f"{kinds} from {result.sizes['trial']} trials of {' and '.join(names)}{scores}."


def _row(metric: str, value: float, unit: str, n: int) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": float(value),
        "unit": unit,
        "low": np.nan,
        "high": np.nan,
        "n": int(n),
    }


def metrics(result: xr.Dataset) -> list[dict[str, Any]]:
    """Return the numbers of the study's comparison table.

    Returns
    -------
    list of dict
        Keys ``metric value unit low high n``: numbers of latents, their median length scale, and
        of every modality co-smoothing in test trials with its null.
    """
    groups = result["latent_group"].values.astype(str)
    trials = result.sizes["trial"]
    shared = int((groups == "shared").sum())
    lengths = result["length_scale_s"].values
    rows = [
        _row("shared_latents", shared, "1", trials),
        _row("private_latents", len(groups) - shared, "1", trials),
        _row("length_scale", float(np.median(lengths)), "s", lengths.size),
    ]
    for name in map(str, result["modality"].values):
        for metric, unit in (("bits_per_spike", "bit/spike"), ("r2", "1")):
            value = _score(result, metric, name)
            if np.isfinite(value):
                count = int(np.isfinite(result[f"co_smoothing_{name}"].values).sum())
                rows.append(_row(f"{metric}_{name}", value, unit, count))
                null = _score(result, f"null_{metric}", name)
                rows.append(_row(f"null_{metric}_{name}", null, unit, count))
    return rows
