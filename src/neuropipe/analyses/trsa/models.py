"""The models of an analysis: those of the input and those of files, joined by label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.models import Model
from neuropipe.analyses.trsa.kernels.pairs import to_pairs
from neuropipe.analyses.trsa.kernels.rdm import rdm
from neuropipe.analyses.trsa.spec import NOISE_KINDS, ModelSettings
from neuropipe.analyses.trsa.spec_limits import LEAST_FLEXIBLE
from neuropipe.errors import DataError, MissingInput

__all__ = ["named_models"]

Floats = NDArray[np.float64]


def _square(values: Floats, labels: list[str], wanted: Sequence[str], name: str) -> Floats:
    """Return pairs of the wanted conditions, in their order."""
    missing = [label for label in wanted if label not in labels]
    if missing:
        raise DataError(
            f"model {name}: conditions {', '.join(missing[:5])} are missing; it has "
            f"{', '.join(labels[:10])}"
        )
    order = [labels.index(label) for label in wanted]
    square = values[..., order, :][..., :, order]
    if not np.allclose(square, np.swapaxes(square, -1, -2), equal_nan=True):
        raise DataError(f"model {name}: the matrix is not symmetric")
    return to_pairs(square)


def _of_input(data: xr.Dataset, wanted: Sequence[str]) -> dict[str, Model]:
    found: dict[str, Model] = {}
    if "model_rdms" in data:
        rdms = data["model_rdms"].transpose("model", "condition", "condition_2")
        labels = data["condition"].values.astype(str).tolist()
        for name, square in zip(data["model"].values.astype(str), rdms.values, strict=True):
            found[str(name)] = Model("fixed", _square(square, labels, wanted, str(name))[None])
    if "model_features" in data:
        features = data["model_features"].transpose("condition", ...).sel(condition=list(wanted))
        found["features"] = Model(
            "fixed", rdm(features.values[None].astype(float), "euclidean")[None]
        )
    return found


def _of_csv(path: Path, name: str, wanted: Sequence[str]) -> Floats:
    import pandas as pd

    frame = pd.read_csv(path, index_col=0)
    labels = [str(label) for label in frame.index]
    if labels != [str(label) for label in frame.columns]:
        raise DataError(f"{path}: model {name}: first row and first column must be the same labels")
    return _square(frame.to_numpy(dtype=np.float64), labels, wanted, name)[None]


def _of_netcdf(path: Path, name: str, wanted: Sequence[str]) -> Floats:
    data = xr.load_dataset(path, engine="h5netcdf")
    if "model_rdms" not in data:
        raise DataError(f"{path}: model {name}: variable model_rdms is missing")
    rdms = data["model_rdms"]
    rdms = rdms if "model" in rdms.dims else rdms.expand_dims("model")
    labels = data["condition"].values.astype(str).tolist()
    values = rdms.transpose("model", "condition", "condition_2").values
    return _square(values.astype(np.float64), labels, wanted, name)


READERS = {".csv": _of_csv, ".nc": _of_netcdf}


def named_models(
    data: xr.Dataset, settings: Sequence[ModelSettings], conditions: Sequence[str]
) -> dict[str, Model]:
    """Return all models over the pairs of the conditions, by name.

    Raises
    ------
    MissingInput
        If a file does not exist.
    DataError
        If it lacks a condition, is not symmetric, or is no CSV or netCDF file.
    """
    found = _of_input(data, conditions)
    for one in settings:
        if one.kind in NOISE_KINDS:
            continue
        path = Path(one.path)
        if not path.exists():
            raise MissingInput(f"{path}: file of model {one.name} does not exist")
        if path.suffix not in READERS:
            raise DataError(f"{path}: model {one.name}: expected .csv or .nc")
        if one.kind != "fixed" and len(conditions) < LEAST_FLEXIBLE:
            raise DataError(
                f"model {one.name}: {one.kind} models are fitted to some conditions and scored on "
                f"others; need {LEAST_FLEXIBLE} conditions or more, found {len(conditions)}"
            )
        found[one.name] = Model(one.kind, READERS[path.suffix](path, one.name, conditions))
    return found
