"""Numbers of a result: the tidy table, the sentence of the report, the study's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["headline", "metrics", "summary"]


def summary(result: xr.DataTree) -> pd.DataFrame:
    """Return one row per unit: cluster, its probability, region, baseline, dispersion if any."""
    posterior = result["posterior"]
    table = pd.DataFrame(
        {
            "unit": result["unit"].values,
            "region": result["region"].values,
            "cluster": result["unit_cluster"].values,
            "cluster_probability": result["unit_cluster_probability"].values,
            "baseline": posterior["baseline"].values.mean(axis=(0, 1)),
            "dispersion": np.median(posterior["dispersion"].values, axis=(0, 1)),
        }
    )
    return table.drop(columns="dispersion") if result.attrs["family"] == "poisson" else table


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def headline(result: xr.DataTree) -> str:
    """Return one sentence with the numbers of the result and no claim about them."""
    clusters = _counted(int(result["unit_cluster"].values.max()) + 1, "cluster")
    states = _counted(int(result["time_state"].values.max()) + 1, "state")
    chains, draws = result["posterior/n_clusters"].shape
    gain, error = (float(result[f"held_out_bits_per_spike{end}"]) for end in ("", "_se"))
    predicted = (
        ""
        if np.isnan(gain)
        else f", {gain:+.3f} +- {error:.3f} bits per spike (standard error) on held-out entries"
    )
    worst = float(np.nanmax(result["rhat"].values[:3]))
    told = "" if result.attrs["converged"] else "NOT CONVERGED: "
    return (
        f"{told}{result.sizes['unit']} units in {clusters} and {result.sizes['time']} bins in "
        f"{states} from {_counted(chains, 'chain')} of {draws} draws (largest R-hat {worst:.2f})"
        f"{predicted}."
    )


def _metric(name: str, values: Any, unit: str, n: int) -> dict[str, Any]:
    drawn = np.ravel(np.asarray(values, dtype=np.float64))
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975]) if drawn.size > 1 else (np.nan, np.nan)
    return {
        "metric": name,
        "value": float(np.median(drawn)) if drawn.size else np.nan,
        "unit": unit,
        "low": float(low),
        "high": float(high),
        "n": int(n),
    }


def _held_out_metric(result: xr.DataTree) -> dict[str, Any]:
    """Return the gain on held-out entries with its interval of 1.96 standard errors."""
    gain, error = (float(result[f"held_out_bits_per_spike{end}"]) for end in ("", "_se"))
    found = _metric("held_out_gain", gain, "bit/spike", result.sizes["unit"])
    return found | {"low": gain - 1.96 * error, "high": gain + 1.96 * error}


def metrics(result: xr.DataTree) -> list[dict[str, Any]]:
    """Return the numbers of the study's comparison table.

    Returns
    -------
    list of dict
        Keys ``metric value unit low high n``; `low` and `high` are 2.5 and 97.5 % quantiles over
        draws, bouts or units, 1.96 standard errors for the held-out gain.
    """
    units, bins = result.sizes["unit"], result.sizes["time"]
    sizes = np.bincount(result["unit_cluster"].values)
    dwell = result["dwell_time_s"].values
    return [
        _metric("clusters", result["posterior/n_clusters"].values, "1", units),
        _metric("states", result["posterior/n_states"].values, "1", bins),
        _metric("cluster_size", sizes, "unit", sizes.size),
        _metric("dwell_time", dwell, "s", dwell.size),
        _metric("cluster_certainty", result["unit_cluster_probability"].values, "1", units),
        _metric("state_certainty", result["time_state_probability"].values, "1", bins),
        _held_out_metric(result),
    ]
