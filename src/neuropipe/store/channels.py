"""What the rows of EEG, MEG and iEEG stores must say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CHANNEL_MODALITIES", "channel_faults"]

CHANNEL_MODALITIES = ("eeg", "meg", "ieeg")
# Coordinate -> kinds of dtype: O and T are text, f float64, b bool.
COORDINATES = {
    "channel_source": "OT",
    "ch_type": "OT",
    "units": "OT",
    "reference": "OT",
    "bad": "b",
    "x": "f",
    "y": "f",
    "z": "f",
    "low_cutoff": "f",
    "high_cutoff": "f",
}
# Those of iEEG that a store may have.
OPTIONAL = {
    "electrode_group": "OT",
    "contact": "i",
    "size": "f",
    "anat_label": "OT",
    "is_white_matter": "i",
    "impedance": "f",
}
SCALES = ("scale_factor", "add_offset")
WORDS = {"O": "text", "T": "text", "b": "bool", "f": "float64", "i": "integers"}


def channel_faults(ds: xr.Dataset) -> list[tuple[str, str, str]]:
    """Return what is wrong with the channels of ``/raw``: code, variable and message.

    Parameters
    ----------
    ds : xarray.Dataset
        ``/raw`` of a store of EEG, MEG or iEEG; no samples are read.
    """
    found = []
    for name, kinds in {**COORDINATES, **OPTIONAL}.items():
        if name not in ds.variables:
            if name in COORDINATES:
                found.append(("COLUMNS", name, "absent, expected one value per channel"))
        elif fault := _layout(ds, name, kinds):
            found.append(fault)
    return [*found, *_scale_faults(ds), *_type_faults(ds)]


def _layout(ds: xr.Dataset, name: str, kinds: str) -> tuple[str, str, str] | None:
    variable = ds[name].variable
    if variable.dims == ("channel",) and variable.dtype.kind in kinds:
        return None
    text = f"{variable.dtype} along {variable.dims}, expected {WORDS[kinds[0]]} along channel"
    return "DIMS", name, text


def _scale_faults(ds: xr.Dataset) -> list[tuple[str, str, str]]:
    """Integers need a scale to mean anything, floats are in SI units and must have none."""
    if "signal" not in ds.data_vars:
        return []
    integers = ds["signal"].dtype.kind in "iu"
    found = []
    for name in SCALES:
        if integers != (name in ds.variables):
            state = "absent, but samples are" if integers else "present, but samples are"
            found.append(("SCALE", name, f"{state} {ds['signal'].dtype}"))
        elif integers and (fault := _layout(ds, name, "f")):
            found.append(fault)
        elif integers and not np.isfinite(ds[name].values).all():
            found.append(("SCALE", name, "some values are NaN or infinite"))
    if integers and not found and (ds["scale_factor"].values == 0).any():
        found.append(("SCALE", "scale_factor", "some are 0, so that every sample is the same"))
    return found


def _type_faults(ds: xr.Dataset) -> list[tuple[str, str, str]]:
    if "ch_type" not in ds.variables:
        return []
    odd = sorted({str(v) for v in ds["ch_type"].values if not v or str(v) != str(v).lower()})
    if not odd:
        return []
    return [("VOCABULARY", "ch_type", f"{odd[:5]}, expected lower case words such as eeg")]
