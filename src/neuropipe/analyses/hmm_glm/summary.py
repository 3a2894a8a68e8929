"""The result as a tidy table, one sentence, and numbers that compare across collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["best_agreement", "deviation", "headline", "metrics", "observed_s", "summary", "visits"]


def observed_s(result: xr.Dataset) -> float:
    """Return the observed time of all trials, seconds."""
    bins = int((result["state_viterbi"].values >= 0).sum())
    return bins * float(result.attrs["bin_width_s"])


def visits(result: xr.Dataset) -> list[np.ndarray]:
    """Return the lengths of all visits of every state, seconds.

    A visit is a run of one state on the most probable path; it ends with its trial.
    """
    found: list[list[np.ndarray]] = [[] for _ in range(result.sizes["state"])]
    for row in result["state_viterbi"].transpose("trial", "time").values:
        seen = row[row >= 0]
        first = np.flatnonzero(np.diff(seen, prepend=-1))
        length = np.diff(np.append(first, seen.size))
        for state, lengths in enumerate(found):
            lengths.append(length[seen[first] == state])
    step = float(result.attrs["bin_width_s"])
    return [step * np.concatenate(lengths) for lengths in found]


def deviation(result: xr.Dataset) -> np.ndarray:
    """Return the largest distance of every unit's transform from the uniform distribution."""
    curve = result["transform"].transpose("unit", "level").values
    return np.abs(curve - result["level"].values).max(axis=1)


def best_agreement(result: xr.Dataset) -> float:
    """Return in which share of bins the two best restarts agree; NaN for a single one."""
    count = result.attrs["n_states"]
    likelihood = result["log_likelihood_train"].sel(n_states=count).values
    seen = np.flatnonzero(np.isfinite(likelihood))
    if seen.size < 2:
        return np.nan
    first, second = seen[np.argsort(-likelihood[seen], kind="stable")[:2]]
    return float(result["restart_agreement"].sel(n_states=count).values[first, second])


def _called(result: xr.Dataset, sign: int) -> np.ndarray:
    """Return the share of connections of a sign in every state; NaN without coupling."""
    if "connection" not in result:
        return np.full(result.sizes["state"], np.nan)
    found = result["connection"].transpose("state", "receiver", "sender").values == sign
    return found.mean(axis=(1, 2))


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Return one row per state.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.

    Returns
    -------
    pandas.DataFrame
        ``state`` (from 1, as in the figures), ``occupancy``, ``n_visits``,
        ``dwell_time_mean_s``, ``dwell_time_expected_s``, ``switch_rate_hz`` (mean over trials),
        ``next_state`` (most probable after leaving; 0 if there is no other), ``mean_activity``
        (over units), ``excitatory`` and ``inhibitory`` (share of all pairs).
    """
    import pandas as pd

    transition = result["transition_matrix"].transpose("state", "state_to").values.copy()
    np.fill_diagonal(transition, -1.0)
    several = len(transition) > 1
    return pd.DataFrame(
        {
            "state": np.arange(1, result.sizes["state"] + 1),
            "occupancy": result["occupancy"].values,
            "n_visits": result["n_visits"].values,
            "dwell_time_mean_s": result["dwell_time_mean_s"].values,
            "dwell_time_expected_s": result["dwell_time_expected_s"].values,
            "switch_rate_hz": result["switch_rate_hz"].mean("trial").values,
            "next_state": transition.argmax(axis=1) + 1 if several else 0,
            "mean_activity": result["state_mean"].mean("unit").values,
            "excitatory": _called(result, 1),
            "inhibitory": _called(result, -1),
        }
    )


def _scores(result: xr.Dataset, name: str) -> np.ndarray:
    """Return the finite scores of the folds at the number of states that is used."""
    if name not in result:
        return np.zeros(0)
    values = result[name].sel(n_states=result.attrs["n_states"]).values
    return values[np.isfinite(values)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def headline(result: xr.Dataset) -> str:
    """Return one sentence with the numbers of the result and no claim about them."""
    states, units = result.sizes["state"], result.sizes["unit"]
    text = f"{_count(states, 'state')} from {_count(units, 'row')} in {observed_s(result):.0f} s"
    if states > 1:
        lengths = np.concatenate(visits(result))
        text += (
            f"; the most frequent holds {100 * float(result['occupancy'].values[0]):.0f} % of the "
            f"time, a visit lasts {np.median(lengths):.2g} s (median)"
        )
    if "connection" in result:
        called = int((result["connection"].values != 0).any(axis=0).sum())
        text += f"; {called} of {units**2} directed pairs are called connected in some state"
    bits = _scores(result, "bits_per_spike")
    if bits.size:
        text += f"; held-out data gain {bits.mean():.2g} bits per spike over constant rates"
    return f"{text}."


def _metric(
    name: str, value: float, unit: str, n: int, spread: np.ndarray | None = None
) -> dict[str, Any]:
    low, high = np.nan, np.nan
    if spread is not None and spread.size:
        low, high = (float(q) for q in np.quantile(spread, [0.05, 0.95]))
    return {"metric": name, "value": float(value), "unit": unit, "low": low, "high": high, "n": n}


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def metrics(result: xr.Dataset) -> list[dict[str, Any]]:
    """Return the numbers of the study's comparison table.

    Returns
    -------
    list of dict
        Keys ``metric value unit low high n``. `low` and `high` are the 5 and 95 % quantiles over
        what is averaged (folds, visits, trials, states, units), NaN for plain numbers. What a
        result does not have is NaN with n = 0; the rows are always the same.
    """
    bits, nats = (_scores(result, name) for name in ("bits_per_spike", "held_out_log_likelihood"))
    lengths = np.concatenate(visits(result))
    switches = result["switch_rate_hz"].sum("state").values
    fit = deviation(result)
    called = {sign: _called(result, sign) for sign in (1, -1)}
    coupled = result.sizes["state"] if "connection" in result else 0
    agreement = best_agreement(result)
    return [
        _metric("states", result.sizes["state"], "1", result.sizes["unit"]),
        _metric("held_out_log_likelihood", _mean(nats), "nat/bin", nats.size, nats),
        _metric("bits_per_spike", _mean(bits), "bit/spike", bits.size, bits),
        _metric("largest_occupancy", result["occupancy"].values.max(), "1", result.sizes["state"]),
        _metric("dwell_time", np.median(lengths), "s", lengths.size, lengths),
        _metric("switch_rate", np.nanmean(switches), "Hz", switches.size, switches),
        _metric("excitatory_connections", called[1].mean(), "1", coupled, called[1][:coupled]),
        _metric("inhibitory_connections", called[-1].mean(), "1", coupled, called[-1][:coupled]),
        _metric("restart_agreement", agreement, "1", 2 * int(np.isfinite(agreement))),
        _metric("transform_deviation", np.median(fit), "1", fit.size, fit),
    ]
