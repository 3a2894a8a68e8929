"""Mean signals of the regions of an atlas."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError, DataError, MissingInput
from neuropipe.preprocess.steps import add_issue, record

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Atlas", "load_atlas_image", "parcellate", "voxel_labels"]

KEY = "preprocess.fmri.parcellation.atlas"
Blocks = Callable[["xr.Dataset"], Iterator[tuple[slice, np.ndarray]]]


@dataclass(frozen=True)
class Atlas:
    """A label image and what its labels are called.

    Attributes
    ----------
    labels : numpy.ndarray
        Int64 ``(x, y, z)``, 0 outside.
    affine : numpy.ndarray
        Voxel to mm, ``(4, 4)``.
    index : numpy.ndarray
        Labels that occur, sorted, ``(n_parcels,)``.
    columns : dict of str to list of str
        ``parcel``, ``hemisphere``, ``network`` per label.
    sha256 : str
        Of the image.
    """

    labels: np.ndarray
    affine: np.ndarray
    index: np.ndarray
    columns: dict[str, list[str]]
    sha256: str


def _image(path: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    import nibabel as nib

    where = f"{key}: {path}"
    if not path.is_file():
        raise MissingInput(f"{where}: no such file; paths are relative to the study folder")
    try:
        image: Any = nib.load(path)
        values = np.asarray(image.dataobj)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError) as error:
        raise DataError(f"{where}: no image that nibabel reads ({error})") from error
    # A single volume may have more axes of length 1; those of a single slice stay.
    values = values[(..., *[0] * sum(n == 1 for n in values.shape[3:]))]
    if values.ndim != 3 or not hasattr(image, "affine"):
        raise DataError(f"{where}: shape {values.shape}, a 3-D label image is expected")
    labels = np.rint(np.nan_to_num(values)).astype(np.int64)
    if not np.array_equal(labels, np.nan_to_num(values)):
        raise DataError(f"{where}: holds fractions, whole numbers (labels) are expected")
    if not (labels > 0).any():
        raise DataError(f"{where}: holds no label above 0")
    return labels, np.asarray(image.affine, dtype=np.float64)


def _table(path: Path, names: str | None) -> dict[int, dict[str, str]]:
    """Return what the table of labels says, by label; empty without a table."""
    import pandas as pd

    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    file = Path(names) if names is not None else path.with_name(f"{stem}.tsv")
    if not file.is_file():
        if names is not None:
            raise MissingInput(f"preprocess.fmri.parcellation.names: {file}: no such file")
        return {}
    separator = "," if file.suffix.lower() == ".csv" else "\t"
    frame = pd.read_csv(file, sep=separator, dtype=str, encoding="utf-8-sig").fillna("")
    absent = [name for name in ("index", "name") if name not in frame]
    if absent:
        raise ConfigError(
            f"{file}: no column {absent[0]!r}; it has {', '.join(map(str, frame.columns))}, a "
            "table of labels needs `index` and `name`"
        )
    rows = frame.to_dict("records")
    return {int(float(row["index"])): {str(k): str(v) for k, v in row.items()} for row in rows}


def load_atlas_image(atlas: str, names: str | None = None, key: str = KEY) -> Atlas:
    """Read a label image and the table of its labels.

    Parameters
    ----------
    atlas : str
        3-D image of whole numbers, 0 outside.
    names : str or None
        Table with columns ``index`` and ``name``, and ``hemisphere``, ``network`` where known;
        None: ``<atlas>.tsv`` beside the image. Without a table parcels are called by number.
    key : str
        Key of the configuration that names the image, for the messages.

    Raises
    ------
    MissingInput
        If a file does not exist.
    DataError
        If the image holds no labels, or two labels have one name.
    ConfigError
        If the table lacks a column.
    """
    from neuropipe.store.hashing import file_sha256

    path = Path(atlas)
    labels, affine = _image(path, key)
    index = np.unique(labels[labels > 0])
    table = _table(path, names)
    columns = {
        "parcel": [table.get(int(n), {}).get("name", "") or f"parcel-{n}" for n in index],
        "hemisphere": [table.get(int(n), {}).get("hemisphere", "") for n in index],
        "network": [table.get(int(n), {}).get("network", "") for n in index],
    }
    twice = sorted({name for name in columns["parcel"] if columns["parcel"].count(name) > 1})
    if twice:
        raise DataError(f"{path}: two labels are called {twice[0]!r}; correct the table of labels")
    return Atlas(labels, affine, index, columns, file_sha256(path))


def _on_grid(atlas: Atlas, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the labels on the grid of the data: each voxel gets the nearest one's."""
    if atlas.labels.shape == shape and np.allclose(atlas.affine, affine):
        return atlas.labels
    import nibabel as nib

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        from nilearn.image import resample_img
    image: Any = nib.Nifti1Image(atlas.labels.astype(np.int32), atlas.affine)
    moved: Any = resample_img(
        image,
        target_affine=affine,
        target_shape=shape,
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )
    return np.rint(np.asarray(moved.dataobj)).astype(np.int64)


