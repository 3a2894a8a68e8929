"""Small files of temporaldata 0.1.6, written array by array: spikes, calcium and EEG in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["write_temporaldata"]

DURATION_S = 20.0
METADATA = {
    "brainset": {"id": "perich", "origin_version": "0.2"},
    "subject": {"id": "monkeyM", "species": "Macaca mulatta", "sex": "M"},
    "session": {"id": "m_1", "recording_date": "2013-08-15 00:00:00"},
}


def _group(parent: Any, name: str, kind: str, **arrays: Any) -> Any:
    """Write a group of one class; text as fixed-width ASCII."""
    group = parent.create_group(name)
    group.attrs["object"] = kind
    texts = []
    for key, values in arrays.items():
        values = np.asarray(values)
        if values.dtype.kind == "U":
            texts.append(key)
            values = values.astype("S")
        group.create_dataset(key, data=values)
    group.attrs["_unicode_keys"] = np.array(texts, dtype="S")
    return group


def _regular(parent: Any, name: str, rate: float, **arrays: Any) -> None:
    group = _group(parent, name, "RegularTimeSeries", **arrays)
    group.attrs["sampling_rate"] = rate
    _group(group, "domain", "Interval", start=[0.0], end=[DURATION_S])


def _irregular(parent: Any, name: str, times: np.ndarray, **arrays: Any) -> None:
    group = _group(parent, name, "IrregularTimeSeries", timestamps=times, **arrays)
    _group(group, "domain", "Interval", start=[0.0], end=[DURATION_S])


def write_temporaldata(
    path: Path | str,
    *,
    kinds: tuple[str, ...] = ("spikes", "eeg", "calcium"),
    n_units: int = 3,
    seed: int = 0,
) -> None:
    """Write 20 s of a recording as brainsets do: spikes and units, EEG, calcium, cursor, trials.

    Parameters
    ----------
    path : Path or str
        The file.
    kinds : tuple of str
        What is in it.
    n_units : int
        Number of units.
    seed : int
        Seed of everything.
    """
    import h5py

    rng = np.random.default_rng(seed)
    with h5py.File(path, "w") as file:
        file.attrs["object"], file.attrs["absolute_start"] = "Data", 0.0
        for name, attrs in METADATA.items():
            group = file.create_group(name)
            group.attrs.update({**attrs, "object": "Data", "absolute_start": 0.0})
        if "spikes" in kinds:
            times = np.sort(rng.uniform(0, DURATION_S, 400))
            _irregular(file, "spikes", times, unit_index=rng.integers(0, n_units, 400))
            areas = [("M1", "PMd")[unit % 2] for unit in range(n_units)]
            names = [f"u{unit}" for unit in range(n_units)]
            _group(file, "units", "ArrayDict", id=names, brain_region=areas)
        if "eeg" in kinds:
            _regular(file, "eeg", 100.0, signal=rng.normal(0, 1e-5, (2000, 2)))
            _group(file, "channels", "ArrayDict", id=["Cz", "Pz"], type=["eeg", "eeg"])
        if "calcium" in kinds:
            _regular(file, "calcium_traces", 10.0, df_over_f=rng.normal(size=(200, 4)))
        _irregular(file, "cursor", np.arange(400) / 20.0, pos=rng.normal(size=(400, 2)))
        trials = {"start": [1.0, 6.0], "end": [4.0, 9.0], "target": ["left", "right"]}
        _group(file, "trials", "Interval", **trials)
        _group(file, "movement_phases", "Interval", start=[2.0], end=[3.0])
        _group(file, "train_domain", "Interval", start=[0.0], end=[10.0])
