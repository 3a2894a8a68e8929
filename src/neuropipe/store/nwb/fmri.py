"""Functional MRI in NWB: `TimeSeries` ``bold``, and a table with one row per column of it.

NWB has no type for images over time. Masked voxels, parcels and grayordinates are columns of a
plain series; the image they come from is referred to by path and hash (attribute
``source_files`` of ``/raw``), never copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.store.nwb.tables import add_column_table, add_row_series

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.store.nwb.builder import NwbBuilder

__all__ = ["add_raw"]

GROUP, MODULE = "/raw", "fmri"


def add_raw(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add the series, the confounds and what is known of their columns.

    Parameters
    ----------
    builder : NwbBuilder
        File in the making.
    ds : xarray.Dataset
        ``/raw`` of the store.
    """
    add_row_series(builder, GROUP, ds, "bold", MODULE)
    if "confounds" in ds and ds["confounds"].size:
        add_column_table(builder, GROUP, ds, "confounds", MODULE)
