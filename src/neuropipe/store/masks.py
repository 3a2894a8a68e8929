"""Masks of a recording, found while its samples stream past."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["MAX_MISSING", "ValidMask"]

MAX_MISSING = 0.5


class ValidMask:
    """Build ``valid(time, row)`` block by block and count what is missing per row.

    Parameters
    ----------
    shape : tuple of int
        ``(n_times, n_rows)``.
    given : callable or None
        Mask that the reader knows already: ``given(start, stop)`` returns bool
        ``(stop - start, n_rows)``.
    """

    def __init__(
        self, shape: tuple[int, int], given: Callable[[int, int], np.ndarray] | None = None
    ) -> None:
        self._given = given
        self._n_times = shape[0]
        self._missing = np.zeros(shape[1], dtype=np.int64)

    def of(self, start: int, values: np.ndarray) -> np.ndarray:
        """Return the mask of samples ``start : start + len(values)``, same shape as `values`."""
        valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        if self._given is not None:
            valid &= self._given(start, start + len(values))
        self._missing += len(valid) - valid.sum(axis=0)
        return valid

    @property
    def all_valid(self) -> bool:
        """Whether no sample so far is missing."""
        return not self._missing.any()

    @property
    def row_ok(self) -> np.ndarray:
        """Rows with at most half of their samples missing, bool ``(n_rows,)``."""
        return self._missing <= MAX_MISSING * self._n_times

    @property
    def missing_fraction(self) -> np.ndarray:
        """Share of missing samples per row, float64 ``(n_rows,)``."""
        return self._missing / max(1, self._n_times)
