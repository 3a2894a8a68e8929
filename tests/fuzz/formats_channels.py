"""Formats of EEG, MEG and intracranial EEG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from damage import Damage, text_of
from formats import Format, Source

from neuropipe.simulate.bids_files import simulate_seeg, write_bids_recording, write_bids_root
from neuropipe.simulate.channel_files import (
    SimulatedChannels,
    simulate_channels,
    write_brainvision,
    write_edf,
    write_eeglab,
    write_fif,
)
from neuropipe.simulate.electrical_files import write_electrical_nwb

__all__ = ["FORMATS"]


def _channels(variant: int, kind: str = "eeg") -> SimulatedChannels:
    counts = ((3, 5), (6, 3))[kind == "meg"]
    return simulate_channels(
        counts[variant], (4.0, 3.0)[variant], kind=kind, rate_hz=100.0, bad=(1,), seed=variant
    )


def _by_mne(path: Path, **keys: Any) -> dict[str, np.ndarray]:
    """Return samples in SI units, names and annotations as mne reads them."""
    import mne

    if path.suffix in (".edf", ".bdf"):  # annotations of any bytes: they are not compared
        keys = {"encoding": "latin1", **keys}
    raw = {
        ".vhdr": mne.io.read_raw_brainvision, ".edf": mne.io.read_raw_edf,
        ".bdf": mne.io.read_raw_bdf, ".set": mne.io.read_raw_eeglab, ".fif": mne.io.read_raw_fif,
    }[path.suffix](path, preload=True, verbose="error", **keys)  # fmt: skip
    return {
        "raw/signal": raw.get_data().T,
        "raw/channel": np.array(raw.ch_names, dtype=object),
        "raw/time": (raw.first_samp + np.arange(raw.n_times)) / raw.info["sfreq"],
    }


def _write_brainvision(folder: Path, variant: int) -> Source:
    write_brainvision(_channels(variant), folder / "a.vhdr")
    return Source("a.vhdr")


def _write_edf(folder: Path, variant: int) -> Source:
    write_edf(_channels(variant), folder / "a.edf")
    return Source("a.edf")


def _write_bdf(folder: Path, variant: int) -> Source:
    write_edf(_channels(variant), folder / "a.bdf", bdf=True)
    return Source("a.bdf")


def _write_eeglab(folder: Path, variant: int) -> Source:
    write_eeglab(_channels(variant), folder / "a.set")
    return Source("a.set")


def _write_fif(folder: Path, variant: int) -> Source:
    write_fif(_channels(variant, "meg"), folder / "a_meg.fif")
    return Source("a_meg.fif")


def _read(folder: Path, source: Source) -> dict[str, np.ndarray]:
    return _by_mne(folder / source.path)


def _edf_unit(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes().replace(b"uV  ", b"mV  ").replace(b"uV ", b"mV "))


# --- BIDS ------------------------------------------------------------------------------------

STEM = "sub-01/ieeg/sub-01_task-go"
PLACE = "sub-01/ieeg/sub-01_space-ACPC"
BARE = f"{STEM}_ieeg.eeg"
BIDS = {
    f"{STEM}_ieeg.vhdr": "text", f"{STEM}_ieeg.eeg": "binary", f"{STEM}_ieeg.vmrk": "text",
    f"{STEM}_ieeg.json": "text", f"{STEM}_channels.tsv": "table", f"{STEM}_events.tsv": "table",
    f"{PLACE}_electrodes.tsv": "table", f"{PLACE}_coordsystem.json": "text",
    "dataset_description.json": "text", "participants.tsv": "table",
}  # fmt: skip
HOLDS = {
    f"{STEM}_events.tsv": frozenset({"events/onset"}),
    f"{PLACE}_electrodes.tsv": frozenset({"raw/x", "raw/y", "raw/z"}),
    f"{PLACE}_coordsystem.json": frozenset({"raw/x", "raw/y", "raw/z"}),
}
NEEDED = ("_ieeg.vhdr", "_ieeg.eeg", "_channels.tsv")


def _write_bids(folder: Path, variant: int) -> Source:
    recording = simulate_seeg((2.0, 3.0)[variant], rate_hz=(200.0, 250.0)[variant], seed=variant)
    if variant:  # other contacts
        names = tuple(f"X{name}" for name in recording.names[:-4])
        values = {
            "names": names, "types": recording.types[:-4],
            "microvolts": recording.microvolts[:, :-4],
            "position_mm": {f"X{k}": v for k, v in recording.position_mm.items()},
            "anat_label": {},
        }  # fmt: skip
        recording = type(recording)(**{**recording.__dict__, **values})
    write_bids_root(folder, {"01": ("31", "F", "human")})
    write_bids_recording(folder, recording, {"sub": "01", "task": "go"})
    return Source(f"{STEM}_ieeg.vhdr")


def _read_bids(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import pandas as pd

    found = _by_mne(folder / source.path)
    table = pd.read_csv(folder / f"{STEM}_channels.tsv", sep="\t", dtype=str, index_col=False,
                        keep_default_na=False)  # fmt: skip
    rows = table.set_index("name").loc[found["raw/channel"]]
    if set(rows["units"]) != {"µV"}:
        del found["raw/signal"]
    found["raw/bad"] = np.array([text.strip() == "bad" for text in rows["status"]])
    found["raw/ch_type"] = np.array([t.strip().lower() for t in rows["type"]], dtype=object)
    events = pd.read_csv(folder / f"{STEM}_events.tsv", sep="\t", index_col=False,
                         float_precision="round_trip")  # fmt: skip
    found["events/onset"] = events["onset"].to_numpy(dtype=np.float64)
    places = pd.read_csv(folder / f"{PLACE}_electrodes.tsv", sep="\t", index_col="name",
                         na_values=["n/a"], float_precision="round_trip")  # fmt: skip
    system = json.loads((folder / f"{PLACE}_coordsystem.json").read_text())
    if system.get("iEEGCoordinateUnits") == "mm":
        for axis in "xyz":
            column = places[axis].reindex(found["raw/channel"])
            found[f"raw/{axis}"] = column.to_numpy(dtype=np.float64) / 1000
    return found


# --- NWB -------------------------------------------------------------------------------------


def _write_nwb(folder: Path, variant: int) -> Source:
    channels = _channels(variant)
    write_electrical_nwb(
        folder / "a.nwb", channels.values / 1e-6, channels.rate_hz, channels.names,
        events=(1.0, 2.0),
    )  # fmt: skip
    return Source("a.nwb")


def _read_nwb(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(folder / source.path) as file:
        series = file["acquisition/ElectricalSeries"]
        data = series["data"]
        factor = float(data.attrs["conversion"])
        offset = float(data.attrs.get("offset", 0.0))
        start = series["starting_time"]
        names = file["general/extracellular_ephys/electrodes/channel_name"][...]
        epochs = file.get("intervals/epochs/start_time")
        events = {} if epochs is None else {"events/onset": epochs[...]}
        return {
            **events,
            "raw/signal": data[...].astype(np.float64) * factor + offset,
            "raw/time": float(start[()]) + np.arange(len(data)) / float(start.attrs["rate"]),
            "raw/channel": np.array([n.decode() for n in names], dtype=object),
        }


FORMATS = (
    Format(
        "BrainVision", "eeg", "brainvision", _write_brainvision, _read,
        {"a.vhdr": "text", "a.eeg": "binary", "a.vmrk": "text"},
        optional=frozenset({"a.vmrk"}), bare=frozenset({"a.eeg"}),
        own=(("a.vhdr", Damage("mV in place of µV",
                               text_of(lambda t, rng: t.replace("µV", "mV")), "refused")),),
    ),
    Format("EDF", "eeg", "edf", _write_edf, _read, {"a.edf": "binary"},
           own=(("a.edf", Damage("mV in place of µV", _edf_unit, "refused")),)),
    Format("BDF", "eeg", "edf", _write_bdf, _read, {"a.bdf": "binary"}, share=0.5),
    Format("EEGLAB", "eeg", "eeglab", _write_eeglab, _read,
           {"a.set": "binary", "a.fdt": "binary"}, bare=frozenset({"a.fdt"})),
    Format("FIF", "meg", "fif", _write_fif, _read, {"a_meg.fif": "binary"}),
    Format("BIDS iEEG", "ieeg", "brainvision", _write_bids, _read_bids, BIDS,
           optional=frozenset(f for f in BIDS if not f.endswith(NEEDED)),
           bare=frozenset({BARE}), holds=HOLDS, share=0.4),
    Format("NWB electrical", "eeg", "nwb_electrical", _write_nwb, _read_nwb, {"a.nwb": "hdf5"}),
)  # fmt: skip
