"""Searchlights: RDMs of the neighbourhood of every voxel.

Measures that are sums over channels need one product per voxel and pair of conditions; the RDM of
a neighbourhood is then a sum of rows, and no pattern of a neighbourhood is ever copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from neuropipe.analyses.trsa.kernels.pairs import complete, pair_index
from neuropipe.analyses.trsa.kernels.rdm import fold_pairs, mean_over_runs

__all__ = [
    "LINEAR",
    "Neighbours",
    "joined_neighbours",
    "offset_neighbours",
    "radius_neighbours",
    "searchlight_maxima",
    "searchlight_rdms",
    "searchlight_scores",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


METHODS = ("spearman", "pearson", "cosine")


class Neighbours:
    """Neighbourhoods as one list of voxels with the start of each centre.

    Parameters
    ----------
    centre : ndarray of int, shape (n_centres,)
        Voxel in the middle of each neighbourhood.
    start : ndarray of int, shape (n_centres + 1,)
        First entry of each in ``voxel``.
    voxel : ndarray of int, shape (n_entries,)
    """

    def __init__(self, centre: Ints, start: Ints, voxel: Ints) -> None:
        self.centre, self.start, self.voxel = centre, start, voxel

    def __len__(self) -> int:
        return int(self.centre.size)

    def of(self, k: int) -> Ints:
        """Return the voxels of the k-th neighbourhood."""
        return self.voxel[self.start[k] : self.start[k + 1]]

    def renumbered(self, number: Ints) -> Neighbours:
        """Return the same with every voxel ``v`` called ``number[v]``."""
        number = np.asarray(number, dtype=np.int64)
        return Neighbours(number[self.centre], self.start, number[self.voxel])

    def take(self, chosen: Ints) -> Neighbours:
        """Return some of the neighbourhoods, in the order given."""
        sizes = np.diff(self.start)[chosen]
        start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        offset = np.repeat(self.start[:-1][chosen] - start[:-1], sizes)
        return Neighbours(self.centre[chosen], start, self.voxel[np.arange(start[-1]) + offset])


def joined_neighbours(parts: Sequence[Neighbours]) -> Neighbours:
    """Return the neighbourhoods of several parts, those of lower centres first."""
    sizes = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.start) for part in parts)])
    centre = np.concatenate([np.zeros(0, np.int64), *(part.centre for part in parts)])
    voxel = np.concatenate([np.zeros(0, np.int64), *(part.voxel for part in parts)])
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Neighbours(centre, start, voxel).take(np.argsort(centre, kind="stable"))


def offset_neighbours(mask: Bools, spacing_mm: Floats, radius_mm: float, least: int) -> Neighbours:
    """Return neighbourhoods on a grid, of voxels inside the mask only.

    Parameters
    ----------
    mask : ndarray of bool, shape (n_x, n_y, n_z)
    spacing_mm : ndarray, shape (3,)
        Size of a voxel.
    radius_mm : float
        Voxels with centres up to this far belong to a neighbourhood.
    least : int
        Smaller neighbourhoods are left out.

    Returns
    -------
    Neighbours
        Voxels are numbered as the mask's True entries in C order.
    """
    reach = np.floor(radius_mm / np.asarray(spacing_mm) + 1e-9).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), axis=-1)
    offsets = grid.reshape(-1, 3)
    near = ((offsets * spacing_mm) ** 2).sum(axis=1) <= radius_mm**2 * (1 + 1e-9)
    number = np.full(mask.shape, -1, dtype=np.int64)
    number[mask] = np.arange(int(mask.sum()))
    padded = np.pad(number, [(r, r) for r in reach], constant_values=-1)
    place = np.argwhere(mask) + reach
    found, start = _gather(padded, place, offsets[near], least)
    kept = np.flatnonzero(start[1:] > start[:-1])
    return Neighbours(kept, np.concatenate([start[kept], start[-1:]]), found)


@njit(cache=True, nogil=True)
def _gather(
    padded: Ints, place: Ints, offsets: Ints, least: int
) -> tuple[Ints, Ints]:  # pragma: no cover
    start = np.zeros(len(place) + 1, dtype=np.int64)
    for k in range(len(place)):
        count = 0
        for o in range(len(offsets)):
            x, y, z = place[k] + offsets[o]
            count += padded[x, y, z] >= 0
        start[k + 1] = start[k] + (count if count >= least else 0)
    found = np.empty(start[-1], dtype=np.int64)
    for k in range(len(place)):
        if start[k + 1] == start[k]:
            continue
        at = start[k]
        for o in range(len(offsets)):
            x, y, z = place[k] + offsets[o]
            if padded[x, y, z] >= 0:
                found[at] = padded[x, y, z]
                at += 1
    return found, start


def radius_neighbours(
    position: Floats, radius: float | None, least: int, nearest: int | None = None
) -> Neighbours:
    """Return neighbourhoods of any positions, by radius or as the nearest ones.

    Parameters
    ----------
    position : ndarray, shape (n_channels, 3)
    radius : float or None
        In the unit of the positions; None: the ``nearest`` ones.
    """
    tree = cKDTree(position)
    if radius is None:
        lists = [np.sort(row) for row in tree.query(position, k=nearest)[1]]
    else:
        lists = [np.sort(row) for row in tree.query_ball_point(position, radius * (1 + 1e-9))]
    kept = [k for k, row in enumerate(lists) if len(row) >= least]
    sizes = np.cumsum([0, *(len(lists[k]) for k in kept)])
    voxel = np.concatenate([lists[k] for k in kept]) if kept else np.zeros(0)
    return Neighbours(
        np.array(kept, dtype=np.int64), sizes.astype(np.int64), voxel.astype(np.int64)
    )


def _squares(patterns: Floats) -> Floats:
    mean = mean_over_runs(patterns)
    i, j = pair_index(mean.shape[0])
    return np.ascontiguousarray(((mean[i] - mean[j]) ** 2).T)


def _crossed(patterns: Floats) -> Floats:
    """Return products of differences over runs that have both conditions; NaN without two."""
    i, j = pair_index(patterns.shape[1])
    count = fold_pairs(patterns)[:, None]
    total, own = (np.zeros((i.size, patterns.shape[2])) for _ in range(2))
    for run in patterns:
        difference = np.nan_to_num(run[i] - run[j])
        total += difference
        own += difference**2
    found = np.where(count > 0, (total**2 - own) / np.maximum(count, 1), np.nan)
    return np.ascontiguousarray(found.T)


LINEAR: dict[str, Callable[[Floats], Floats]] = {
    "euclidean": _squares,
    "mahalanobis": _squares,
    "crossnobis": _crossed,
}


@njit(cache=True, nogil=True)
def _sums(table: Floats, start: Ints, voxel: Ints, out: Floats) -> None:  # pragma: no cover
    columns = table.shape[1]
    for k in range(len(start) - 1):
        for c in range(columns):
            out[k, c] = 0.0
        for entry in range(start[k], start[k + 1]):
            row = voxel[entry]
            for c in range(columns):
                out[k, c] += table[row, c]


def _neighbourhood_sums(table: Floats, where: Neighbours, first: int, last: int) -> Floats:
    out = np.empty((last - first, table.shape[1]))
    _sums(table, where.start[first : last + 1], where.voxel, out)
    return out


class _Correlations:
    """RDMs of 1 - correlation from sums of products, all centres of a chunk at once."""

    def __init__(self, patterns: Floats) -> None:
        mean = mean_over_runs(patterns)
        mean = mean - mean.mean(axis=1, keepdims=True)  # nearer to 0: fewer digits lost
        self.n = mean.shape[0]
        i, j = np.triu_indices(self.n)
        self.table = np.ascontiguousarray(np.vstack([mean[i] * mean[j], mean]).T)
        self.i, self.j = i, j

    def __call__(self, where: Neighbours, first: int, last: int) -> Floats:
        sums = _neighbourhood_sums(self.table, where, first, last)
        size = np.diff(where.start[first : last + 1])[:, None]
        products, totals = sums[:, : self.i.size], sums[:, self.i.size :]
        covariance = products - totals[:, self.i] * totals[:, self.j] / size
        diagonal = np.flatnonzero(self.i == self.j)
        variance, power = covariance[:, diagonal], products[:, diagonal]
        scale = np.sqrt(np.where(variance > 1e-12 * power, variance, np.nan))
        off = self.i != self.j
        return 1 - covariance[:, off] / (scale[:, self.i[off]] * scale[:, self.j[off]])


class _Linear:
    """RDMs that are means over channels of a table of distances."""

    def __init__(self, patterns: Floats, measure: str) -> None:
        self.table = LINEAR[measure](patterns)

    def __call__(self, where: Neighbours, first: int, last: int) -> Floats:
        sums = _neighbourhood_sums(self.table, where, first, last)
        return sums / np.diff(where.start[first : last + 1])[:, None]


def _chunks(where: Neighbours, columns: int, chunk_mb: float) -> list[tuple[int, int]]:
    size = max(1, int(chunk_mb * 1e6 / (8 * 6 * columns)))
    return [(first, min(first + size, len(where))) for first in range(0, len(where), size)]


def _maker(patterns: Floats, measure: str) -> Callable[[Neighbours, int, int], Floats]:
    if measure == "correlation":
        return _Correlations(patterns)
    if measure in LINEAR:
        return _Linear(patterns, measure)
    raise ValueError(
        f"searchlights offer correlation, {', '.join(LINEAR)} (noise normalised per channel); "
        f"found {measure}"
    )


def searchlight_rdms(
    patterns: Floats, where: Neighbours, measure: str = "correlation", *, chunk_mb: float = 256.0
) -> Floats:
    """Return the RDM of every neighbourhood.

    Parameters
    ----------
    patterns : ndarray, shape (n_runs, n_conditions, n_channels)
        Normalised per channel by the caller; NaN where a run has no such condition.
    where : Neighbours
    measure : {"correlation", "euclidean", "mahalanobis", "crossnobis"}
    chunk_mb : float
        Memory of the work arrays.

    Returns
    -------
    ndarray, shape (n_centres, n_pairs)
    """
    maker = _maker(patterns, measure)
    pairs = patterns.shape[1] * (patterns.shape[1] - 1) // 2
    parts = [maker(where, *chunk) for chunk in _chunks(where, pairs, chunk_mb)]
    return np.concatenate(parts) if parts else np.zeros((0, pairs))


@njit(cache=True, nogil=True)
def _row_ranks(rows: Floats) -> None:  # pragma: no cover - compiled
    for r in range(len(rows)):
        row = rows[r]
        order = np.argsort(row)
        ranks = np.empty(row.size)
        start = 0
        while start < row.size:
            stop = start + 1
            while stop < row.size and row[order[stop]] == row[order[start]]:
                stop += 1
            for place in range(start, stop):
                ranks[order[place]] = (start + stop + 1) / 2.0
            start = stop
        for c in range(row.size):
            rows[r, c] = ranks[c]


def _scored(rdms: Floats, models: Floats, method: str) -> Floats:
    """Return comparators of rows with models; NaN rows where a neighbourhood has none."""
    seen = complete(rdms, 1)
    rows = np.where(seen[:, None], rdms, 0.0)
    if method == "spearman":
        _row_ranks(rows)
        models = models.copy()
        _row_ranks(models)
    if method != "cosine":
        rows -= rows.mean(axis=1, keepdims=True)
        models = models - models.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(rows, axis=1)
    norm = np.where(seen & (norm > 0), norm, np.nan)
    size = np.linalg.norm(models, axis=1, keepdims=True)
    return np.asarray((models / np.where(size > 0, size, np.nan)) @ rows.T / norm)


def _parts(
    patterns: Floats, where: Neighbours, models: Floats, measure: str, method: str, chunk_mb: float
) -> Iterator[tuple[slice, Floats]]:
    """Yield chunks of centres with their scores; pairs that no run has are left out."""
    if method not in METHODS:
        raise ValueError(f"searchlights compare by {', '.join(METHODS)}; found {method}")
    maker = _maker(patterns, measure)
    seen = measured_pairs(patterns, measure)
    models = np.ascontiguousarray(models[:, seen], dtype=np.float64)
    for first, last in _chunks(where, len(seen) + len(models) // 3, chunk_mb):
        rdms = maker(where, first, last)
        yield slice(first, last), _scored(rdms if seen.all() else rdms[:, seen], models, method)


def measured_pairs(patterns: Floats, measure: str) -> Bools:
    """Return the pairs of conditions that the runs tell apart, ``(n_pairs,)``."""
    if measure == "crossnobis":
        return np.asarray(fold_pairs(patterns) > 0)
    has = np.asarray(complete(patterns, -1).any(axis=0))
    i, j = pair_index(patterns.shape[1])
    return np.asarray(has[i] & has[j])


def searchlight_maxima(
    parts: Sequence[tuple[Floats, Neighbours]],
    models: Floats,
    *,
    measure: str = "correlation",
    method: str = "spearman",
    chunk_mb: float = 256.0,
) -> Floats:
    """Return the best mean score of every model over all centres, without keeping the scores.

    For the null of models whose condition labels were permuted.

    Parameters
    ----------
    parts : sequence of (patterns, where)
        As in `searchlight_scores`, one per subject, with the same centres in the same order.
    models, measure, method, chunk_mb
        As in `searchlight_scores`.

    Returns
    -------
    ndarray, shape (n_models,)
        Minus infinity where no centre has a score in all parts.
    """
    best = np.full(len(models), -np.inf)
    share = chunk_mb / max(len(parts), 1)
    streams = [_parts(*part, models, measure, method, share) for part in parts]
    for chunks in zip(*streams, strict=True):
        mean = sum(scores for _, scores in chunks) / len(chunks)
        np.maximum(best, np.nan_to_num(mean, nan=-np.inf).max(axis=1), out=best)
    return best


def searchlight_scores(
    patterns: Floats,
    where: Neighbours,
    models: Floats,
    *,
    measure: str = "correlation",
    method: str = "spearman",
    chunk_mb: float = 256.0,
) -> Floats:
    """Compare the RDM of every neighbourhood with models, without keeping the RDMs.

    Parameters
    ----------
    patterns, where, measure, chunk_mb
        As in `searchlight_rdms`.
    models : ndarray, shape (n_models, n_pairs)
    method : {"spearman", "pearson", "cosine"}

    Returns
    -------
    ndarray, shape (n_models, n_centres)
        NaN where a condition is constant in the neighbourhood.
    """
    scores = np.empty((len(models), len(where)))
    for chunk, part in _parts(patterns, where, models, measure, method, chunk_mb):
        scores[:, chunk] = part
    return scores
