"""Descriptors of all RDMs: transformed (RGTM) and geodesic (RGDM)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.geodesic import fill_unconnected, rgdm
from neuropipe.analyses.trsa.kernels.transform import prescale, rgtm, smooth, threshold_class
from neuropipe.analyses.trsa.spec import DescriptorSettings

__all__ = ["describe", "descriptor_names", "descriptor_vectors", "geodesics"]

Floats = NDArray[np.float64]


def cell_name(lower: float, upper: float) -> str:
    """Return the name of a cell in results and figures."""
    return "geometry (0, 1)" if (lower, upper) == (0, 1) else f"RGTM ({lower:g}, {upper:g})"


def descriptor_names(settings: DescriptorSettings) -> list[str]:
    """Return the names of the descriptors, the raw RDM first, the geodesic one last."""
    cells = [cell_name(*cell) for cell in settings.cells]
    return ["RDM", *cells, *smooth_names(settings), "RGDM"]


def smooth_names(settings: DescriptorSettings) -> list[str]:
    """Return the name of the smooth descriptor, if there is one."""
    one = settings.smooth
    return [] if one is None else [f"smooth ({one.slope:g}, {one.centre:g})"]


def _smoothed(scaled: Floats, settings: DescriptorSettings) -> dict[str, Floats]:
    one = settings.smooth
    if one is None:
        return {}
    return {smooth_names(settings)[0]: smooth(scaled, one.slope, one.centre)}


def geodesics(scaled: Floats, settings: DescriptorSettings) -> tuple[Floats, NDArray[np.int64]]:
    """Return geodesic descriptors ``(..., n_pairs)`` and numbers of components ``(...)``."""
    options = settings.geodesic
    rows = scaled.reshape(-1, scaled.shape[-1])
    found, count = np.full(rows.shape, np.nan), np.zeros(len(rows), dtype=np.int64)
    for k, row in enumerate(rows):
        if np.isfinite(row).any():
            paths, count[k] = rgdm(row, options.rule, **settings.geodesic_parameters)
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
    mode = settings.threshold_mode
    cells = {cell_name(*cell): rgtm(scaled, *cell, mode=mode) for cell in settings.cells}
    paths = geodesics(scaled, settings)[0]
    return {"RDM": values, **cells, **_smoothed(scaled, settings), "RGDM": paths}


def _class(cell: Sequence[float], settings: DescriptorSettings) -> str:
    """Return the class of a cell; thresholds in the unit of the measure have none."""
    if settings.threshold_mode == "absolute" and settings.prescale == "none":
        return "unscaled"
    return threshold_class(*cell)


def _cells(values: Floats, settings: DescriptorSettings, timed: bool) -> Floats:
    """Return transformed RDMs ``(..., n_cells, n_pairs)``, of a movie with shared thresholds."""
    mode = settings.threshold_mode
    if timed and settings.thresholds == "pooled":
        joined = scaled_rdms(values.reshape(*values.shape[:2], -1), settings)
        parts = [rgtm(joined, *cell, mode=mode).reshape(values.shape) for cell in settings.cells]
    else:
        scaled = scaled_rdms(values, settings)
        parts = [rgtm(scaled, *cell, mode=mode) for cell in settings.cells]
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
        for, ``rgtm_smooth``.
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
            "threshold_class": ("cell", [_class(cell, settings) for cell in settings.cells]),
        },
    )
    for name, values in _smoothed(scaled, settings).items():
        found["rgtm_smooth"] = ((*lead, "pair"), values, {"name": name})
    return found
