"""Bootstrap over subjects and over conditions, at once and each alone.

A resample of conditions is a set of multiplicities ``w``; the pair (i, j) then counts ``w_i w_j``
times and pairs of two copies of one condition are left out. No resampled RDM is ever built: all
comparators follow from weighted products of the RDMs, which one matrix product gives for all
resamples. Source of the scheme: Schütt et al. 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.ceiling import ceilings_of_similarity
from neuropipe.analyses.trsa.kernels.compare import centre_whitened, correlate
from neuropipe.analyses.trsa.kernels.pairs import n_conditions, pair_index
from neuropipe.analyses.trsa.kernels.ranks import signed_concordance, weighted_ranks
from neuropipe.analyses.trsa.kernels.whitened import pair_grams, whitened_grams

__all__ = ["BOOTSTRAPPED", "SOURCES", "Bootstrap", "draw_counts", "dual_bootstrap"]

Floats = NDArray[np.float64]
SOURCES = ("subject", "condition", "both")
LEAST_CONDITIONS, AT_ONCE = 3, 250


@dataclass(frozen=True)
class Bootstrap:
    """Resampled scores.

    Attributes
    ----------
    scores : dict of str to ndarray, shape (n_samples, n_models)
        Mean over subjects, by what was resampled (out of `SOURCES`).
    ceilings : dict of str to ndarray, shape (n_samples, 2)
        Lower and upper noise ceiling of the same resamples.
    redrawn : int
        Resamples that held fewer than three distinct conditions and were drawn again.
    """

    scores: dict[str, Floats]
    ceilings: dict[str, Floats]
    redrawn: int


def draw_counts(
    n: int, samples: int, rng: np.random.Generator, least: int = 1
) -> tuple[Floats, int]:
    """Draw ``n`` out of ``n`` with replacement, many times.

    Returns
    -------
    counts : ndarray, shape (samples, n)
        How often each was drawn.
    redrawn : int
        Draws that were repeated because fewer than ``least`` were distinct.
    """
    counts = rng.multinomial(n, np.full(n, 1 / n), size=samples)
    redrawn = 0
    while True:
        poor = np.flatnonzero((counts > 0).sum(axis=1) < min(least, n))
        if not poor.size:
            return counts.astype(np.float64), redrawn
        redrawn += poor.size
        counts[poor] = rng.multinomial(n, np.full(n, 1 / n), size=poor.size)


def _pair_weights(weights: Floats, complete: NDArray[np.bool_]) -> Floats:
    i, j = pair_index(weights.shape[1])
    return np.asarray(weights[:, i] * weights[:, j] * complete)


def _cosine(vectors: Floats, weights: Floats, complete: NDArray[np.bool_]) -> Floats:
    return correlate(pair_grams(vectors, _pair_weights(weights, complete)))


def _pearson(vectors: Floats, weights: Floats, complete: NDArray[np.bool_]) -> Floats:
    pairs = _pair_weights(weights, complete)
    # Centred once without weights: what the weights then take away is small, and no digits go.
    vectors = vectors - vectors[:, complete].mean(axis=1, keepdims=True)
    sums = pairs @ vectors.T
    grams = pair_grams(vectors, pairs)
    grams -= sums[:, :, None] * sums[:, None, :] / pairs.sum(axis=1)[:, None, None]
    return correlate(grams)


def _cosine_w(vectors: Floats, weights: Floats, complete: NDArray[np.bool_]) -> Floats:
    return correlate(whitened_grams(np.where(complete, vectors, np.nan), weights))


def _pearson_w(vectors: Floats, weights: Floats, complete: NDArray[np.bool_]) -> Floats:
    stacked = np.vstack([vectors, np.ones((1, vectors.shape[1]))])
    grams = whitened_grams(np.where(complete, stacked, np.nan), weights)
    return correlate(centre_whitened(grams))


Draw = tuple[Floats, Floats]  # counts of conditions and of subjects
Similarity = Callable[[Floats, Floats, NDArray[np.bool_]], Floats]
COSINES: dict[str, Similarity] = {
    "cosine": _cosine,
    "pearson": _pearson,
    "cosine_w": _cosine_w,
    "pearson_w": _pearson_w,
}


Resampled = dict[str, tuple[Floats, Floats]]


def _of_similarity(similarity: Floats, subjects: Floats) -> tuple[Floats, Floats]:
    """Return scores and ceilings of resampled subjects from cosines between all rows."""
    count = subjects.shape[1]
    toward = similarity[:, :count, count:]
    if len(similarity) == 1:
        scores = subjects @ toward[0] / count
    else:
        scores = np.einsum("bs,bsm->bm", subjects, toward) / count
    own = np.broadcast_to(similarity[:, :count, :count], (len(subjects), count, count))
    return scores, ceilings_of_similarity(own, subjects)


def _by_cosines(
    method: str, vectors: Floats, complete: NDArray[np.bool_], draws: dict[str, Draw]
) -> Resampled:
    """Resample comparators that are cosines; one look at the RDMs serves all that share it."""
    whole = COSINES[method](vectors, np.ones((1, n_conditions(vectors.shape[1]))), complete)
    found: Resampled = {}
    if "subject" in draws:
        found["subject"] = _of_similarity(whole, draws["subject"][1])
    rest = {source: draw for source, draw in draws.items() if source != "subject"}
    parts: dict[str, list[tuple[Floats, Floats]]] = {source: [] for source in rest}
    conditions = next(iter(rest.values()))[0] if rest else np.zeros((0, 0))
    for start in range(0, len(conditions), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        similarity = COSINES[method](vectors, conditions[rows], complete)
        for source, (_, subjects) in rest.items():
            parts[source].append(_of_similarity(similarity, subjects[rows]))
    for source, some in parts.items():
        scores, ceilings = zip(*some, strict=True)
        found[source] = np.concatenate(scores), np.concatenate(ceilings)
    return found


def _rank_correlation(first: Floats, second: Floats, pairs: Floats) -> Floats:
    """Return Spearman correlations of weighted ranks, row by row."""
    total = pairs.sum()
    first, second = (r - (r @ pairs)[:, None] / total for r in (first, second))
    product = ((first * second) @ pairs) / np.sqrt(((first**2) @ pairs) * ((second**2) @ pairs))
    return np.asarray(product)


def _rank_rho_a(first: Floats, second: Floats, pairs: Floats) -> Floats:
    n = pairs.sum()
    return np.asarray(12 * ((first * second) @ pairs) / (n**3 - n) - 3 * (n + 1) / (n - 1))


def _rank_tau_a(first: Floats, second: Floats, pairs: Floats) -> Floats:
    n = pairs.sum()
    sums = [signed_concordance(x, y, pairs) for x, y in zip(first, second, strict=True)]
    return np.array(sums) / (n * (n - 1) / 2)


RANKS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "spearman": _rank_correlation,
    "rho_a": _rank_rho_a,
    "kendall_tau_a": _rank_tau_a,
}
BOOTSTRAPPED = (*COSINES, *RANKS)


def _by_ranks(
    method: str, vectors: Floats, complete: NDArray[np.bool_], draws: dict[str, Draw]
) -> Resampled:
    """Resample rank comparators; means over subjects are ranked again for the ceilings."""
    orders = np.argsort(vectors, axis=1)
    return {
        source: _ranked(RANKS[method], vectors, complete, orders, draw)
        for source, draw in draws.items()
    }


def _ranked(
    statistic: Callable[[Floats, Floats, Floats], Floats],
    vectors: Floats,
    complete: NDArray[np.bool_],
    orders: NDArray[np.intp],
    draw: Draw,
) -> tuple[Floats, Floats]:
    conditions, subjects = draw
    count = subjects.shape[1]
    scores = np.empty((len(subjects), len(vectors) - count))
    ceilings = np.empty((len(subjects), 2))
    for sample, (w, times) in enumerate(zip(conditions, subjects, strict=True)):
        pairs = _pair_weights(w[None], complete)[0]
        ranks = weighted_ranks(vectors, pairs, orders)
        drawn = np.flatnonzero(times)
        share = times[drawn] / count
        for model in range(len(vectors) - count):
            other = np.broadcast_to(ranks[count + model], (drawn.size, ranks.shape[1]))
            scores[sample, model] = share @ statistic(ranks[drawn], other, pairs)
        ceilings[sample] = _rank_ceilings(ranks[drawn], times[drawn], pairs, statistic)
    return scores, ceilings


def _rank_ceilings(
    ranks: Floats,
    times: Floats,
    pairs: Floats,
    statistic: Callable[[Floats, Floats, Floats], Floats],
) -> Floats:
    total, share = times @ ranks, times / times.sum()
    whole = weighted_ranks(total[None], pairs)
    upper = share @ statistic(ranks, np.broadcast_to(whole, ranks.shape), pairs)
    if len(ranks) < 2:
        return np.array([np.nan, upper])
    rest = weighted_ranks(total - times[:, None] * ranks, pairs)
    return np.array([share @ statistic(ranks, rest, pairs), upper])


def dual_bootstrap(
    data: Floats,
    models: Floats,
    *,
    method: str,
    samples: int,
    rng: np.random.Generator,
    resample: tuple[str, ...] = ("subject", "condition"),
) -> Bootstrap:
    """Resample the scores of fixed models and the noise ceilings.

    Parameters
    ----------
    data : ndarray, shape (n_subjects, n_pairs)
        RDMs of the subjects. Pairs that are NaN in any row are left out of all.
    models : ndarray, shape (n_models, n_pairs)
        RDMs of the models.
    method : str
        One of `BOOTSTRAPPED`.
    samples : int
        Resamples.
    rng : numpy.random.Generator
        Draws the resamples.
    resample : tuple of str
        ``subject``, ``condition`` or both.

    Returns
    -------
    Bootstrap
        With ``both`` only if both were asked for.

    Raises
    ------
    ValueError
        If the comparator cannot be bootstrapped or nothing is to be resampled.
    """
    if method not in BOOTSTRAPPED:
        raise ValueError(f"{method} cannot be bootstrapped; choose {', '.join(BOOTSTRAPPED)}")
    vectors = np.vstack([data, models])
    complete = np.asarray(np.isfinite(vectors).all(axis=0))
    vectors = np.where(complete, vectors, 0.0)
    n, count = n_conditions(vectors.shape[1]), len(data)
    drawn_subjects, _ = draw_counts(count, samples, rng, min(2, count))
    drawn_conditions, redrawn = draw_counts(n, samples, rng, LEAST_CONDITIONS)
    kept = {"subject": np.ones((samples, n)), "condition": np.ones((samples, count))}
    draws = {
        "subject": (kept["subject"], drawn_subjects),
        "condition": (drawn_conditions, kept["condition"]),
        "both": (drawn_conditions, drawn_subjects),
    }
    wanted = [s for s in SOURCES if s in resample or (s == "both" and len(set(resample)) > 1)]
    if not wanted:
        raise ValueError("nothing to resample: name `subject`, `condition` or both")
    run = _by_cosines if method in COSINES else _by_ranks
    found = run(method, vectors, complete, {source: draws[source] for source in wanted})
    return Bootstrap(
        {source: scores for source, (scores, _) in found.items()},
        {source: ceilings for source, (_, ceilings) in found.items()},
        redrawn if "condition" in resample else 0,
    )
