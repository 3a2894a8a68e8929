"""Communities beside an anatomical or functional connectome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.communities import UNOBSERVED
from neuropipe.analyses.ntf.kernels.wiring import QUANTILES, Wiring, compare_wiring
from neuropipe.errors import Issue
from neuropipe.seeds import stage_generator

__all__ = ["DRAWS", "compare_connectome"]

DRAWS = 2000
FEW = 10
FIELDS = {
    "wiring_weight": "weight",
    "wiring_expected": "expected",
    "wiring_pvalue": "pvalue",
    "wiring_pvalue_family": "pvalue_family",
}
COUNTS = {"wiring_neurons": "neurons", "wiring_pairs": "pairs"}


@dataclass(frozen=True)
class _Groups:
    """The communities of all components at the finest level."""

    place: list[tuple[int, int]]
    members: list[NDArray[np.int64]]


def _groups(labels: NDArray[np.int64]) -> _Groups:
    place = [(r, c) for r, row in enumerate(labels) for c in sorted({*row[row >= 0].tolist()})]
    return _Groups(place, [np.flatnonzero(labels[r] == c) for r, c in place])


def _corrected(found: Wiring, kinds: int) -> NDArray[np.float64]:
    """Return the family-wise p of one kind, Bonferroni over the kinds."""
    return np.minimum(found.pvalue_family * kinds, 1.0)


def compare_connectome(
    communities: xr.Dataset, weights: xr.DataArray, seed: int
) -> tuple[xr.Dataset, list[Issue]]:
    """Compare the weight inside every community with that inside matched random sets.

    Parameters
    ----------
    communities : xarray.Dataset
        ``community(component, level, neuron)`` and the coordinate ``community_id``.
    weights : xarray.DataArray
        ``connectome_weight(kind, neuron, neuron_2)``, NaN where not measured, neurons in the same
        order.
    seed : int
        Seed of the job.

    Returns
    -------
    dataset : xarray.Dataset
        Over ``(component, community_id, kind)``, finest level: ``wiring_weight`` (mean weight of
        the measured ordered pairs inside), ``wiring_expected`` (the same from the strengths
        alone), ``wiring_null`` (quantiles of the excess of matched sets), ``wiring_pvalue``,
        ``wiring_pvalue_family`` (over the communities of all motifs and over kinds),
        ``wiring_neurons``, ``wiring_pairs``. NaN where nothing was measured.
    issues : list of Issue
        Kinds of which few neurons were measured.
    """
    labels = communities["community"].isel(level=0).transpose("component", "neuron").values
    values = weights.transpose("kind", "neuron", "neuron_2").values.astype(np.float64)
    kinds = [str(kind) for kind in weights["kind"].values.tolist()]
    groups, eligible = _groups(labels), labels[0] != UNOBSERVED
    shape = (len(labels), communities.sizes["community_id"], len(kinds))
    out = {name: np.full(shape, np.nan) for name in FIELDS}
    counts = {name: np.zeros(shape, dtype=np.int64) for name in COUNTS}
    null = np.full((*shape, len(QUANTILES)), np.nan)
    issues = []
    for k, kind in enumerate(kinds):
        rng = stage_generator(seed, f"connectome-{kind}")
        found = compare_wiring(values[k], groups.members, eligible, draws=DRAWS, rng=rng)
        for position, (r, c) in enumerate(groups.place):
            for name, field in {**FIELDS, **COUNTS}.items():
                target = out[name] if name in out else counts[name]
                target[r, c, k] = getattr(found, field)[position]
            out["wiring_pvalue_family"][r, c, k] = _corrected(found, len(kinds))[position]
            null[r, c, k] = found.null[position]
        issues += _few_measured(values[k], eligible, kind)
    dims = ("component", "community_id", "kind")
    dataset = xr.Dataset(
        {
            **{name: (dims, array) for name, array in (out | counts).items()},
            "wiring_null": ((*dims, "wiring_quantile"), null),
        },
        coords={
            "kind": np.array(kinds, dtype=object),
            "wiring_quantile": np.array(QUANTILES),
        },
        attrs={"wiring_draws": DRAWS},
    )
    return dataset, issues


def _few_measured(
    weight: NDArray[np.float64], eligible: NDArray[np.bool_], kind: str
) -> list[Issue]:
    known = np.isfinite(weight[np.ix_(eligible, eligible)])
    np.fill_diagonal(known, False)
    count = int((known.any(axis=0) | known.any(axis=1)).sum())
    if count >= FEW:
        return []
    return [
        Issue(
            "FEW_IN_CONNECTOME",
            f"input.connectome: {kind}",
            f"{count} of {int(eligible.sum())} neurons were measured; matched random sets say "
            f"little below {FEW}",
            "check that the names agree with those of the connectome, or configure another one",
        )
    ]
