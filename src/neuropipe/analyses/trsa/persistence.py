"""Persistent homology of all RDMs, and how far their diagrams lie apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.descriptors import scaled_rdms
from neuropipe.analyses.trsa.kernels.homology import (
    betti_curve,
    bottleneck,
    persistence_entropy,
    rips_bars,
    sliced_wasserstein,
    total_persistence,
)
from neuropipe.analyses.trsa.spec import DescriptorSettings

__all__ = ["homology"]

Floats = NDArray[np.float64]
Diagrams = dict[tuple[int, ...], tuple[Floats, Floats]]
BAR_NUMBERS = ("total_persistence", "persistence_entropy", "longest_bar", "n_long_bars")
FILTRATION = np.linspace(0.0, 1.0, 64)
DEGREES = ("H0", "H1")
DISTANCES: dict[str, Callable[[Floats, Floats], float]] = {
    "bottleneck": bottleneck,
    "sliced_wasserstein": sliced_wasserstein,
}


def _numbers(bars: Floats, long: float) -> dict[str, float]:
    length = bars[:, 1] - bars[:, 0]
    return {
        "total_persistence": total_persistence(bars),
        "persistence_entropy": persistence_entropy(bars),
        "longest_bar": float(length.max(initial=0.0)),
        "n_long_bars": float((length > long).sum()),
    }


def _distances(diagrams: Diagrams, shape: tuple[int, ...], method: str) -> Floats:
    """Return distances ``(2, *shape, *shape)`` of diagrams, by degree; NaN without one."""
    function = DISTANCES[method]
    found = np.full((len(DEGREES), *shape, *shape), np.nan)
    places = sorted(diagrams)
    for a, one in enumerate(places):
        for other in places[a:]:
            for degree in range(len(DEGREES)):
                value = function(diagrams[one][degree], diagrams[other][degree])
                found[(degree, *one, *other)] = found[(degree, *other, *one)] = value
    return found


def homology(rdms: xr.DataArray, settings: DescriptorSettings) -> xr.Dataset:
    """Return Betti curves and sizes of bars of complete RDMs without time.

    Parameters
    ----------
    rdms : xarray.DataArray
        ``(subject, region, pair)``; those with missing pairs have NaN numbers.
    settings : DescriptorSettings
        ``long_bar``: length over which bars are counted; ``homology_distance``.

    Returns
    -------
    xarray.Dataset
        ``betti(subject, region, homology, filtration)``, ``total_persistence(subject, region,
        homology)``, ``persistence_entropy``, ``longest_bar``, ``n_long_bars``; if asked for
        ``diagram_distance(homology, subject, region, subject_2, region_2)``.
    """
    raw = settings.prescale == "none"
    scaled = scaled_rdms(rdms.transpose("subject", "region", "pair").values, settings)
    shape = scaled.shape[:-1]
    grid = FILTRATION * (np.nanmax(scaled) if raw and np.isfinite(scaled).any() else 1.0)
    curves = np.zeros((*shape, len(DEGREES), FILTRATION.size), dtype=np.int64)
    numbers = {name: np.full((*shape, len(DEGREES)), np.nan) for name in BAR_NUMBERS}
    diagrams: Diagrams = {}
    for place in np.ndindex(shape):
        if not np.isfinite(scaled[place]).all():
            continue
        diagrams[place] = rips_bars(scaled[place])
        for degree, bars in enumerate(diagrams[place]):
            curves[(*place, degree)] = betti_curve(bars, grid, forever=int(degree == 0))
            for name, value in _numbers(bars, settings.long_bar).items():
                numbers[name][(*place, degree)] = value
    lead = ("subject", "region", "homology")
    found = xr.Dataset(
        {"betti": ((*lead, "filtration"), curves)} | {n: (lead, v) for n, v in numbers.items()},
        coords={"homology": list(DEGREES), "filtration": grid},
    )
    method = settings.homology_distance
    if method != "none":
        dims = ("homology", "subject", "region", "subject_2", "region_2")
        found["diagram_distance"] = (dims, _distances(diagrams, shape, method), {"method": method})
        names = {f"{dim}_2": rdms[dim].values for dim in ("subject", "region")}
        found = found.assign_coords(names)
    return found
