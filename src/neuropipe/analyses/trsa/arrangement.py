"""Views of all RDMs at once: second-order similarity and arrangements in a plane."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform

from neuropipe.analyses.trsa.descriptors import descriptor_vectors
from neuropipe.analyses.trsa.kernels.compare import compare
from neuropipe.analyses.trsa.kernels.mds import align, mds, mds_movie
from neuropipe.analyses.trsa.kernels.pairs import to_square
from neuropipe.analyses.trsa.spec import Settings

__all__ = ["arrange", "condition_map"]

Floats = NDArray[np.float64]
MOST_ITEMS = 500


def arrange(rdms: xr.DataArray, settings: Settings, method: str) -> xr.Dataset:
    """Compare all RDMs of subjects and regions with each other and arrange them in a plane.

    Parameters
    ----------
    rdms : xarray.DataArray
        ``(subject, region, pair)``.
    settings : Settings
    method : str
        Comparator.

    Returns
    -------
    xarray.Dataset
        ``similarity(item, item_2)`` with coordinates ``item_subject``, ``item_region``, and
        ``mds_item(descriptor, item, mds_dim)``, every descriptor aligned with the first.
    """
    flat = rdms.values.reshape(-1, rdms.sizes["pair"])
    present = np.flatnonzero(np.isfinite(flat).any(axis=1))[:MOST_ITEMS]
    flat = flat[present]
    subject = np.repeat(rdms["subject"].values.astype(str), rdms.sizes["region"])[present]
    region = np.tile(rdms["region"].values.astype(str), rdms.sizes["subject"])[present]
    similarity = compare(flat, flat, method)
    vectors = descriptor_vectors(flat, settings.descriptor)
    places, misfit = [], []
    for rows in vectors.values():
        complete = rows[:, np.isfinite(rows).all(axis=0)]
        points, stress = np.full((len(rows), 2), np.nan), np.nan
        if len(rows) > 2 and complete.size:
            points, stress = mds(squareform(pdist(complete)))
            points = align(points, places[0]) if places else points
        places.append(points)
        misfit.append(stress)
    item = [f"{s} {r}" for s, r in zip(subject, region, strict=True)]
    return xr.Dataset(
        {
            "similarity": (("item", "item_2"), similarity),
            "mds_item": (("descriptor", "item", "mds_dim"), np.stack(places)),
            "mds_item_stress": ("descriptor", misfit),
        },
        coords={
            "item": item,
            "item_2": item,
            "item_subject": ("item", subject.tolist()),
            "item_region": ("item", region.tolist()),
            "descriptor": list(vectors),
            "mds_dim": [1, 2],
        },
    )


def _mean_distances(rdms: xr.DataArray) -> Floats:
    """Return distances between conditions in the mean RDM, ``(region, [time,] n, n)``."""
    finite = np.isfinite(rdms.values)
    total = np.where(finite, rdms.values, 0.0).sum(axis=0)
    mean = np.where(finite.any(axis=0), total / np.maximum(finite.sum(axis=0), 1), np.nan)
    fill = np.nanmean(mean) if np.isfinite(mean).any() else 0.0
    mean = np.where(np.isfinite(mean), mean, fill)
    squared = rdms.attrs.get("squared", 0)
    return to_square(np.sqrt(np.maximum(mean, 0)) if squared else np.maximum(mean, 0))


def condition_map(rdms: xr.DataArray) -> xr.Dataset:
    """Arrange the conditions by their mean RDM, in every region (and time, frames aligned).

    Returns
    -------
    xarray.Dataset
        ``mds(region, [time,] condition, mds_dim)`` and ``mds_stress(region[, time])``.
    """
    squares = _mean_distances(rdms)
    if "time" in rdms.dims:
        made = [mds_movie(movie) for movie in squares]
    else:
        made = [mds(square) for square in squares]
    lead = rdms.dims[1:-1]
    return xr.Dataset(
        {
            "mds": ((*lead, "condition", "mds_dim"), np.stack([points for points, _ in made])),
            "mds_stress": (lead, np.array([stress for _, stress in made])),
        },
        coords={"mds_dim": [1, 2]},
    )
