"""Long recordings piece by piece: blocks of rows, blocks of time, stretches without a gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "BLOCK_BYTES",
    "ITEM_BYTES",
    "activity_blocks",
    "per_row",
    "row_blocks",
    "time_blocks",
    "usable_runs",
]

BLOCK_BYTES = 1 << 23
ITEM_BYTES = 8

# Values (n_rows, n_times) of one stretch in, the same shape out.
Transform = Callable[[np.ndarray], np.ndarray]


def row_blocks(n_times: int, n_rows: int, block_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Yield blocks of rows whose samples fit into `block_bytes` as float64; one row at least."""
    size = max(1, block_bytes // (ITEM_BYTES * max(n_times, 1)))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def time_blocks(n_times: int, n_rows: int, block_bytes: int = BLOCK_BYTES) -> Iterator[slice]:
    """Yield blocks of samples that fit into `block_bytes` as float64; one sample at least."""
    size = max(1, block_bytes // (ITEM_BYTES * max(n_rows, 1)))
    for start in range(0, n_times, size):
        yield slice(start, min(start + size, n_times))


def _true_runs(mask: np.ndarray) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def usable_runs(valid: np.ndarray, parts: Sequence[slice]) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the stretches without a missing sample, and the rows that they belong to.

    Parameters
    ----------
    valid : numpy.ndarray
        Bool, ``(n_times, n_rows)``.
    parts : sequence of slice
        Observed segments; no stretch reaches over the end of one.

    Yields
    ------
    tuple of (slice, numpy.ndarray)
        Samples, and positions of rows. Rows that are whole in a segment come together.
    """
    for part in parts:
        whole = valid[part].all(axis=0)
        if whole.any():
            yield part, np.flatnonzero(whole)
        for row in np.flatnonzero(~whole):
            for run in _true_runs(valid[part, row]):
                yield slice(part.start + run.start, part.start + run.stop), np.array([row])


def per_row(
    values: np.ndarray, valid: np.ndarray, parts: Sequence[slice], length: int,
    transform: Transform,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Apply a filter to every stretch of every row that is as long as the filter.

    Parameters
    ----------
    values, valid : numpy.ndarray
        One block of rows, ``(n_times, n_rows)``.
    parts : sequence of slice
        Observed segments.
    length : int
        Taps of the filter, odd: shorter stretches become NaN, and half of it at both ends of the
        others is not valid.
    transform : callable
        Takes and returns float64 ``(n_rows, n_times)`` of one stretch.

    Returns
    -------
    values, valid : numpy.ndarray
        ``(n_times, n_rows)``, float64 and bool.
    """
    result = np.full(values.shape, np.nan)
    whole = np.zeros(values.shape, dtype=bool)
    edge = (length - 1) // 2
    for run, rows in usable_runs(valid, parts):
        if run.stop - run.start < length:
            continue
        given = np.ascontiguousarray(values[run][:, rows].T, dtype=np.float64)
        result[run, rows] = transform(given).T
        whole[run.start + edge : run.stop - edge, rows] = True
    return result, whole


def activity_blocks(ds: xr.Dataset) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield blocks of rows of ``activity`` with their values (float64) and ``valid``."""
    values, valid = ds["activity"].values, ds["valid"].values
    for rows in row_blocks(*values.shape):
        yield rows, values[:, rows].astype(np.float64), valid[:, rows]
