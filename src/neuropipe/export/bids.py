"""Recordings as BIDS: channels through mne-bids, fMRI and behaviour as the standard's files."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError, DataError, MissingDependency
from neuropipe.export.recording import (
    behavior_streams,
    main_group,
    name_of,
    new_file,
    table_of,
)
from neuropipe.store.atomic import atomic_path, write_text
from neuropipe.store.schema import modality_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["write"]

logger = logging.getLogger(__name__)

BIDS_VERSION = "1.10.0"
FORMATS = {"eeg": "BrainVision", "ieeg": "BrainVision", "meg": "FIF"}
PREFIX = {"eeg": "EEG", "ieeg": "iEEG"}
# The standard demands a task; nothing is made up where none is known.
NO_TASK = "unknown"


def write(tree: xr.DataTree, output: Path) -> list[Path]:
    """Add a recording to a BIDS data set; other recordings of the folder stay as they are.

    Samples of EEG and iEEG are BrainVision (float32), of MEG FIF, of fMRI NIfTI; the mask of fMRI
    and its confounds, which were computed, go to ``derivatives/neuropipe``.
    BIDS has no data type for spikes and calcium: of those, events, trials and behaviour are
    written. Trials are ``_beh.tsv``, behaviour at one rate ``_physio.tsv.gz``; behaviour sampled
    irregularly has no form in BIDS and is left out, with a warning.

    Returns
    -------
    list of Path
        Files written for this recording.

    Raises
    ------
    DataError
        If nothing of the recording has a form in BIDS.
    MissingDependency
        If pybv is absent, which writes BrainVision.
    """
    modality = modality_of(tree.attrs)
    _describe_dataset(tree, output)
    written = WRITERS.get(modality, _no_samples)(tree, output)
    written += _behavior(tree, output)
    if not written:
        text = f"BIDS has no data type for {modality}, and there are no events or behaviour"
        raise DataError(f"{name_of(tree)}: {text}; export to temporaldata or csv instead")
    _add_participant(tree, output / "participants.tsv")
    return written


def _stem(tree: xr.DataTree, *, task: bool = True) -> str:
    attrs = tree.attrs
    parts = [("sub", attrs["subject_id"]), ("ses", attrs.get("session_id", ""))]
    parts += [("task", attrs.get("task", "") or NO_TASK)] if task else []
    parts += [("acq", attrs.get("acq", ""))]
    parts += [("run", attrs.get("run", ""))] if task else []
    return "_".join(f"{key}-{value}" for key, value in parts if value)


def _folder(tree: xr.DataTree, output: Path, kind: str) -> Path:
    session = tree.attrs.get("session_id", "")
    folder = output / f"sub-{tree.attrs['subject_id']}"
    folder = folder / f"ses-{session}" / kind if session else folder / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _derivative_folder(tree: xr.DataTree, output: Path, kind: str) -> Path:
    """Return a folder for what was computed, which raw data of BIDS have no place for."""
    root = output / "derivatives" / "neuropipe"
    folder = _folder(tree, root, kind)
    about = {"Name": "neuropipe", "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative",
             "GeneratedBy": [{"Name": "neuropipe"}]}  # fmt: skip
    if not (root / "dataset_description.json").exists():
        _json(root / "dataset_description.json", about)
    return folder


def _json(path: Path, content: Mapping[str, Any]) -> Path:
    write_text(new_file(path), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def _tsv(frame: pd.DataFrame, path: Path) -> Path:
    with atomic_path(new_file(path)) as partial:
        frame.to_csv(partial, sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return path


def _describe_dataset(tree: xr.DataTree, output: Path) -> None:
    path = output / "dataset_description.json"
    if not path.exists():
        name = tree.attrs.get("dataset") or "exported recordings"
        about = {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": "raw",
                 "GeneratedBy": [{"Name": "neuropipe"}]}  # fmt: skip
        _json(path, about)


def _add_participant(tree: xr.DataTree, path: Path) -> None:
    """Add the subject to the participants, unless it is there."""
    import pandas as pd

    subject = f"sub-{tree.attrs['subject_id']}"
    row = {"participant_id": subject}
    row |= {key: tree.attrs.get(key, "") or "n/a" for key in ("species", "sex")}
    known = pd.DataFrame(columns=["participant_id"])
    if path.exists():
        known = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    if subject in set(known["participant_id"]):
        return
    whole = pd.concat([known, pd.DataFrame([row])], ignore_index=True).fillna("n/a")
    with atomic_path(path) as partial:
        whole.to_csv(partial, sep="\t", index=False, lineterminator="\n")


def _no_samples(tree: xr.DataTree, output: Path) -> list[Path]:
    text = "BIDS has no data type for %s: samples of %s are not written, the tables are"
    logger.warning(text, modality_of(tree.attrs), name_of(tree))
    folder, events = _folder(tree, output, "beh"), table_of(tree, "events")
    if events is None:
        return []
    return [_tsv(_events_frame(events), folder / f"{_stem(tree)}_events.tsv")]


def _events_frame(events: xr.Dataset, first: float = 0.0) -> pd.DataFrame:
    """Return events as BIDS names them, onsets from the first sample."""
    import pandas as pd

    columns: dict[str, Any] = {"onset": np.asarray(events["onset"].values, np.float64) - first}
    columns["duration"] = events["duration"].values
    columns["trial_type"] = [str(label) or None for label in events["label"].values]
    if "code" in events and (events["code"].values >= 0).any():
        columns["value"] = events["code"].values
    free = [str(n) for n in events.variables if str(n).startswith("x_")]
    columns |= {name.removeprefix("x_"): events[name].values for name in free}
    return pd.DataFrame(columns)


def _channels(tree: xr.DataTree, output: Path) -> list[Path]:
    """Write channels through mne-bids; then what it cannot be told."""
    from neuropipe.export.mne_raw import to_mne

    modality = modality_of(tree.attrs)
    if FORMATS[modality] == "BrainVision":
        _need_pybv()
    raw = to_mne(tree)
    folder, stem = _folder(tree, output, modality), _stem(tree)
    if any(folder.glob(f"{stem}_{modality}.*")):
        raise ConfigError(f"{folder / stem}_{modality}: exists already; choose another --output")
    with tempfile.TemporaryDirectory(dir=output, prefix=".partial-") as staging:
        _through_mne_bids(raw, tree, Path(staging))
        written = _moved(Path(staging), output)
    ds = main_group(tree)
    _restate_cutoffs(ds, folder / f"{stem}_channels.tsv")
    ours = [] if modality == "meg" else _electrodes(tree, ds, folder)
    if ours:  # mne-bids wrote some without positions
        empty = [p for p in written if p.stem.endswith(("_electrodes", "_coordsystem"))]
        for path in empty:
            path.unlink()
        written = [path for path in written if path not in empty]
    return [*written, *ours]


def _through_mne_bids(raw: Any, tree: xr.DataTree, root: Path) -> None:
    import mne_bids

    attrs, modality = tree.attrs, modality_of(tree.attrs)
    place = mne_bids.BIDSPath(
        root=root, subject=attrs["subject_id"], datatype=modality, suffix=modality,
        session=attrs.get("session_id") or None, task=attrs.get("task") or NO_TASK,
        acquisition=attrs.get("acq") or None, run=attrs.get("run") or None, check=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne_bids.write_raw_bids(
            raw, place, format=FORMATS[modality], allow_preload=True, readme=False,
            verbose="error",
        )  # fmt: skip


def _moved(staging: Path, output: Path) -> list[Path]:
    """Move the files of a subject into the data set; rows of ``scans.tsv`` are added."""
    written = []
    for source in sorted(path for path in staging.glob("sub-*/**/*") if path.is_file()):
        target = output / source.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.name.endswith("_scans.tsv") and target.exists():
            rows = source.read_text(encoding="utf-8-sig").splitlines()[1:]
            known = target.read_text(encoding="utf-8-sig").rstrip("\n")
            write_text(target, "\n".join([known, *rows]) + "\n")
        elif not (target.name.endswith("_scans.json") and target.exists()):
            source.rename(new_file(target))
            written.append(target)
    return written


def _need_pybv() -> None:
    try:
        import pybv  # noqa: F401 - whether it is there
    except ImportError as error:
        text = "pybv, which writes BrainVision, is not installed; `pip install neuropipe[export]`"
        raise MissingDependency(text) from error


def _restate_cutoffs(ds: xr.Dataset, path: Path) -> None:
    """Write the filters that the store states: mne fills in 0 and the Nyquist frequency."""
    import pandas as pd

    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    for name in ("low_cutoff", "high_cutoff"):
        values = ds[name].values if name in ds else np.full(len(table), np.nan)
        table[name] = [f"{value:g}" if np.isfinite(value) else "n/a" for value in values]
    with atomic_path(path) as partial:
        table.to_csv(partial, sep="\t", index=False, lineterminator="\n")


def _electrodes(tree: xr.DataTree, ds: xr.Dataset, folder: Path) -> list[Path]:
    """Write positions in metres where there are any."""
    import pandas as pd

    if "x" not in ds or not np.isfinite(ds["x"].values).any():
        return []
    space = str(ds.attrs.get("space", "") or ds.attrs.get("coord_frame", ""))
    label = space if space.isalnum() else "Other"
    columns: dict[str, Any] = {"name": [str(n) for n in ds["channel"].values]}
    columns |= {axis: ds[axis].values for axis in "xyz"}
    columns["size"] = ds["size"].values if "size" in ds else np.nan
    if "anat_label" in ds:
        columns["anat_label"] = [str(text) or None for text in ds["anat_label"].values]
    stem = f"{_stem(tree, task=False)}_space-{label}"
    prefix = PREFIX[modality_of(tree.attrs)]
    system = {f"{prefix}CoordinateSystem": label, f"{prefix}CoordinateUnits": "m"}
    if label == "Other":
        system[f"{prefix}CoordinateSystemDescription"] = space or "not stated by the source"
    written = [
        _tsv(pd.DataFrame(columns), folder / f"{stem}_electrodes.tsv"),
        _json(folder / f"{stem}_coordsystem.json", system),
    ]
    if "anat_label" in columns:
        about = {"anat_label": {"Description": "Anatomical label of the contact"}}
        written.append(_json(folder / f"{stem}_electrodes.json", about))
    return written


def _fmri(tree: xr.DataTree, output: Path) -> list[Path]:
    """Write image, mask, events and confounds."""
    import pandas as pd

    from neuropipe.export.images import repetition_time, to_images

    folder, stem = _folder(tree, output, "func"), _stem(tree)
    bold, mask = to_images(tree)
    ds = main_group(tree)
    about = {"RepetitionTime": repetition_time(tree), "TaskName": tree.attrs.get("task") or NO_TASK}
    written = [_json(folder / f"{stem}_bold.json", about)]
    computed = _derivative_folder(tree, output, "func")
    images = {folder / f"{stem}_bold.nii.gz": bold,
              computed / f"{stem}_desc-brain_mask.nii.gz": mask}  # fmt: skip
    for path, image in images.items():
        with atomic_path(new_file(path)) as partial:
            # nibabel tells the format by the extension.
            whole = partial.with_name(f"{partial.name}.nii.gz")
            image.to_filename(whole)
            whole.rename(partial)
        written.append(path)
    events = table_of(tree, "events")
    if events is not None:
        first = float(ds["time"].variable[0].values)
        written.append(_tsv(_events_frame(events, first), folder / f"{stem}_events.tsv"))
    if "confound" in ds and ds["confound"].ndim == 1:
        names_of = [str(name) for name in ds["confound"].values]
        table = next((v for v in ds.data_vars.values() if v.dims == ("time", "confound")), None)
        if table is not None:
            frame = pd.DataFrame(table.values, columns=names_of)
            written.append(_tsv(frame, computed / f"{stem}_desc-confounds_timeseries.tsv"))
    return written


def _behavior(tree: xr.DataTree, output: Path) -> list[Path]:
    from neuropipe.export.tables import behavior_frame

    trials, written = table_of(tree, "trials"), []
    if trials is not None and trials.sizes.get("trial", 0):
        frame = trials.to_dataframe().reset_index(drop=True)
        stem = _folder(tree, output, "beh") / f"{_stem(tree)}_beh"
        about: dict[str, Any] = {"TaskName": tree.attrs.get("task") or NO_TASK}
        about |= {str(name): {"Description": "Column of the trials"} for name in frame.columns}
        for name, word in {"start": "Start", "stop": "End"}.items():
            about[name] = {"Description": f"{word} of the trial", "Units": "s"}
        written += [_tsv(frame, stem.with_name(f"{stem.name}.tsv")),
                    _json(stem.with_name(f"{stem.name}.json"), about)]  # fmt: skip
    for stream, variables in behavior_streams(tree).items():
        written += _physio(tree, output, stream, behavior_frame(variables, stream))
    return written


def _physio(tree: xr.DataTree, output: Path, stream: str, frame: pd.DataFrame) -> list[Path]:
    """Write a stream at one rate; its columns are named in the JSON, as BIDS wants it."""
    from neuropipe.store.clock import describe_clock

    time = frame.pop("time").to_numpy()
    clock = describe_clock(time) if len(time) > 1 else None
    label = "".join(character for character in stream if character.isalnum())
    if clock is None or clock.sampling != "regular" or not label or not len(frame.columns):
        text = "%s: behaviour %s is sampled irregularly, which BIDS has no form for; left out"
        logger.warning(text, name_of(tree), stream)
        return []
    stem = f"{_stem(tree)}_recording-{label}_physio"
    folder = _folder(tree, output, "beh")
    about = {"SamplingFrequency": clock.rate, "StartTime": float(time[0]),
             "Columns": [str(name) for name in frame.columns]}  # fmt: skip
    path = new_file(folder / f"{stem}.tsv.gz")
    with atomic_path(path) as partial:
        frame.to_csv(
            partial, sep="\t", index=False, header=False, na_rep="n/a", lineterminator="\n",
            compression={"method": "gzip", "mtime": 0},
        )  # fmt: skip
    return [path, _json(folder / f"{stem}.json", about)]


WRITERS: dict[str, Callable[[xr.DataTree, Path], list[Path]]] = {
    "eeg": _channels,
    "meg": _channels,
    "ieeg": _channels,
    "fmri": _fmri,
}
