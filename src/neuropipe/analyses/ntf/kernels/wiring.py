"""Weight of a connectome inside groups of neurons, against matched random groups.

Let w_ij be the weights of one kind, O the measured ordered pairs (i != j), and S a group.

Expected weights keep the strengths: ``e_ij = r_i c_j`` with ``sum_j O_ij e_ij = sum_j O_ij w_ij``
for every sender and the same for every receiver, the maximum-entropy network with these in- and
out-strengths and without self-connections, fitted by iterative proportional scaling. Signed
weights have ``e_ij = r_i + c_j`` by least squares, which keeps the same sums. The statistic is the
mean excess ``x(S) = sum_{i,j in S} O_ij (w_ij - e_ij) / sum_{i,j in S} O_ij``.

A random network with the same strengths is no fair comparison: real wiring is clustered in space
and by left-right pairs, so that nearly every group of related neurons would beat it. The measured
connectome is therefore kept, and groups are drawn: all neurons are sorted by strength and cut into
strata of about ten; a draw permutes the neurons within every stratum, so that each group becomes
one of the same size and with the same profile of strengths. If which neurons form a group has
nothing to do with who connects to whom beyond strength, all these groups are equally likely, and
``p = (1 + #{x(draw) >= x(S)}) / (1 + draws)`` is exact. What differs in strength within a stratum
is taken off by e. Groups of one kind share the permutations, which gives the family-wise p of all
of them (smallest p of each draw, Westfall and Young 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["STRATUM", "Wiring", "compare_wiring", "expected_weights", "strength_strata"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STRATUM = 10
QUANTILES = (0.05, 0.5, 0.95)
MAX_ITER, TOL = 2000, 1e-10
DRAWS_AT_ONCE = 200
FEWEST = 2


@dataclass(frozen=True)
class Wiring:
    """Weights inside groups, one row per group; NaN for a group without a measured pair.

    Attributes
    ----------
    neurons, pairs : ndarray of int64 (n_groups,)
        Members that were measured, and measured ordered pairs among them.
    weight, expected : ndarray (n_groups,)
        Mean weight of these pairs, and what the strengths of their neurons let expect.
    null : ndarray (n_groups, 3)
        5, 50 and 95 % quantile of the mean excess of the matched groups.
    pvalue, pvalue_family : ndarray (n_groups,)
        Of the excess, one-sided; of this group alone and family-wise over the groups.
    """

    neurons: Ints
    pairs: Ints
    weight: Floats
    expected: Floats
    null: Floats
    pvalue: Floats
    pvalue_family: Floats


def expected_weights(weight: Floats, measured: Bools) -> Floats:
    """Return the weights that keep every neuron's strength as sender and as receiver.

    Parameters
    ----------
    weight : ndarray (n_neurons, n_neurons)
        From row to column; what was not measured is ignored.
    measured : ndarray of bool (n_neurons, n_neurons)
        Pairs that count; not the diagonal.

    Returns
    -------
    ndarray (n_neurons, n_neurons)
        Products of two factors; sums of two terms if a weight is negative. 0 where not measured.
    """
    known = np.where(measured, weight, 0.0)
    fit = _sums if known.min(initial=0.0) < 0 else _products
    return np.where(measured, fit(known, measured.astype(np.float64)), 0.0)


def _ratio(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _products(known: Floats, measured: Floats) -> Floats:
    rows, columns = known.sum(axis=1), known.sum(axis=0)
    receive = np.ones(len(known))
    send = _ratio(rows, measured @ receive)
    for _ in range(MAX_ITER):
        receive = _ratio(columns, measured.T @ send)
        before, send = send, _ratio(rows, measured @ receive)
        if np.abs(send - before).max(initial=0.0) <= TOL * send.max(initial=0.0):
            break
    return np.outer(send, receive)


def _sums(known: Floats, measured: Floats) -> Floats:
    rows, columns = measured.sum(axis=1), measured.sum(axis=0)
    receive, send = np.zeros(len(known)), np.zeros(len(known))
    scale = np.abs(known).max(initial=0.0)
    for _ in range(MAX_ITER):
        receive = _ratio(known.sum(axis=0) - measured.T @ send, columns)
        before, send = send, _ratio(known.sum(axis=1) - measured @ receive, rows)
        if np.abs(send - before).max(initial=0.0) <= TOL * scale:
            break
    return np.add.outer(send, receive)


def strength_strata(weight: Floats, measured: Bools, size: int = STRATUM) -> list[Ints]:
    """Return the neurons with a measured pair, in groups of similar strength.

    Parameters
    ----------
    weight, measured : ndarray (n_neurons, n_neurons)
        As in `expected_weights`.
    size : int
        Neurons of a stratum, about.

    Returns
    -------
    list of ndarray of int64
        By rising strength: mean weight to plus mean weight from the others.
    """
    known = np.where(measured, weight, 0.0)
    count = measured.astype(np.float64)
    strength = _ratio(known.sum(axis=1), count.sum(axis=1))
    strength = strength + _ratio(known.sum(axis=0), count.sum(axis=0))
    used = np.flatnonzero(measured.any(axis=0) | measured.any(axis=1))
    order = used[np.argsort(strength[used], kind="stable")]
    return np.array_split(order, max(1, round(order.size / size)))


def _permutations(strata: Sequence[Ints], n: int, draws: int, rng: np.random.Generator) -> Ints:
    """Return who stands for whom (draws, n_neurons); neurons of no stratum stay."""
    out = np.tile(np.arange(n), (draws, 1))
    for stratum in strata:
        out[:, stratum] = rng.permuted(np.tile(stratum, (draws, 1)), axis=1)
    return out


def _mean_excess(excess: Floats, measured: Bools, members: Ints) -> Floats:
    """Return x of groups ``members`` (n_groups, n_members), 0 where no pair was measured."""
    out = np.empty(len(members))
    for start in range(0, len(members), DRAWS_AT_ONCE):
        part = members[start : start + DRAWS_AT_ONCE]
        place = part[:, :, None], part[:, None, :]
        out[start : start + len(part)] = _ratio(
            excess[place].sum(axis=(1, 2)), measured[place].sum(axis=(1, 2)).astype(np.float64)
        )
    return out


def _familywise(pvalue: Floats, null: Floats) -> Floats:
    """Return p values family-wise over the groups from the nulls (n_groups, draws)."""
    draws = null.shape[1]
    # Rank of every draw among the draws of its group, ties to the larger p.
    order = np.sort(null, axis=1)
    reached = np.array(
        [draws - np.searchsorted(row, values) for row, values in zip(order, null, strict=True)]
    )
    smallest = reached.min(axis=0) / draws
    family = (1 + (smallest[None] <= pvalue[:, None]).sum(axis=1)) / (1 + draws)
    return np.maximum(family, pvalue)


def compare_wiring(
    weight: Floats,
    groups: Sequence[Ints],
    eligible: Bools,
    *,
    draws: int,
    rng: np.random.Generator,
) -> Wiring:
    """Compare the weight inside groups of neurons with that inside matched random groups.

    Parameters
    ----------
    weight : ndarray (n_neurons, n_neurons)
        From row to column, one kind; NaN where not measured; the diagonal is ignored.
    groups : sequence of ndarray of int64
        Members of each group.
    eligible : ndarray of bool (n_neurons,)
        Neurons that could have been a member.
    draws : int
        Matched groups per group.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    Wiring
        Groups with fewer than two measured members or no measured pair have NaN.

    Examples
    --------
    >>> weight = np.ones((20, 20)); weight[:4, :4] = 9.0
    >>> found = compare_wiring(weight, [np.arange(4), np.arange(8, 12)], np.ones(20, bool),
    ...                        draws=200, rng=np.random.default_rng(0))
    >>> float(found.weight[0]), bool(found.pvalue[1] > 0.5)
    (9.0, True)
    """
    n = len(weight)
    measured = np.isfinite(weight) & np.outer(eligible, eligible) & ~np.eye(n, dtype=bool)
    known = np.where(measured, weight, 0.0)
    expected = expected_weights(known, measured)
    strata = strength_strata(known, measured)
    places = _permutations(strata, n, draws, rng)
    used: Bools = np.logical_or(measured.any(axis=0), measured.any(axis=1))
    members = [np.asarray(group)[used[group]] for group in groups]
    pairs = np.array([measured[np.ix_(one, one)].sum() for one in members], dtype=np.int64)
    tested = np.array(
        [one.size >= FEWEST and count > 0 for one, count in zip(members, pairs, strict=True)],
        dtype=bool,
    )
    shape = (len(groups),)
    out = {name: np.full(shape, np.nan) for name in ("weight", "expected", "pvalue", "family")}
    null = np.full((len(groups), draws), np.nan)
    # Sums of the same weights in another order may differ in the last bits: such ties count.
    slack = 1e-9 * np.abs(known).max(initial=0.0)
    for index in np.flatnonzero(tested):
        inside = np.ix_(members[index], members[index])
        out["weight"][index] = known[inside].sum() / pairs[index]
        out["expected"][index] = expected[inside].sum() / pairs[index]
        drawn = _mean_excess(known - expected, measured, places[:, members[index]])
        null[index] = drawn
        reached = drawn >= out["weight"][index] - out["expected"][index] - slack
        out["pvalue"][index] = (1 + reached.sum()) / (1 + draws)
    quantiles = np.full((*shape, len(QUANTILES)), np.nan)
    if tested.any():
        out["family"][tested] = _familywise(out["pvalue"][tested], null[tested])
        quantiles[tested] = np.quantile(null[tested], QUANTILES, axis=1).T
    return Wiring(
        neurons=np.array([one.size for one in members], dtype=np.int64),
        pairs=pairs,
        weight=out["weight"],
        expected=out["expected"],
        null=quantiles,
        pvalue=out["pvalue"],
        pvalue_family=out["family"],
    )
