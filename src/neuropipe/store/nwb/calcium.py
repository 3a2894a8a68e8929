"""Calcium imaging in NWB: traces as `RoiResponseSeries`, rois as a `PlaneSegmentation`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hdmf.common import ElementIdentifiers, VectorData, VectorIndex
from pynwb.device import Device
from pynwb.ophys import (
    DfOverF,
    Fluorescence,
    ImageSegmentation,
    ImagingPlane,
    OpticalChannel,
    PlaneSegmentation,
    RoiResponseSeries,
)

from neuropipe.store.nwb.builder import describe, number_attr
from neuropipe.store.variables import is_text

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.store.nwb.builder import NwbBuilder

__all__ = ["add_raw"]

GROUP = "/raw"
OPHYS = "/processing/ophys"
TABLE = f"{OPHYS}/ImageSegmentation/PlaneSegmentation"
CONTAINERS = {
    "fluorescence": Fluorescence,
    "neuropil": Fluorescence,
    "deconvolved": Fluorescence,
    "dff": DfOverF,
}
UNKNOWN = "unknown"


def add_raw(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add the series, the rois and the mask of a calcium recording.

    Parameters
    ----------
    builder : NwbBuilder
        File in the making.
    ds : xarray.Dataset
        ``/raw`` of the store.
    """
    rois = _add_rois(builder, ds)
    containers: dict[type, Fluorescence | DfOverF] = {}
    present = [name for name in CONTAINERS if name in ds.data_vars]
    for name in present:
        kind = CONTAINERS[name]
        if kind not in containers:
            containers[kind] = kind(name=kind.__name__)
            builder.module("ophys").add(containers[kind])
        _add_series(builder, ds, name, containers[kind], rois)
    for key, variable in ds.data_vars.items():
        name = str(key)
        if (
            name not in CONTAINERS
            and variable.dims[:1] == ("time",)
            and not is_text(variable.dtype)
        ):
            title = f"{present[0]}_valid" if name == "valid" and present else name
            builder.series(builder.module("ophys").add, GROUP, name, ds, OPHYS, title)


def _imaging_plane(builder: NwbBuilder, ds: xr.Dataset) -> ImagingPlane:
    """Return the plane; what the source does not state is NaN or "unknown", never invented."""
    device = Device(name="microscope")
    builder.nwbfile.add_device(device)
    channel = OpticalChannel(
        name="optical_channel", description=UNKNOWN, emission_lambda=float("nan")
    )
    rate = ds.attrs.get("imaging_rate", float("nan"))
    known = {"imaging_rate": float(rate)} if np.isfinite(rate) else {}
    plane = ImagingPlane(
        name="imaging_plane",
        optical_channel=channel,
        description="Plane or volume of the recording",
        device=device,
        excitation_lambda=float("nan"),
        indicator=str(ds.attrs.get("indicator", "")) or UNKNOWN,
        location=UNKNOWN,
        **known,
    )
    builder.nwbfile.add_imaging_plane(plane)
    return plane


def _add_rois(builder: NwbBuilder, ds: xr.Dataset) -> PlaneSegmentation:
    n_rois = ds.sizes["roi"]
    rois = ds["roi"].variable
    names = [
        str(name)
        for name, variable in ds.variables.items()
        if variable.dims[:1] == ("roi",) and name != "roi" and variable.size
    ]
    numbers = np.arange(n_rois)
    if rois.dtype.kind in "iu":
        numbers = np.asarray(rois.values, dtype=np.int64)
        builder.manifest.place(GROUP, "roi", {"path": f"{TABLE}/id"})
    else:
        names.append("roi")
    pixel = np.array([(0, 0, 1.0)], dtype=[("x", "<u4"), ("y", "<u4"), ("weight", "<f4")])
    has_mask = VectorData(
        name="has_mask",
        description="False: the store has no mask, the pixel at (0, 0) stands for it",
        data=np.zeros(n_rois, dtype=bool),
    )
    table = PlaneSegmentation(
        name="PlaneSegmentation",
        description="Regions of interest",
        imaging_plane=_imaging_plane(builder, ds),
        id=ElementIdentifiers(name="id", data=numbers),
        columns=[
            *_mask_columns(n_rois, pixel),
            has_mask,
            *builder.columns(GROUP, ds, names, TABLE),
        ],
    )
    builder.module("ophys").add(
        ImageSegmentation(name="ImageSegmentation", plane_segmentations=[table])
    )
    return table


def _mask_columns(n_rois: int, pixel: np.ndarray) -> list[VectorData]:
    column = VectorData(
        name="pixel_mask", description="Pixel masks for each ROI", data=np.repeat(pixel, n_rois)
    )
    index = VectorIndex(name="pixel_mask_index", data=np.arange(1, n_rois + 1), target=column)
    return [index, column]


def _add_series(
    builder: NwbBuilder,
    ds: xr.Dataset,
    name: str,
    container: Fluorescence | DfOverF,
    rois: PlaneSegmentation,
) -> None:
    path = f"{OPHYS}/{container.name}/{name}"
    variable = ds[name].variable
    rows = rois.create_roi_table_region(
        region=list(range(len(rois))), description=f"Rois of {name}"
    )
    series = RoiResponseSeries(
        name=name,
        data=builder.data(variable),
        rois=rows,
        unit=str(variable.attrs.get("units", "")) or "a.u.",
        description=describe(variable, name),
        conversion=number_attr(variable, "scale_factor", 1.0),
        offset=number_attr(variable, "add_offset", 0.0),
        **builder.time(GROUP, "time", ds["time"].variable, path),
    )
    container.add_roi_response_series(series)
    builder.clocked_by(GROUP, "time", series)
    builder.manifest.place(GROUP, name, {"path": f"{path}/data"})
