"""Small BIDS data sets in real formats: intracranial EEG, EEG, and a large one for scans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.simulate.channel_files import SimulatedChannels, write_brainvision

__all__ = [
    "BidsRecording",
    "simulate_eeg",
    "simulate_seeg",
    "write_bids_recording",
    "write_bids_root",
    "write_eeg_dataset",
    "write_scan_dataset",
    "write_seeg_dataset",
]

SHANKS = {"LA": 4, "LB": 3, "R'": 4}
EEG_NAMES = ("Fp1", "Fp2", "Cz", "Pz", "O1", "O2", "EOG")
UNKNOWN = "n/a"


@dataclass(frozen=True)
class BidsRecording:
    """One recording and what its sidecars say.

    Attributes
    ----------
    datatype : str
        ``eeg`` or ``ieeg``.
    names, types : tuple of str
        Channels, and their types in the words of BIDS.
    bad : tuple of str
        Channels of status bad.
    rate_hz : float
        Sampling rate.
    microvolts : numpy.ndarray
        Samples, ``(n_times, n_channels)``.
    events : tuple
        Onset (s from the first sample), duration (s), label and value of each event.
    position_mm : mapping of str to tuple
        Contacts that have a position; not all channels need one.
    anat_label : mapping of str to str
        Region of contacts.
    """

    datatype: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    bad: tuple[str, ...]
    rate_hz: float
    microvolts: np.ndarray
    events: tuple[tuple[float, float, str, int], ...]
    position_mm: Mapping[str, tuple[float, float, float]]
    anat_label: Mapping[str, str]


def _signal(rng: np.random.Generator, n_times: int, n_channels: int, rate_hz: float) -> np.ndarray:
    """Return microvolts: a rhythm that all channels share, and noise of each."""
    time = np.arange(n_times)[:, None] / rate_hz
    rhythm = 30.0 * np.sin(2 * np.pi * 10.0 * time + rng.uniform(0, 2 * np.pi, n_channels))
    return np.asarray(rhythm + 10.0 * rng.normal(size=(n_times, n_channels)))


def simulate_seeg(
    duration_s: float = 4.0, *, rate_hz: float = 512.0, seed: int = 0
) -> BidsRecording:
    """Return three shanks with contacts in white matter, an ECG and events every half second.

    Parameters
    ----------
    duration_s : float
        Duration, seconds.
    rate_hz : float
        Sampling rate.
    seed : int
        Seed.
    """
    rng = np.random.default_rng(seed)
    contacts = [f"{shank}{k + 1}" for shank, n in SHANKS.items() for k in range(n)]
    position = {
        f"{shank}{k + 1}": (30.0 * (-1) ** number + 3.5 * k, -20.0 + 5.0 * number, 10.0)
        for number, (shank, n) in enumerate(SHANKS.items())
        for k in range(n)
    }
    words = ("Left-Hippocampus", "Left-Cerebral-White-Matter", "n/a", "ctx-lh-temporal")
    label = {name: words[k % len(words)] for k, name in enumerate(contacts)}
    n_times = round(duration_s * rate_hz)
    names = (*contacts, "ECG")
    onsets = np.arange(0.5, duration_s - 0.25, 0.5)
    return BidsRecording(
        datatype="ieeg",
        names=names,
        types=(*("SEEG",) * len(contacts), "ECG"),
        bad=("LB2",),
        rate_hz=rate_hz,
        microvolts=_signal(rng, n_times, len(names), rate_hz),
        events=tuple(
            (float(t), 0.1, ("go", "stop")[k % 2], k % 2 + 1) for k, t in enumerate(onsets)
        ),
        # The last contact of the last shank has none, a contact that is no channel has one.
        position_mm={**{n: position[n] for n in contacts[:-1]}, "LZ1": (1.0, 2.0, 3.0)},
        anat_label=label,
    )


def simulate_eeg(
    duration_s: float = 4.0, *, rate_hz: float = 250.0, seed: int = 0
) -> BidsRecording:
    """Return six electrodes and an EOG, with events every second."""
    rng = np.random.default_rng(seed)
    n_times = round(duration_s * rate_hz)
    angle = 2 * np.pi * np.arange(len(EEG_NAMES)) / len(EEG_NAMES)
    position = {
        name: (80.0 * float(np.cos(a)), 80.0 * float(np.sin(a)), 50.0)
        for name, a in zip(EEG_NAMES[:-1], angle, strict=False)
    }
    return BidsRecording(
        datatype="eeg",
        names=EEG_NAMES,
        types=(*("EEG",) * (len(EEG_NAMES) - 1), "VEOG"),
        bad=("O2",),
        rate_hz=rate_hz,
        microvolts=_signal(rng, n_times, len(EEG_NAMES), rate_hz),
        events=tuple((float(t), 0.0, "flash", 1) for t in range(1, int(duration_s))),
        position_mm=position,
        anat_label={},
    )


def write_bids_root(root: Path, participants: Mapping[str, tuple[str, str, str]]) -> None:
    """Write description and participants: subject -> age in years, sex, species."""
    root.mkdir(parents=True, exist_ok=True)
    about = {"Name": "Simulated recordings", "BIDSVersion": "1.10.0", "DatasetDOI": "doi:10/x"}
    _json(root / "dataset_description.json", about)
    rows = [[f"sub-{subject}", *known] for subject, known in participants.items()]
    _table(root / "participants.tsv", ["participant_id", "age", "sex", "species"], rows)


def write_bids_recording(
    root: Path,
    recording: BidsRecording,
    entities: Mapping[str, str],
    *,
    spaces: Sequence[str] = ("ACPC",),
    byte_order_mark: bool = False,
) -> Path:
    """Write a recording as BrainVision with all its sidecars.

    Parameters
    ----------
    root : Path
        Root of the data set.
    recording : BidsRecording
        What to write.
    entities : mapping of str to str
        Entities of the name, ``sub`` first, such as ``{"sub": "01", "task": "rest"}``.
    spaces : sequence of str
        Spaces of electrodes.tsv; none: no such file.
    byte_order_mark : bool
        Begin the tables with one.

    Returns
    -------
    Path
        The ``.vhdr`` file.
    """
    kind = recording.datatype
    folder = root / f"sub-{entities['sub']}"
    folder = folder / f"ses-{entities['ses']}" / kind if "ses" in entities else folder / kind
    stem = "_".join(f"{key}-{value}" for key, value in entities.items())
    place = "_".join(f"{key}-{value}" for key, value in entities.items() if key in ("sub", "ses"))
    folder.mkdir(parents=True, exist_ok=True)
    mark = "\ufeff" if byte_order_mark else ""
    path = folder / f"{stem}_{kind}.vhdr"
    _brainvision(path, recording)
    prefix = "iEEG" if kind == "ieeg" else "EEG"
    about: dict[str, Any] = {"TaskName": entities.get("task", "rest"), "PowerLineFrequency": 50}
    about |= {"SamplingFrequency": recording.rate_hz, f"{prefix}Reference": "mastoid"}
    about |= {"RecordingDuration": len(recording.microvolts) / recording.rate_hz}
    _json(folder / f"{stem}_{kind}.json", about)
    _channels_table(folder / f"{stem}_channels.tsv", recording, mark)
    rows = [[f"{t:g}", f"{d:g}", label, str(value)] for t, d, label, value in recording.events]
    header = ["onset", "duration", "trial_type", "value"]
    _table(folder / f"{stem}_events.tsv", header, rows, mark)
    for number, space in enumerate(spaces):
        _electrodes_table(folder / f"{place}_space-{space}_electrodes.tsv", recording, number, mark)
        system = {f"{prefix}CoordinateSystem": space, f"{prefix}CoordinateUnits": "mm"}
        _json(folder / f"{place}_space-{space}_coordsystem.json", system)
    return path


def _channels_table(path: Path, recording: BidsRecording, mark: str) -> None:
    header = ["name", "type", "units", "low_cutoff", "high_cutoff", "sampling_frequency", "status"]
    rows = [
        [name, kind, "µV", "0.1", "200", f"{recording.rate_hz:g}", _status(name, recording)]
        for name, kind in zip(recording.names, recording.types, strict=True)
    ]
    _table(path, header, rows, mark)


def _status(name: str, recording: BidsRecording) -> str:
    return "bad" if name in recording.bad else "good"


def _electrodes_table(path: Path, recording: BidsRecording, shift: int, mark: str) -> None:
    """Write contacts; each further space is moved by a millimetre."""
    header = ["name", "x", "y", "z", "size", "impedance"]
    header += ["anat_label"] if recording.anat_label else []
    rows = [
        [name, *(f"{value + shift:g}" for value in xyz), "5", "10"]
        + ([recording.anat_label.get(name, UNKNOWN)] if recording.anat_label else [])
        for name, xyz in recording.position_mm.items()
    ]
    _table(path, header, rows, mark)


def _json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def _table(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], mark: str = ""
) -> None:
    lines = ["\t".join(cells) for cells in (header, *rows)]
    path.write_text(mark + "\n".join(lines) + "\n", encoding="utf-8")


def _brainvision(path: Path, recording: BidsRecording) -> None:
    """Write steps of 0.1 µV as int16; the markers say nothing of events."""
    channels = SimulatedChannels(
        values=1e-6 * recording.microvolts,
        rate_hz=recording.rate_hz,
        names=recording.names,
        types=recording.types,
        units=("V",) * len(recording.names),
        bad=recording.bad,
        events=(),
        line_hz=50.0,
        positions=np.full((len(recording.names), 3), np.nan),
    )
    write_brainvision(channels, path)


def write_seeg_dataset(root: Path | str, *, seed: int = 0) -> dict[str, BidsRecording]:
    """Write two subjects with depth electrodes; tables of the second begin with a mark.

    Returns
    -------
    dict
        Relative path of each ``.vhdr`` -> what it holds.
    """
    root = Path(root)
    write_bids_root(root, {"01": ("31", "F", UNKNOWN), "02": ("45.5", "m", "human")})
    found = {}
    for number, subject in enumerate(("01", "02")):
        recording = simulate_seeg(seed=seed + number)
        entities = {"sub": subject, "ses": "implant", "task": "gonogo", "run": "1"}
        path = write_bids_recording(root, recording, entities, byte_order_mark=number == 1)
        found[path.relative_to(root).as_posix()] = recording
    return found


def write_eeg_dataset(root: Path | str, *, seed: int = 0) -> dict[str, BidsRecording]:
    """Write two subjects with two runs of EEG; returns as `write_seeg_dataset`."""
    root = Path(root)
    write_bids_root(root, {"01": ("22", "M", "human"), "02": ("24", "F", "human")})
    found = {}
    for number, subject in enumerate(("01", "02")):
        for run in ("1", "2"):
            recording = simulate_eeg(seed=seed + 10 * number + int(run))
            entities = {"sub": subject, "task": "flash", "run": run}
            path = write_bids_recording(root, recording, entities, spaces=("CapTrak",))
            found[path.relative_to(root).as_posix()] = recording
    return found


def write_scan_dataset(root: Path | str, recordings: int = 100) -> list[str]:
    """Write many recordings whose data files hold one byte: nothing can be read but headers.

    Parameters
    ----------
    root : path
        Root of the data set.
    recordings : int
        Number of recordings, half EEG and half intracranial, five to a subject.

    Returns
    -------
    list of str
        Relative paths of the ``.vhdr`` files, sorted.
    """
    root = Path(root)
    subjects = [f"{k + 1:03d}" for k in range(-(-recordings // 5))]
    write_bids_root(root, dict.fromkeys(subjects, ("30", "F", "human")))
    kinds = (simulate_eeg(0.1), simulate_seeg(0.1))
    found = []
    for number in range(recordings):
        entities = {"sub": subjects[number // 5], "task": "scan", "run": str(number % 5 + 1)}
        path = write_bids_recording(root, kinds[number % 2], entities)
        path.with_suffix(".eeg").write_bytes(b"\x00")
        found.append(path.relative_to(root).as_posix())
    return sorted(found)