def voxel_labels(raw: xr.Dataset, atlas: Atlas, key: str = KEY) -> np.ndarray:
    """Return the label of each row of the data, ``(n_voxels,)``, 0 for none.

    Parameters
    ----------
    raw : xarray.Dataset
        ``bold (time, voxel)`` with attributes ``affine`` and ``volume_shape``, ``i, j, k``.
    atlas : Atlas
        Brought to the grid of the data by nearest neighbour.
    key : str
        Key of the configuration that names the image, for the messages.

    Raises
    ------
    DataError
        If the rows are no voxels.
    """
    bold = raw["bold"]
    name, row = str(raw.attrs.get("recording", "recording")), str(bold.dims[1])
    if row != "voxel":
        block = key.rpartition(".atlas")[0] or key
        raise DataError(
            f"{name}: {block} takes voxels, the store holds {row}s; set "
            f"`{block.rpartition('.')[2]}: null`"
        )
    affine = np.asarray(bold.attrs["affine"], dtype=np.float64)
    shape = tuple(int(n) for n in bold.attrs["volume_shape"])
    labels = _on_grid(atlas, affine, shape)
    found = labels[raw["i"].values, raw["j"].values, raw["k"].values]
    return np.where(raw["voxel_ok"].values, found, 0) if "voxel_ok" in raw else found


def _means(raw: xr.Dataset, blocks: Blocks, labels: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the mean of the valid voxels of each parcel, ``(n_times, n_parcels)``."""
    from scipy.sparse import csr_array

    used = np.flatnonzero(labels > 0)
    place = np.searchsorted(index, labels[used])
    shape = (len(labels), len(index))
    member = csr_array((np.ones(len(used)), (used, place)), shape=shape)
    means = np.full((raw.sizes["time"], len(index)), np.nan)
    for here, values in blocks(raw):
        finite = np.isfinite(values)
        total = np.where(finite, values, 0.0) @ member
        count = finite @ member
        np.divide(total, count, out=means[here], where=count > 0)
    return means


def parcellate(
    raw: xr.Dataset,
    blocks: Blocks,
    *,
    atlas: str,
    names: str | None = None,
    min_coverage: float = 0.5,
) -> xr.Dataset:
    """Average the voxels of each region of an atlas.

    Parameters
    ----------
    raw : xarray.Dataset
        ``bold (time, voxel)`` with attributes ``affine`` and ``volume_shape``, ``i, j, k``.
    blocks : callable
        ``blocks(raw)`` yields times and values ``(n, voxel)``.
    atlas, names : str
        Of `load_atlas_image`. The image is brought to the grid of the data by nearest neighbour.
    min_coverage : float
        A parcel of which a smaller share of the volume lies in the data's mask is NaN, not ok.

    Returns
    -------
    xarray.Dataset
        ``activity (time, parcel)``, ``valid``, ``parcel_ok``; along ``parcel`` its name,
        ``parcel_index``, ``hemisphere``, ``network``, ``region``, ``x, y, z`` in mm,
        ``n_voxels`` and ``coverage``. What belongs to voxels is gone.

    Raises
    ------
    DataError
        If the rows are no voxels, or no parcel lies in the data.
    """
    known = load_atlas_image(atlas, names)
    labels = voxel_labels(raw, known)
    name = str(raw.attrs.get("recording", "recording"))
    columns = _columns(raw, known, labels)
    covered = columns["coverage"][1] >= min_coverage
    if not covered.any():
        best = float(columns["coverage"][1].max())
        raise DataError(
            f"{name}: no parcel of {atlas} has {min_coverage:.0%} of its volume in the data (at "
            f"most {best:.0%}); check that both are in one space, or lower "
            "`preprocess.fmri.parcellation.min_coverage`"
        )
    values = np.where(covered, _means(raw, blocks, labels, known.index), np.nan)
    ds = raw.drop_vars([n for n, v in raw.variables.items() if "voxel" in v.dims])
    dims = ("time", "parcel")
    ds = ds.assign_coords({key: ("parcel", *column[1:]) for key, column in columns.items()})
    ds = ds.assign(
        activity=(dims, values, {"units": str(raw["bold"].attrs.get("units", "a.u."))}),
        valid=(dims, np.isfinite(values)),
        parcel_ok=("parcel", covered),
    ).assign_attrs(source_series="bold")
    if not covered.all():
        text = f"less than {min_coverage:.0%} of their volume lies in the data, so they are NaN"
        left = np.array(known.columns["parcel"])[~covered]
        ds = add_issue(ds, "LOW_COVERAGE", text, "lower `min_coverage` to use them", rows=left)
    given = {"atlas": atlas, "names": names, "min_coverage": min_coverage, "sha256": known.sha256}
    return record(ds, "parcellation", given, ("nilearn", "nibabel"))


def _columns(raw: xr.Dataset, atlas: Atlas, labels: np.ndarray) -> dict[str, tuple[Any, ...]]:
    """Return what is known of each parcel, as values with their attributes."""
    affine = np.asarray(raw["bold"].attrs["affine"], dtype=np.float64)
    counts = np.array([(labels == n).sum() for n in atlas.index], dtype=np.int64)
    whole = np.array([(atlas.labels == n).sum() for n in atlas.index], dtype=np.float64)
    ratio = abs(np.linalg.det(atlas.affine[:3, :3]) / np.linalg.det(affine[:3, :3]))
    centres = np.array([np.argwhere(atlas.labels == n).mean(axis=0) for n in atlas.index])
    places = centres @ atlas.affine[:3, :3].T + atlas.affine[:3, 3]
    texts = {key: np.array(column, dtype=object) for key, column in atlas.columns.items()}
    texts["region"] = texts["parcel"]
    return {
        **{key: ("parcel", column) for key, column in texts.items()},
        "parcel_index": ("parcel", atlas.index.astype(np.int32)),
        "n_voxels": ("parcel", counts.astype(np.int32)),
        "coverage": ("parcel", np.minimum(1.0, counts / (whole * ratio))),
        **{
            axis: ("parcel", places[:, k], {"units": "mm", "space": str(_space(raw))})
            for k, axis in enumerate("xyz")
        },
    }


def _space(raw: xr.Dataset) -> str:
    return str(raw["bold"].attrs.get("space", ""))
