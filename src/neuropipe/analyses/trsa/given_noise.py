"""The noise covariance that a file or the input brings, channels joined by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.spec import NOISE_KINDS, ModelSettings
from neuropipe.errors import DataError, MissingInput

__all__ = ["given_covariance"]

Floats = NDArray[np.float64]
VARIABLES = {"precision": "noise_precision", "covariance": "noise_covariance"}
LEAST_CONDITION = 1e-12


def _square(data: xr.Dataset, kind: str, subject: str, region: str, where: str) -> Floats:
    """Return the matrix of one subject and region; dims that it lacks are taken as shared."""
    name = VARIABLES[kind]
    if name not in data:
        raise DataError(f"{where}: variable {name} is missing; found {tuple(data.data_vars)}")
    values = data[name]
    for dim, label in (("subject", subject), ("region", region)):
        if dim in values.dims:
            rows = data[dim].values.astype(str).tolist()
            if label not in rows:
                raise DataError(f"{where}: {name} lacks {dim} {label}; it has {', '.join(rows)}")
            values = values.isel({dim: rows.index(label)})
    if set(values.dims) != {"channel", "channel_2"}:
        raise DataError(f"{where}: {name} has dims {values.dims}; need channel and channel_2")
    return values.transpose("channel", "channel_2").values.astype(np.float64)


def _covariance(square: Floats, kind: str, where: str) -> Floats:
    """Return a covariance; a precision is inverted.

    Raises
    ------
    DataError
        If the matrix is not symmetric, not finite, or has no inverse.
    """
    if not np.isfinite(square).all() or not np.allclose(square, square.T, rtol=1e-6):
        raise DataError(f"{where}: the {kind} is not symmetric, or not finite")
    if kind == "covariance":
        return square
    values = np.linalg.eigvalsh(square)
    if not values.min() > LEAST_CONDITION * values.max():
        raise DataError(f"{where}: the precision is not positive definite")
    return np.asarray(np.linalg.inv(square))


def _names(data: xr.Dataset, subject: str, region: str) -> list[str]:
    """Return the names of all channels of a subject and region."""
    if "channel_name" not in data:
        return [str(name) for name in data["channel"].values]
    values = data["channel_name"]
    for dim, label in (("subject", subject), ("region", region)):
        if dim in values.dims:
            values = values.isel({dim: data[dim].values.astype(str).tolist().index(label)})
    return [str(name) for name in values.values]


def _joined(square: Floats, labels: Sequence[str], wanted: Sequence[str], where: str) -> Floats:
    place = {label: k for k, label in enumerate(labels)}
    if len(place) < len(labels):
        raise DataError(f"{where}: names of channels repeat")
    missing = [name for name in wanted if name not in place]
    if missing:
        raise DataError(
            f"{where}: channels {', '.join(missing[:5])} are missing ({len(missing)} of "
            f"{len(wanted)}); it has {', '.join(list(place)[:5])}"
        )
    order = [place[name] for name in wanted]
    return square[np.ix_(order, order)]


def _of_file(one: ModelSettings, subject: str, region: str) -> tuple[Floats, list[str]]:
    import pandas as pd

    path, where = Path(one.path), f"{one.path}: {one.name}"
    if not path.exists():
        raise MissingInput(f"{where}: the file does not exist")
    if path.suffix == ".nc":
        data = xr.load_dataset(path, engine="h5netcdf")
        square = _square(data, one.kind, subject, region, where)
        return square, data["channel"].values.astype(str).tolist()
    if path.suffix != ".csv":
        raise DataError(f"{where}: expected .csv or .nc")
    frame = pd.read_csv(path, index_col=0)
    labels = [str(label) for label in frame.index]
    if labels != [str(label) for label in frame.columns]:
        raise DataError(f"{where}: first row and first column must be the same names of channels")
    return frame.to_numpy(dtype=np.float64), labels


def given_covariance(
    data: xr.Dataset,
    models: Sequence[ModelSettings],
    subject: str,
    region: str,
    channels: NDArray[np.intp],
) -> Floats | None:
    """Return the noise covariance of channels that a file or the input brings, if one does.

    A precision is inverted before channels are picked: the part of a precision is the precision
    given the channels left out, not that of the part.

    Parameters
    ----------
    data : xarray.Dataset
        Ordered input; ``noise_precision`` or ``noise_covariance`` ``([subject, region,] channel,
        channel_2)`` in the order of its channels.
    models : sequence of ModelSettings
        At most one is of kind ``precision`` or ``covariance``; it wins over the input.
    subject, region : str
    channels : ndarray of int
        Positions of the channels in use.

    Returns
    -------
    ndarray, shape (n_channels, n_channels), or None

    Raises
    ------
    MissingInput
        If the file does not exist.
    DataError
        If it lacks a channel, is not symmetric or has no inverse.
    """
    for one in models:
        if one.kind in NOISE_KINDS:
            square, labels = _of_file(one, subject, region)
            where = f"{one.path}: {one.name}: {subject} {region}"
            names = _names(data, subject, region)
            covariance = _covariance(square, one.kind, where)
            return _joined(covariance, labels, [names[k] for k in channels], where)
    for kind, name in VARIABLES.items():
        if name in data:
            where = f"input: {subject} {region}"
            covariance = _covariance(_square(data, kind, subject, region, where), kind, where)
            return covariance[np.ix_(channels, channels)]
    return None
