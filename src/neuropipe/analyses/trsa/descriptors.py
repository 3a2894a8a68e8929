"""Descriptors of all RDMs: transformed (RGTM), geodesic (RGDM), persistent homology."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.geodesic import fill_unconnected, rgdm
from neuropipe.analyses.trsa.kernels.homology import (
    betti_curve,
    persistence_entropy,
    rips_bars,
    total_persistence,
)
from neuropipe.analyses.trsa.kernels.transform import prescale, rgtm, threshold_class
from neuropipe.analyses.trsa.spec import DescriptorSettings

__all__ = ["describe", "descriptor_names", "descriptor_vectors", "geodesics"]

Floats = NDArray[np.float64]
BAR_NUMBERS = ("total_persistence", "persistence_entropy", "longest_bar", "n_long_bars")
FILTRATION = np.linspace(0.0, 1.0, 64)


def cell_name(lower: float, upper: float) -> str:
    """Return the name of a cell in results and figures."""
    return "geometry (0, 1)" if (lower, upper) == (0, 1) else f"RGTM ({lower:g}, {upper:g})"


def descriptor_names(settings: DescriptorSettings) -> list[str]:
    """Return the names of the descriptors, the raw RDM first, the geodesic one last."""
    return ["RDM", *(cell_name(*cell) for cell in settings.cells), "RGDM"]


def geodesics(scaled: Floats, settings: DescriptorSettings) -> tuple[Floats, NDArray[np.int64]]:
    """Return geodesic descriptors ``(..., n_pairs)`` and numbers of components ``(...)``."""
    options = settings.geodesic
    rows = scaled.reshape(-1, scaled.shape[-1])
    found, count = np.full(rows.shape, np.nan), np.zeros(len(rows), dtype=np.int64)
    for k, row in enumerate(rows):
        if np.isfinite(row).any():
            paths, count[k] = rgdm(row, options.rule, **options.parameters)
            filled = fill_unconnected(paths, options.unconnected)
            found[k] = np.where(np.isfinite(row), filled, np.nan)
    if options.rank:
        found = prescale(found)
    return found.reshape(scaled.shape), count.reshape(scaled.shape[:-1])


def scaled_rdms(values: Floats, settings: DescriptorSettings) -> Floats:
    """Return scaled RDMs ``(..., n_pairs)``; negative estimates count as 0 where not ranked."""
    if settings.prescale == "none":
        values = np.where(values < 0, 0.0, values)
    return prescale(values, settings.prescale)


def descriptor_vectors(values: Floats, settings: DescriptorSettings) -> dict[str, Floats]:
    """Return every descriptor of RDMs ``(..., n_pairs)``, by name."""
    scaled = scaled_rdms(values, settings)
    cells = {cell_name(*cell): rgtm(scaled, *cell) for cell in settings.cells}
    return {"RDM": values, **cells, "RGDM": geodesics(scaled, settings)[0]}


def _cells(values: Floats, settings: DescriptorSettings, timed: bool) -> Floats:
    """Return transformed RDMs ``(..., n_cells, n_pairs)``, of a movie with shared thresholds."""
    if timed and settings.thresholds == "pooled":
        joined = scaled_rdms(values.reshape(*values.shape[:2], -1), settings)
        parts = [rgtm(joined, *cell).reshape(values.shape) for cell in settings.cells]
    else:
        scaled = scaled_rdms(values, settings)
        parts = [rgtm(scaled, *cell) for cell in settings.cells]
    return np.stack(parts, axis=-2)


def describe(rdms: xr.DataArray, settings: DescriptorSettings) -> xr.Dataset:
    """Return the descriptors of all RDMs.

    Parameters
    ----------
    rdms : xarray.DataArray
        ``(subject, region, [time,] pair)``.
    settings : DescriptorSettings

    Returns
    -------
    xarray.Dataset
        ``rgtm(subject, region, [time,] cell, pair)``, ``rgdm``, ``n_components`` and, if asked
        for, the variables of persistent homology.
    """
    timed = "time" in rdms.dims
    lead = rdms.dims[:-1]
    scaled = scaled_rdms(rdms.values, settings)
    paths, components = geodesics(scaled, settings)
    lower, upper = np.array(settings.cells).T
    found = xr.Dataset(
        {
            "rgtm": ((*lead, "cell", "pair"), _cells(rdms.values, settings, timed)),
            "rgdm": ((*lead, "pair"), paths),
            "n_components": (lead, components),
        },
        coords={
            "cell": [cell_name(*cell) for cell in settings.cells],
            "cell_lower": ("cell", lower),
            "cell_upper": ("cell", upper),
            "threshold_class": ("cell", [threshold_class(*cell) for cell in settings.cells]),
        },
    )
    if settings.homology and not timed:
        found = found.merge(_homology(scaled, lead, settings.long_bar))
    return found


def _homology(scaled: Floats, lead: tuple[str, ...], long: float) -> xr.Dataset:
    """Return Betti curves, sizes of the bars and number of long ones of complete RDMs."""
    shape = scaled.shape[:-1]
    curves = np.zeros((*shape, 2, FILTRATION.size), dtype=np.int64)
    numbers = {name: np.full((*shape, 2), np.nan) for name in BAR_NUMBERS}
    for place in np.ndindex(shape):
        if not np.isfinite(scaled[place]).all():
            continue
        for degree, bars in enumerate(rips_bars(scaled[place])):
            curves[(*place, degree)] = betti_curve(bars, FILTRATION, forever=int(degree == 0))
            numbers["total_persistence"][(*place, degree)] = total_persistence(bars)
            numbers["persistence_entropy"][(*place, degree)] = persistence_entropy(bars)
            length = bars[:, 1] - bars[:, 0]
            numbers["longest_bar"][(*place, degree)] = length.max(initial=0.0)
            numbers["n_long_bars"][(*place, degree)] = (length > long).sum()
    return xr.Dataset(
        {"betti": ((*lead, "homology", "filtration"), curves)}
        | {name: ((*lead, "homology"), v) for name, v in numbers.items()},
        coords={"homology": ["H0", "H1"], "filtration": FILTRATION},
    )
