"""Recordings as event tables of NeuralSet: one row for the data, one for each event."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.export.recording import (
    main_group,
    name_of,
    new_file,
    observed_of,
    series_names,
    table_of,
)
from neuropipe.store.atomic import atomic_path
from neuropipe.store.schema import modality_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["write"]

ENTITIES = {"session_id": "session", "task": "task", "acq": "acq", "run": "run"}


def write(tree: xr.DataTree, output: Path) -> list[Path]:
    """Write ``<recording>_events.csv`` and the data that it names.

    Channels go to FIF, fMRI volumes to NIfTI, spikes to NWB (the type `Spikes` needs a NeuralSet
    that has it; 0.0.2 does not). Events become rows of type `Stimulus` with ``code`` and
    ``description`` (``event 1`` for a label ``1``); an unknown duration is 0. Times are seconds
    on the clock of the recording.

    Returns
    -------
    list of Path
        Data and table.

    Raises
    ------
    DataError
        For calcium: NeuralSet has no type for it.
    """
    import pandas as pd

    modality = modality_of(tree.attrs)
    if modality not in WRITERS:
        text = f"NeuralSet has no event type for {modality}"
        raise DataError(f"{name_of(tree)}: {text}; export to temporaldata or csv instead")
    table = new_file(output / f"{name_of(tree)}_events.csv")
    row, files = WRITERS[modality](tree, output)
    common = {"timeline": name_of(tree), "subject": f"sub-{tree.attrs['subject_id']}"}
    common |= {k: str(tree.attrs[key]) for key, k in ENTITIES.items() if tree.attrs.get(key)}
    rows = [{**row, **common, "filepath": str(files[0].resolve())}]
    rows += [{**event, **common} for event in _events(tree)]
    frame = pd.DataFrame(rows)
    first = ["type", "start", "duration", "timeline", "subject"]
    frame = frame[[*first, *(c for c in frame.columns if c not in first)]]
    with atomic_path(table) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")
    return [*files, table]


def _events(tree: xr.DataTree) -> list[dict[str, Any]]:
    events = table_of(tree, "events")
    if events is None:
        return []
    duration = np.nan_to_num(np.asarray(events["duration"].values, np.float64))
    code = events["code"].values if "code" in events else np.full(len(duration), -1)
    columns = (events["onset"].values, duration, code, events["label"].values)
    return [
        {"type": "Stimulus", "start": float(start), "duration": float(length), "code": int(number),
         "description": _word(str(label))}
        for start, length, number, label in zip(*columns, strict=True)
    ]  # fmt: skip


def _word(label: str) -> str:
    """Return a label that a reader of tables does not take for a number."""
    try:
        float(label)
    except ValueError:
        return label
    return f"event {label}"


def _channels(tree: xr.DataTree, output: Path) -> tuple[dict[str, Any], list[Path]]:
    from neuropipe.export.mne_raw import to_mne

    raw = to_mne(tree)
    path = new_file(output / f"{name_of(tree)}_raw.fif")
    stored = main_group(tree)[series_names(tree)[0]].dtype
    fmt = "double" if stored == np.float64 else "single"
    raw.save(path, fmt=fmt, verbose="error")
    kind = modality_of(tree.attrs).capitalize()
    return _row(tree, kind, len(raw.times)), [path]


def _fmri(tree: xr.DataTree, output: Path) -> tuple[dict[str, Any], list[Path]]:
    from neuropipe.export.images import to_images

    bold, mask = to_images(tree)
    stem = name_of(tree).removesuffix("_fmri")
    paths = [new_file(output / f"{stem}_{what}.nii.gz") for what in ("bold", "brain_mask")]
    for image, path in zip((bold, mask), paths, strict=True):
        image.to_filename(path)
    return _row(tree, "Fmri", bold.shape[-1]), paths


def _row(tree: xr.DataTree, kind: str, count: int) -> dict[str, Any]:
    start, rate = float(main_group(tree)["time"].variable[0].values), float(tree.attrs["rate"])
    return {"type": kind, "start": start, "duration": count / rate, "frequency": rate}


def _spikes(tree: xr.DataTree, output: Path) -> tuple[dict[str, Any], list[Path]]:
    from neuropipe.store.nwb import to_nwb

    path = new_file(output / f"{name_of(tree)}.nwb")
    to_nwb(tree, path)
    observed = observed_of(main_group(tree))
    start, stop = float(observed[0, 0]), float(observed[-1, 1])
    return {"type": "Spikes", "start": start, "duration": stop - start}, [path]


WRITERS: dict[str, Callable[[xr.DataTree, Path], tuple[dict[str, Any], list[Path]]]] = {
    "eeg": _channels,
    "meg": _channels,
    "ieeg": _channels,
    "fmri": _fmri,
    "spikes": _spikes,
}
