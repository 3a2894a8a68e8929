"""Geo-topological transform of RDMs (RGTM): thresholds, their grid and their classes.

Source: Lin and Kriegeskorte 2024. Every RDM is scaled and thresholded by itself, and the
thresholds enter one expression, so that values and thresholds always have the same units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import rankdata

__all__ = [
    "CLASSES",
    "prescale",
    "ramp",
    "rgtm",
    "row_quantiles",
    "row_thresholds",
    "smooth",
    "threshold_class",
    "threshold_grid",
]

Floats = NDArray[np.float64]
CLASSES = ("geometry", "topology", "local", "global", "intermediate")
SLACK = 1e-9


def _unit(rows: Floats) -> Floats:
    low, high = np.nanmin(rows, axis=1)[:, None], np.nanmax(rows, axis=1)[:, None]
    flat = ~(high > low)
    return np.where(
        flat, np.where(np.isnan(rows), np.nan, 0.0), (rows - low) / np.where(flat, 1.0, high - low)
    )


def _ranks(rows: Floats) -> Floats:
    if not np.isnan(rows).any():
        return np.asarray(rankdata(rows, axis=1), dtype=np.float64)
    ranks = np.full(rows.shape, np.nan)
    for target, row in zip(ranks, rows, strict=True):
        seen = np.isfinite(row)
        target[seen] = rankdata(row[seen])
    return ranks


PRESCALE: dict[str, Callable[[Floats], Floats]] = {
    "rank": lambda rows: _unit(_ranks(rows)),
    "minmax": _unit,
    "none": lambda rows: rows,
}


def _as_rows(vectors: Floats) -> Floats:
    return np.asarray(vectors, dtype=np.float64).reshape(-1, np.shape(vectors)[-1])


def prescale(vectors: Floats, how: str = "rank") -> Floats:
    """Scale each RDM by itself.

    Parameters
    ----------
    vectors : ndarray, shape (..., n_pairs)
        Dissimilarities; NaN pairs stay NaN.
    how : {"rank", "minmax", "none"}
        Average ranks brought to [0, 1], values brought to [0, 1], or as they are. An RDM of equal
        values becomes 0.

    Returns
    -------
    ndarray, shape (..., n_pairs)
    """
    rows = _as_rows(vectors)
    scaled = rows.copy()
    seen = np.isfinite(rows).any(axis=1)
    if seen.any():
        scaled[seen] = PRESCALE[how](rows[seen])
    return scaled.reshape(np.shape(vectors))


def rgtm(scaled: Floats, lower: float, upper: float, *, mode: str = "quantile") -> Floats:
    """Return the geo-topological transform of scaled RDMs.

    ``g(d) = clip((d - a) / (b - a), 0, 1)``; for ``a = b`` the step ``d > a``.

    Parameters
    ----------
    scaled : ndarray, shape (..., n_pairs)
        From `prescale`.
    lower, upper : float
        Quantiles within each RDM (0 <= lower <= upper <= 1), or thresholds a and b.
    mode : {"quantile", "absolute"}
        What the two numbers are.

    Raises
    ------
    ValueError
        If the lower threshold is above the upper one, or no quantile.
    """
    if lower > upper:
        raise ValueError(f"lower threshold {lower} is above the upper one {upper}")
    rows = _as_rows(scaled)
    if mode == "quantile" and (lower < 0 or upper > 1):
        raise ValueError(f"quantiles must lie in [0, 1], found {lower} and {upper}")
    a, b = row_thresholds(rows, [lower, upper], mode)
    return ramp(rows, a, b).reshape(np.shape(scaled))


def row_thresholds(rows: Floats, levels: Sequence[float] | Floats, mode: str) -> Floats:
    """Return thresholds of each row, shape ``(n_levels, n_rows, 1)``.

    Parameters
    ----------
    rows : ndarray, shape (n_rows, n_pairs)
    levels : sequence of float
        Quantiles within each row, or thresholds themselves.
    mode : {"quantile", "absolute"}
    """
    if mode == "quantile":
        return row_quantiles(rows, levels)
    given = np.asarray(levels, dtype=np.float64)
    return np.broadcast_to(given[:, None, None], (given.size, len(rows), 1))


def row_quantiles(rows: Floats, levels: Sequence[float] | Floats) -> Floats:
    """Return quantiles of each row, shape ``(n_levels, n_rows, 1)``; NaN for empty rows."""
    found = np.full((len(levels), len(rows)), np.nan)
    known = np.isfinite(rows).any(axis=1)
    quantile = np.nanquantile if np.isnan(rows).any() else np.quantile
    if known.any():
        found[:, known] = quantile(rows[known], levels, axis=1)
    return found[:, :, None]


def ramp(rows: Floats, a: Floats, b: Floats) -> Floats:
    """Return ``clip((d - a) / (b - a), 0, 1)`` of rows, and the step ``d > a`` where a = b."""
    width = b - a
    step = ~(width > 0)
    found = (rows - a) / np.where(step, 1.0, width)
    np.clip(found, 0.0, 1.0, out=found)
    if step.any():
        jump = np.where(np.isnan(rows), np.nan, (rows > a).astype(np.float64))
        found = np.where(step, jump, found)
    return found


def smooth(scaled: Floats, slope: float = 10.0, centre: float = 0.5) -> Floats:
    """Return the smooth variant ``1 / (1 + exp(-slope * (d - centre)))``."""
    return np.asarray(expit(slope * (np.asarray(scaled) - centre)), dtype=np.float64)


def threshold_grid(step: float = 0.05) -> Floats:
    """Return the grid of (lower, upper), shape ``(n_cells, 2)``, without (0, 0) and (1, 1).

    Examples
    --------
    >>> len(threshold_grid())
    229
    """
    count = round(1 / step)
    cells = [(i / count, j / count) for i in range(count) for j in range(i, count + 1) if j]
    return np.array(cells)


def threshold_class(lower: float, upper: float) -> str:
    """Return the name of a cell; the first rule that holds names it.

    Examples
    --------
    >>> threshold_class(0.0, 1.0), threshold_class(0.0, 0.3)
    ('geometry', 'local')
    """
    middle, width = (lower + upper) / 2, upper - lower
    rules = (
        ("local", middle <= 0.2 + SLACK),
        ("global", middle >= 0.8 - SLACK),
        ("geometry", width >= 0.8 - SLACK),
        ("topology", lower >= 0.4 - SLACK and upper <= 0.6 + SLACK),
    )
    return next((name for name, holds in rules if holds), "intermediate")
