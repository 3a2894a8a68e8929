"""The representational analysis for Python users: the whole chain, and its pieces on their own."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuropipe.analyses.trsa import stages
from neuropipe.analyses.trsa.kernels.compare import WHITENED, compare
from neuropipe.analyses.trsa.kernels.noise import whiten, whitener
from neuropipe.analyses.trsa.kernels.rdm import MEASURES
from neuropipe.analyses.trsa.kernels.rdm import rdm as estimate_rdm
from neuropipe.analyses.trsa.spec import Settings
from neuropipe.errors import DataError

__all__ = ["calc_rdms", "compare_descriptors", "fit"]

Floats = NDArray[np.float64]


def fit(data: xr.Dataset, settings: Settings | None = None, seed: int = 0) -> xr.Dataset:
    """Run both stages: RDMs of all subjects, then descriptors, comparisons and inference.

    Parameters
    ----------
    data : xarray.Dataset
        ``patterns(subject, region, run, condition, channel[, time])`` (only ``condition`` and
        ``channel`` are required), or single observations, or ready RDMs; optional
        ``noise_residuals`` and ``model_rdms``.
    settings : Settings, optional
        Defaults if not given.
    seed : int
        Every random number derives from it.

    Returns
    -------
    xarray.Dataset
        RDMs, descriptors, model scores with ceilings and tests, identification of regions.

    Raises
    ------
    DataError
        If the input cannot be used; the message says what was found.
    """
    settings = Settings() if settings is None else settings
    part = stages.rdm(data, settings, seed, {})
    return stages.summary(data, settings, seed, {"rdm": [part]})


def calc_rdms(
    patterns: ArrayLike, measure: str = "auto", *, covariance: ArrayLike | None = None
) -> Floats:
    """Return the RDM of patterns: one estimator on its own.

    Parameters
    ----------
    patterns : array, shape (..., n_runs, n_conditions, n_channels) or (n_conditions, n_channels)
        NaN where a run has no such condition.
    measure : str
        A key of `kernels.rdm.MEASURES`; ``auto``: crossnobis with two runs or more.
    covariance : array, shape (n_channels, n_channels) or (n_channels,), optional
        Noise covariance to whiten with (crossnobis, mahalanobis).

    Returns
    -------
    ndarray, shape (..., n_pairs)

    Examples
    --------
    >>> calc_rdms([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]], "euclidean").round(9).tolist()
    [2.0, 2.0, 4.0]
    """
    values = np.asarray(patterns, dtype=np.float64)
    values = values[None] if values.ndim == 2 else values
    if measure == "auto":
        measure = "crossnobis" if values.shape[-3] > 1 else "euclidean"
    if measure not in MEASURES:
        raise DataError(f"measure: {measure!r} is none of {', '.join(MEASURES)}")
    if covariance is not None and MEASURES[measure].whitened:
        values = whiten(values, whitener(np.asarray(covariance, dtype=np.float64)))
    return estimate_rdm(values, measure)


def compare_descriptors(
    first: ArrayLike, second: ArrayLike, method: str, *, squared: bool = False, force: bool = False
) -> Floats:
    """Compare every descriptor of one set with every one of another.

    Parameters
    ----------
    first, second : array, shape (n, n_pairs)
    method : str
        A key of `kernels.compare.COMPARATORS`.
    squared : bool
        The vectors are squared distances, for which whitened comparators are made.
    force : bool
        Use a whitened comparator for other descriptors nevertheless.

    Raises
    ------
    DataError
        If a whitened comparator meets descriptors that are no squared distances.
    """
    if method in WHITENED and not (squared or force):
        raise DataError(
            f"{method} is made for squared distances (euclidean, mahalanobis, crossnobis), not for "
            "transformed or ranked descriptors; pass squared=True, or force=True"
        )
    rows = (np.atleast_2d(np.asarray(a, dtype=np.float64)) for a in (first, second))
    return compare(*rows, method)
