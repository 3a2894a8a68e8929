"""Formats of fMRI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from damage import Damage, text_of
from formats import Format, Source

from neuropipe.simulate.fmri_files import (
    SimulatedFmri,
    simulate_fmri,
    write_bids_fmri,
    write_dense_cifti,
    write_functional_gifti,
    write_parcel_cifti,
    write_parcel_table,
)

__all__ = ["FORMATS"]

TR_S = 2.0


def _run(variant: int) -> SimulatedFmri:
    shape = ((7, 6, 4), (6, 5, 5))[variant]
    return simulate_fmri(3, (40, 36)[variant], shape=shape, tr_s=TR_S, seed=variant)


STEM = "sub-01/func/sub-01_task-objects"
MASK, EVENTS = f"{STEM}_desc-brain_mask.nii.gz", f"{STEM}_events.tsv"
CONFOUNDS = f"{STEM}_desc-confounds_timeseries.tsv"


def _write_nifti(folder: Path, variant: int, extension: str) -> Source:
    write_bids_fmri(_run(variant), folder, extension=extension)
    return Source(f"{STEM}_bold{extension}")


def _write_plain(folder: Path, variant: int) -> Source:
    return _write_nifti(folder, variant, ".nii")


def _write_packed(folder: Path, variant: int) -> Source:
    return _write_nifti(folder, variant, ".nii.gz")


def _read_nifti(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import nibabel as nib
    import pandas as pd

    image = nib.load(folder / source.path)
    values = np.asarray(image.dataobj)
    found: dict[str, np.ndarray] = {}
    if (folder / MASK).is_file():
        mask = np.asarray(nib.load(folder / MASK).dataobj) > 0
        found["raw/bold"] = values[mask].T.astype(np.float32)
        for axis, index in zip("ijk", np.nonzero(mask), strict=True):
            found[f"raw/{axis}"] = index
    stated = json.loads((folder / f"{STEM}_bold.json").read_text())
    found["raw/time"] = np.arange(values.shape[-1]) * float(stated["RepetitionTime"])
    events = pd.read_csv(folder / EVENTS, sep="\t", index_col=False, float_precision="round_trip")
    found["events/onset"] = events["onset"].to_numpy(dtype=np.float64)
    table = pd.read_csv(folder / CONFOUNDS, sep="\t", index_col=False, na_values=["n/a"],
                        float_precision="round_trip")  # fmt: skip
    found["raw/confounds"] = table.to_numpy(dtype=np.float64)
    return found


def _tr(value: str) -> Any:
    return text_of(lambda text, rng: text.replace('"RepetitionTime": 2.0', value))


def _write_cifti(folder: Path, variant: int) -> Source:
    write_dense_cifti(_run(variant), folder / "a.dtseries.nii")
    return Source("a.dtseries.nii")


def _write_parcels(folder: Path, variant: int) -> Source:
    write_parcel_cifti(_run(variant), folder / "a.ptseries.nii")
    return Source("a.ptseries.nii")


def _read_parcels(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import nibabel as nib

    axis = nib.load(folder / source.path).header.get_axis(1)
    return _read_image(folder, source) | {"raw/parcel": np.array(list(axis.name), dtype=object)}


def _read_image(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import nibabel as nib

    image = nib.load(folder / source.path)
    if source.path.endswith(".gii"):
        values = np.stack([array.data for array in image.darrays])
    else:
        values = np.asarray(image.dataobj)
    return {"raw/bold": values, "raw/time": np.arange(len(values)) * TR_S}


def _write_gifti(folder: Path, variant: int) -> Source:
    write_functional_gifti(_run(variant), folder / "a.func.gii")
    return Source("a.func.gii")


def _write_table(folder: Path, variant: int) -> Source:
    write_parcel_table(_run(variant), folder / "a.csv")
    return Source("a.csv", {}, {"tr_s": TR_S})


def _read_table(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import pandas as pd

    frame = pd.read_csv(folder / "a.csv", index_col=False, float_precision="round_trip")
    names = pd.read_csv(folder / "a.csv", header=None, nrows=1, dtype=str, keep_default_na=False)
    return {
        "raw/bold": frame.to_numpy(dtype=np.float64),
        "raw/parcel": np.array(names.iloc[0].tolist(), dtype=object),
        "raw/time": np.arange(len(frame)) * TR_S,
    }


SIDE = {MASK: "binary", EVENTS: "table", CONFOUNDS: "table", f"{STEM}_bold.json": "text",
        "dataset_description.json": "text"}  # fmt: skip
HOLDS = {
    MASK: frozenset({"raw/bold", "raw/i", "raw/j", "raw/k"}),
    EVENTS: frozenset({"events/onset"}),
    CONFOUNDS: frozenset({"raw/confounds"}),
    f"{STEM}_bold.json": frozenset({"raw/time"}),
}

FORMATS = (
    Format(
        "BIDS fMRI, .nii.gz", "fmri", "nifti", _write_packed, _read_nifti,
        {f"{STEM}_bold.nii.gz": "binary", **SIDE},
        optional=frozenset(SIDE),
        holds=HOLDS,
        own=(
            (f"{STEM}_bold.json", Damage("TR in ms", _tr('"RepetitionTime": 2000.0'), "refused")),
            (f"{STEM}_bold.json", Damage("another TR", _tr('"RepetitionTime": 2.5'), "refused")),
        ),
        share=0.4,
    ),
    Format("BIDS fMRI, .nii", "fmri", "nifti", _write_plain, _read_nifti,
           {f"{STEM}_bold.nii": "binary"}),
    Format("CIFTI dtseries", "fmri", "cifti", _write_cifti, _read_image,
           {"a.dtseries.nii": "binary"}),
    Format("CIFTI ptseries", "fmri", "cifti", _write_parcels, _read_parcels,
           {"a.ptseries.nii": "binary"}),
    Format("GIFTI", "fmri", "gifti", _write_gifti, _read_image, {"a.func.gii": "binary"},
           share=0.6),
    Format("parcel table", "fmri", "roi_table", _write_table, _read_table, {"a.csv": "table"},
           share=0.6),
)  # fmt: skip
