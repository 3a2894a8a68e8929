"""One partition out of many draws: co-clustering, expected losses, alignment of labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform

__all__ = [
    "align_labels",
    "coclustering",
    "number_by_size",
    "pear",
    "point_partition",
    "point_partition_of_draws",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROUNDS = 20


def coclustering(labels: Ints) -> Floats:
    """Return the share of draws in which each pair is together, labels (n_draws, n_items)."""
    found = np.zeros((labels.shape[1], labels.shape[1]))
    for label in range(int(labels.max()) + 1):
        member = (labels == label).astype(np.float32)
        found += member.T @ member
    return found / len(labels)


def number_by_size(labels: Ints) -> Ints:
    """Return labels renumbered from the largest group to the smallest."""
    _, first, inverse, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -sizes))
    found: Ints = np.argsort(order)[inverse].astype(np.int64)
    return found


def _pair_sums(labels: Ints, probability: Floats) -> tuple[float, float]:
    """Return the number of pairs together and the sum of their probabilities."""
    together = labels[:, None] == labels[None, :]
    upper = np.triu_indices(labels.size, 1)
    return float(together[upper].sum()), float(probability[upper][together[upper]].sum())


def _pear_score(pairs: float, shared: float, total: float, n_items: int) -> float:
    expected = pairs * total / (n_items * (n_items - 1) / 2.0)
    span = 0.5 * (pairs + total) - expected
    return 0.0 if span == 0.0 else (shared - expected) / span


def pear(labels: Ints, probability: Floats) -> float:
    """Return the posterior expected adjusted Rand index (Fritsch & Ickstadt 2009).

    Parameters
    ----------
    labels : ndarray of int, shape (n_items,)
        A partition.
    probability : ndarray, shape (n_items, n_items)
        Co-clustering probabilities.
    """
    pairs, shared = _pair_sums(labels, probability)
    total = float(probability[np.triu_indices(labels.size, 1)].sum())
    return _pear_score(pairs, shared, total, labels.size)


def _binder_score(pairs: float, shared: float, total: float, n_items: int) -> float:
    return 2.0 * shared - pairs


def _vi_score(labels: Ints, probability: Floats) -> float:
    """Return minus the lower bound of the expected variation of information, up to a constant."""
    together = (labels[:, None] == labels[None, :]).astype(np.float64)
    bound = np.log2(together.sum(axis=1)) - 2.0 * np.log2((together * probability).sum(axis=1))
    return float(-bound.sum())


PAIR_SCORES = {"pear": _pear_score, "binder": _binder_score}


def _score(labels: Ints, probability: Floats, loss: str, total: float) -> float:
    if loss == "vi":
        return _vi_score(labels, probability)
    return PAIR_SCORES[loss](*_pair_sums(labels, probability), total, labels.size)


def _improve(labels: Ints, probability: Floats, loss: str, total: float) -> Ints:
    """Move single items while the score of a pair loss grows."""
    labels, score = labels.copy(), PAIR_SCORES[loss]
    pairs, shared = _pair_sums(labels, probability)
    for _ in range(ROUNDS):
        moved = False
        for i in range(labels.size):
            count = int(labels.max()) + 2
            sizes = np.bincount(labels, minlength=count).astype(np.float64)
            sizes[labels[i]] -= 1.0
            links = np.bincount(labels, probability[i], count)
            links[labels[i]] -= probability[i, i]
            rest, linked = pairs - sizes[labels[i]], shared - links[labels[i]]
            scores = [
                score(rest + sizes[c], linked + links[c], total, labels.size) for c in range(count)
            ]
            best = int(np.argmax(scores))
            if scores[best] > scores[labels[i]] + 1e-12:
                moved = True
                labels[i] = best
            pairs, shared = rest + sizes[labels[i]], linked + links[labels[i]]
        labels = np.unique(labels, return_inverse=True)[1]
        if not moved:
            break
    return labels


def point_partition(draws: Ints, loss: str = "pear") -> tuple[Ints, float]:
    """Return the partition with the best expected score, and its expected adjusted Rand index.

    Candidates are cuts of average linkage on one minus co-clustering and every sampled partition;
    the best is improved by moving single items (not for ``vi``).

    Parameters
    ----------
    draws : ndarray of int, shape (n_draws, n_items)
        Sampled labels.
    loss : {"pear", "vi", "binder"}
        What to optimise.

    Returns
    -------
    labels : ndarray of int, shape (n_items,)
        Numbered from the largest group.
    pear : float
        Posterior expected adjusted Rand index of it.
    """
    probability = coclustering(draws)
    total = float(probability[np.triu_indices(len(probability), 1)].sum())
    most = min(int(draws.max()) + 3, draws.shape[1])
    distance = squareform(np.clip(1.0 - probability, 0.0, 1.0), checks=False)
    tree = linkage(distance, method="average")
    cuts = [fcluster(tree, k, criterion="maxclust") for k in range(1, most + 1)]
    sampled = np.unique([number_by_size(one) for one in draws], axis=0)[:500]
    candidates = [number_by_size(one) for one in [*cuts, *sampled]]
    scores = [_score(one, probability, loss, total) for one in candidates]
    best = candidates[int(np.argmax(scores))]
    if loss in PAIR_SCORES:
        best = _improve(best, probability, loss, total)
    return number_by_size(best), pear(best, probability)


def _table_pairs(counts: NDArray[np.int64]) -> float:
    return float((counts * (counts - 1.0) / 2.0).sum())


def point_partition_of_draws(draws: Ints, most: int = 200) -> tuple[Ints, float]:
    """Return the sampled partition with the best expected adjusted Rand index.

    For so many items that no matrix of pairs is built: scores come from contingency tables with
    at most `most` draws, spread evenly, which are also the candidates.
    """
    chosen = draws[np.unique(np.linspace(0, len(draws) - 1, most).astype(int))].astype(np.int64)
    width = int(chosen.max()) + 1
    own = np.array([_table_pairs(np.bincount(one)) for one in chosen])
    total, n_items = float(own.mean()), draws.shape[1]
    scores = np.empty(len(chosen))
    for k, candidate in enumerate(chosen):
        shared = np.mean([_table_pairs(np.bincount(candidate * width + other)) for other in chosen])
        scores[k] = _pear_score(own[k], float(shared), total, n_items)
    best = int(np.argmax(scores))
    return number_by_size(chosen[best]), float(scores[best])


def align_labels(labels: Ints, reference: Ints) -> Ints:
    """Return, per label of a draw, the label of the reference it matches, -1 if none.

    The assignment that maximises the number of items in common.
    """
    table = np.zeros((int(labels.max()) + 1, int(reference.max()) + 1))
    np.add.at(table, (labels, reference), 1)
    rows, columns = linear_sum_assignment(-table)
    found = np.full(len(table), -1, np.int64)
    found[rows] = columns
    return found
