"""Numbers of samples, counted from 0 or 1, as seconds of the clock that they count along."""

from __future__ import annotations

import numpy as np

from neuropipe.errors import IngestError

__all__ = ["positions", "seconds_of"]


def positions(
    numbers: np.ndarray, index_base: int, n_times: int, where: str, hint: str
) -> np.ndarray:
    """Return sample numbers as positions from 0, int64, in the shape given.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``: a number is not whole. ``LENGTH_MISMATCH``: one lies outside.
    """
    values = np.asarray(numbers)
    whole = np.rint(values)
    if values.dtype.kind not in "biuf" or not np.array_equal(whole, values):
        text = "sample numbers are not whole numbers"
        raise IngestError("NOT_THIS_FORMAT", where, text, "state the unit of the times instead")
    found = whole.astype(np.int64) - index_base
    bad = (found < 0) | (found >= n_times)
    if bad.any():
        first = tuple(np.argwhere(bad)[0].tolist())
        raise IngestError(
            "LENGTH_MISMATCH",
            where,
            f"row {first[0]} names sample {int(found[first]) + index_base}; the clock has "
            f"{n_times} samples counted from {index_base}",
            hint,
        )
    return found


def seconds_of(numbers: np.ndarray, index_base: int, clock: np.ndarray, where: str) -> np.ndarray:
    """Return the times of samples, float64 seconds on `clock`; NaN stays NaN.

    Parameters
    ----------
    numbers : numpy.ndarray
        Sample numbers, ``(n,)``.
    index_base : {0, 1}
        Number of the first sample.
    clock : numpy.ndarray
        Sample times, ``(n_times,)``.

    Raises
    ------
    IngestError
        As `positions`.

    Examples
    --------
    >>> seconds_of(np.array([1, 3]), 1, np.array([0.0, 0.5, 1.0]), "table")
    array([0., 1.])
    """
    values = np.asarray(numbers, dtype=np.float64)
    known = ~np.isnan(values)
    result = np.full(values.shape, np.nan)
    hint = "check `index_base`, and `of` for what is counted"
    result[known] = clock[positions(values[known], index_base, len(clock), where, hint)]
    return result
