"""Causal history of every sender: bases, and their convolution with the observations."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

__all__ = ["history_basis", "history_features"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _exponential(bins: int, count: int, decay: float) -> Floats:
    return np.exp(-decay * np.arange(1, bins + 1))[None, :]


def _raised_cosine(bins: int, count: int, decay: float) -> Floats:
    # Equal bumps on a logarithmic axis of lags: fine for the recent past, broad further back.
    place = np.log(np.arange(1, bins + 1) + 1.0)
    centres = np.linspace(place[0], place[-1], count)
    width = centres[1] - centres[0] if count > 1 else max(place[-1] - place[0], 1.0)
    phase = np.clip((place[None, :] - centres[:, None]) * np.pi / (2.0 * width), -np.pi, np.pi)
    return 0.5 * (1.0 + np.cos(phase))


def _lags(bins: int, count: int, decay: float) -> Floats:
    return np.eye(bins)


_BASES = {"exp": _exponential, "raised_cosine": _raised_cosine, "lags": _lags}


def history_basis(kind: str, bins: int, *, count: int = 4, decay: float = 1.0) -> Floats:
    """Return the basis functions of the history, each of which sums to 1.

    Parameters
    ----------
    kind : {"exp", "raised_cosine", "lags"}
        One decaying exponential, bumps on a logarithmic axis, or every lag by itself.
    bins : int
        Length of the history; 0 gives no basis function.
    count : int
        Functions of ``raised_cosine``.
    decay : float
        Rate of ``exp``, per bin.

    Returns
    -------
    ndarray, shape (n_basis, bins)
        Column ``k`` is the weight of the observation ``k + 1`` bins ago.

    Raises
    ------
    ValueError
        If the kind is unknown, or there are more functions than bins.

    Examples
    --------
    >>> history_basis("exp", 5).round(3)
    array([[0.636, 0.234, 0.086, 0.032, 0.012]])
    """
    if kind not in _BASES:
        raise ValueError(f"unknown history basis {kind!r}; one of {', '.join(_BASES)}")
    if bins == 0:
        return np.zeros((0, 0))
    if kind == "raised_cosine" and count > bins:
        raise ValueError(f"{count} basis functions need as many bins of history, found {bins}")
    basis = _BASES[kind](bins, count, decay)
    normalised: Floats = basis / basis.sum(axis=1, keepdims=True)
    return normalised


def history_features(observed: Floats, basis: Floats, offsets: Ints) -> Floats:
    """Return the history of every sender, seen through every basis function.

    Only bins before the present one enter, and only of the same trial; before its first bin a
    trial is taken as silent.

    Parameters
    ----------
    observed : ndarray, shape (n_bins, n_units)
        Observations, trials one after the other.
    basis : ndarray, shape (n_basis, n_lags)
        See `history_basis`.
    offsets : ndarray of int, shape (n_trials + 1,)
        Trial ``i`` is ``offsets[i]:offsets[i + 1]``.

    Returns
    -------
    ndarray, shape (n_bins, n_units * n_basis)
        Column ``unit * n_basis + function``.
    """
    n_bins, n_units = observed.shape
    n_basis, n_lags = basis.shape
    features = np.zeros((n_bins, n_units, n_basis))
    for start, stop in itertools.pairwise(offsets):
        for lag in range(1, min(n_lags, stop - start - 1) + 1):
            past = observed[start : stop - lag]
            features[start + lag : stop] += past[:, :, None] * basis[None, None, :, lag - 1]
    return features.reshape(n_bins, n_units * n_basis)
