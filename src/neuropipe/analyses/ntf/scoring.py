"""Comparison of a result with the planted truth of `neuropipe.simulate.planted_calcium`."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.intervals import is_active
from neuropipe.stats.factor_match import factor_match

__all__ = ["match", "score"]

Float = NDArray[np.float64]


def _cosine(first: Float, second: Float) -> float:
    norm = np.linalg.norm(first) * np.linalg.norm(second)
    return float(first @ second / norm) if norm > 0 else 0.0


def _planted(result: xr.Dataset, truth: xr.Dataset) -> tuple[Float, Float, Float]:
    """Return the planted pair, time and subject factors on the result's coordinates."""
    label = truth["label"].sel(neuron=result["neuron"].values).values
    first, second = np.triu_indices(label.shape[1], 1)
    pairs = (label[:, first] == label[:, second]) & (label[:, first] > 0)
    time = truth["time_indicator"].reindex(
        time_bin=result["time_bin"].values, method="nearest", fill_value=False
    )
    subjects = truth["subject_strength"].sel(subject=result["subject"].values)
    return pairs.T.astype(float), time.values.T.astype(float), subjects.values.T


def match(result: xr.Dataset, truth: xr.Dataset) -> list[int]:
    """Return the component that matches each planted motif best."""
    names = ("pair_factor", "time_factor", "subject_factor")
    found = tuple(result[name].values.T.astype(float) for name in names)
    _, columns, _ = factor_match(_planted(result, truth), found)
    return [int(column) for column in columns]


def score(result: xr.Dataset, truth: xr.Dataset) -> dict[str, float]:
    """Return how well the planted motifs were found, as means over motifs.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `fit`; at least as many components as motifs.
    truth : xarray.Dataset
        Second return value of the simulator.

    Returns
    -------
    dict
        ``pair_auc``: area under the ROC curve of the pair factor for pairs of the same group;
        ``subject_cosine``: cosine of the subject factor; ``interval_iou``: overlap of the active
        bins with the planted interval; ``fms``: factor match score against the binary truth;
        ``community_ari``: adjusted Rand index of the finest level, background one class;
        ``rank``: number of components.

    Raises
    ------
    ValueError
        If the result has fewer components than the truth has motifs.
    """
    from sklearn.metrics import adjusted_rand_score, roc_auc_score

    pairs, time, subjects = _planted(result, truth)
    found = tuple(
        result[name].values.T.astype(float)
        for name in ("pair_factor", "time_factor", "subject_factor")
    )
    fms, columns, _ = factor_match((pairs, time, subjects), found)
    label = truth["label"].sel(neuron=result["neuron"].values).values
    active = is_active(result["time_factor"].values)
    rows: dict[str, list[float]] = {
        name: [] for name in ("pair_auc", "subject_cosine", "interval_iou", "community_ari")
    }
    for motif, column in enumerate(columns):
        seen = np.isfinite(found[0][:, column])
        rows["pair_auc"].append(roc_auc_score(pairs[seen, motif], found[0][seen, column]))
        rows["subject_cosine"].append(_cosine(subjects[:, motif], found[2][:, column]))
        planted = time[:, motif] > 0
        union = (active[column] | planted).sum()
        rows["interval_iou"].append(float((active[column] & planted).sum() / max(union, 1)))
        community = result["community"].isel(component=column, level=0).values
        known = community != -2
        rows["community_ari"].append(adjusted_rand_score(label[motif, known], community[known]))
    means = {name: float(np.mean(values)) for name, values in rows.items()}
    return {**means, "fms": fms, "rank": float(result.sizes["component"])}
