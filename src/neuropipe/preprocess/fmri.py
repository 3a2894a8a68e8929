"""Steps of fMRI: the series or the means of an atlas, censoring, and one model of all nuisance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.preprocess.fmri_clean import clean
from neuropipe.preprocess.fmri_motion import censor
from neuropipe.preprocess.fmri_parcels import parcellate
from neuropipe.preprocess.steps import recorded_step
from neuropipe.store.scaling import physical_blocks

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import FmriPreprocess

__all__ = ["FMRI_STEPS", "bold_blocks", "raw_bold", "take_bold"]

SERIES = "bold"
PLACE = ("affine", "volume_shape", "space")
BLOCK_BYTES = 32 << 20
# float32 holds these integers exactly.
NARROW = ("int8", "uint8", "int16", "uint16", "float32")


def raw_bold(raw: xr.Dataset) -> xr.Dataset:
    """Return ``/raw`` loaded but for the samples; where its voxels lie goes to their attributes.

    Parameters
    ----------
    raw : xarray.Dataset
        ``/raw`` as it was opened.
    """
    place = {key: raw.attrs[key] for key in PLACE if key in raw.attrs}
    samples = raw[SERIES].variable.copy(deep=False)
    samples.attrs = {**samples.attrs, **place}
    small = raw.drop_vars(SERIES).load()
    return small.assign({SERIES: samples})


def bold_blocks(raw: xr.Dataset) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield times and values of ``bold``, float64 ``(n, row)``, NaN where not valid.

    Parameters
    ----------
    raw : xarray.Dataset
        ``bold(time, <row>)``, ``valid`` where samples are missing.
    """
    yield from physical_blocks(raw, SERIES, BLOCK_BYTES)


@recorded_step("source")
def take_bold(raw: xr.Dataset) -> xr.Dataset:
    """Take ``bold`` of ``/raw`` and call it ``activity``.

    Parameters
    ----------
    raw : xarray.Dataset
        With ``bold (time, <row>)``, loaded or not.

    Returns
    -------
    xarray.Dataset
        ``activity (time, <row>)`` as values (float64 only where float32 would lose digits), NaN
        where not valid; ``valid``; ``<row>_ok``; every coordinate. Attribute ``source_series``.
    """
    bold = raw[SERIES].variable
    row = str(bold.dims[1])
    precision = np.float32 if bold.dtype.name in NARROW else np.float64
    values = np.empty(bold.shape, precision)
    for here, block in bold_blocks(raw):
        values[here] = block
    attrs = {key: bold.attrs[key] for key in PLACE if key in bold.attrs}
    attrs["units"] = str(bold.attrs.get("units", "a.u."))
    ds = raw.drop_vars([SERIES, "valid"], errors="ignore")
    if f"{row}_ok" not in ds.variables:
        ds = ds.assign({f"{row}_ok": (row, np.ones(bold.shape[1], dtype=bool))})
    return ds.assign(
        activity=(bold.dims, values, attrs), valid=(bold.dims, np.isfinite(values))
    ).assign_attrs(source_series=SERIES)


def _source(ds: xr.Dataset, settings: FmriPreprocess) -> xr.Dataset:
    if settings.parcellation is None:
        return take_bold(ds)
    return parcellate(ds, bold_blocks, **settings.parcellation.model_dump())


def _censor(ds: xr.Dataset, settings: FmriPreprocess) -> xr.Dataset:
    return censor(ds, fd_threshold_mm=settings.fd_threshold_mm)


def _clean(ds: xr.Dataset, settings: FmriPreprocess) -> xr.Dataset:
    keys = ("confounds", "csf_wm", "detrend", "high_pass_hz", "standardise")
    return clean(ds, **{key: getattr(settings, key) for key in keys})


FMRI_STEPS: dict[str, Callable[[xr.Dataset, Any], xr.Dataset]] = {
    "source": _source,
    "censor": _censor,
    "clean": _clean,
}
