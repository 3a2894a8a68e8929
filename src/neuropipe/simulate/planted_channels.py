"""Recordings of EEG, MEG and intracranial contacts with planted faults, as ingested trees."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["ChannelTruth", "planted_channels"]

# Rings of the 10-20 system: share of the way from the vertex, then angles from the front, degrees.
EEG_PLACES = {
    "Fp1": (0.9, -18), "Fp2": (0.9, 18), "F7": (0.9, -54), "F8": (0.9, 54), "T7": (0.9, -90),
    "T8": (0.9, 90), "P7": (0.9, -126), "P8": (0.9, 126), "O1": (0.9, -162), "O2": (0.9, 162),
    "F3": (0.6, -40), "F4": (0.6, 40), "P3": (0.6, -140), "P4": (0.6, 140), "C3": (0.45, -90),
    "C4": (0.45, 90), "Fz": (0.45, 0), "Pz": (0.45, 180), "Cz": (0.0, 0),
}  # fmt: skip
HEAD_M = 0.09
AMPLITUDE = {"eeg": 1e-5, "eog": 3e-5, "ecg": 1e-4, "seeg": 5e-5, "mag": 2e-13, "grad": 5e-12}
UNITS = {"mag": "T", "grad": "T/m"}
LINE_SHARE, ALPHA_HZ = 1.5, 10.0
BLINK_EVERY_S = 3.7


@dataclass(frozen=True)
class ChannelTruth:
    """What was planted.

    Attributes
    ----------
    noisy, flat, stated : str
        Names of the channel with too much variance, the one without any, and the one that the
        source calls bad; "" where there is none.
    signal : numpy.ndarray
        SI values without mains and faults, ``(n_times, n_channels)``.
    gamma : numpy.ndarray
        Bool ``(n_times,)``: high-gamma bursts of intracranial contacts.
    """

    noisy: str
    flat: str
    stated: str
    signal: np.ndarray = field(repr=False)
    gamma: np.ndarray = field(repr=False)


def _pink(rng: np.random.Generator, n_times: int, n_rows: int) -> np.ndarray:
    """Return noise whose power falls with frequency, SD 1."""
    spectrum = np.fft.rfft(rng.normal(size=(n_times, n_rows)), axis=0)
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))[:, None]
    spectrum[0] = 0
    values = np.fft.irfft(spectrum, n_times, axis=0)
    return values / values.std(axis=0)


def _eeg_rows() -> dict[str, Any]:
    place = np.array(list(EEG_PLACES.values()), dtype=np.float64)
    tilt, turn = place[:, 0] * np.pi / 2, np.radians(place[:, 1])
    xyz = HEAD_M * np.stack(
        [np.sin(tilt) * np.sin(turn), np.sin(tilt) * np.cos(turn), np.cos(tilt)], axis=1
    )
    xyz = np.concatenate([xyz, np.full((3, 3), np.nan)])
    kinds = ["eeg"] * len(EEG_PLACES) + ["eog", "ecg", "stim"]
    return {"names": [*EEG_PLACES, "VEOG", "ECG", "STI"], "kinds": kinds, "xyz": xyz}


def _meg_rows() -> dict[str, Any]:
    names, kinds, xyz = [], [], []
    for k in range(24):
        tilt, turn = np.pi / 2 * np.sqrt((k + 1) / 25), k * 2.399963
        spot = 1.2 * HEAD_M * np.array(
            [np.sin(tilt) * np.sin(turn), np.sin(tilt) * np.cos(turn), np.cos(tilt)]
        )  # fmt: skip
        for n, kind in ((1, "mag"), (2, "grad"), (3, "grad")):
            names.append(f"MEG{k + 1:03d}{n}")
            kinds.append(kind)
            xyz.append(spot)
    names, kinds = [*names, "EOG001", "STI101"], [*kinds, "eog", "stim"]
    return {"names": names, "kinds": kinds, "xyz": np.array([*xyz, *np.full((2, 3), np.nan)])}


def _ieeg_rows() -> dict[str, Any]:
    names, groups, contacts, xyz, labels, white = [], [], [], [], [], []
    shanks = {"A": 8, "B": 10, "C": 6}
    for k, (shank, count) in enumerate(shanks.items()):
        for n in range(1, count + 1):
            names.append(f"{shank}{n}")
            groups.append(shank)
            contacts.append(n)
            xyz.append([0.02 + 0.0035 * n, 0.02 * k - 0.02, 0.01 * k])
            inner = n > count - 3
            labels.append("white matter" if inner else ("hippocampus" if n < 4 else "temporal"))
            white.append(int(inner))
    names, groups = [*names, "TRIG"], [*groups, ""]
    size = len(contacts)
    return {
        "names": names,
        "kinds": ["seeg"] * size + ["stim"],
        "xyz": np.array([*xyz, [np.nan] * 3]),
        "electrode_group": np.array(groups, dtype=object),
        "contact": np.array([*contacts, -1], dtype=np.int32),
        "anat_label": np.array([*labels, ""], dtype=object),
        "is_white_matter": np.array([*white, -1], dtype=np.int8),
        "size": np.full(size + 1, np.nan),
        "impedance": np.full(size + 1, np.nan),
    }


ROWS = {"eeg": _eeg_rows, "meg": _meg_rows, "ieeg": _ieeg_rows}


def _signal(
    rng: np.random.Generator, time: np.ndarray, rows: dict[str, Any], modality: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return SI values without faults, and when high gamma bursts."""
    kinds, rate = np.array(rows["kinds"]), (len(time) - 1) / (time[-1] - time[0])
    scale = np.array([AMPLITUDE.get(kind, 0.0) for kind in kinds])
    # Channels of a real cap differ in amplitude, by contact and by distance to the sources.
    values = _pink(rng, len(time), len(kinds)) * np.exp(0.3 * rng.normal(size=len(kinds)))
    front = np.nan_to_num(rows["xyz"][:, 1]) / HEAD_M
    values += np.clip(-front, 0, 1) * np.sin(2 * np.pi * ALPHA_HZ * time)[:, None] * 1.2
    blink = np.exp(-0.5 * (((time + 1) % BLINK_EVERY_S - 1) / 0.08) ** 2)
    if "eog" in kinds:
        values += (np.clip(front, 0, 1) ** 2 * 6)[None] * blink[:, None]
        values[:, kinds == "eog"] += 12 * blink[:, None]
    if "ecg" in kinds:
        values[:, kinds == "ecg"] += 8 * (np.abs(time % 0.83 - 0.4) < 0.02)[:, None]
    gamma = (time % 4.0) < 1.0
    if modality == "ieeg" and rate > 320:
        carrier = np.sin(2 * np.pi * (90 + 15 * np.sin(time)) * time) * gamma
        values += 0.6 * carrier[:, None] * (kinds == "seeg")
    return values * scale, gamma


def planted_channels(
    modality: str = "eeg", *, seconds: float = 60.0, rate: float = 250.0, dtype: str = "int16",
    faults: bool = True, gap: tuple[float, float] | None = None, line_freq: float = 50.0,
    subject: str = "e01", drop: tuple[str, ...] = (), seed: int = 0,
) -> tuple[xr.DataTree, ChannelTruth]:  # fmt: skip
    """Simulate one recording as ingest would store it.

    Parameters
    ----------
    modality : {"eeg", "meg", "ieeg"}
        Which sensors: 19 EEG with EOG and ECG, 72 MEG with EOG, or 24 contacts on three shanks.
    seconds, rate : float
        Length in seconds and sampling rate in Hz.
    dtype : {"int16", "int32", "float32", "float64"}
        Integers get ``scale_factor`` and ``add_offset`` per channel.
    faults : bool
        Plant mains, a noisy, a flat and a stated bad channel.
    gap : tuple of float, optional
        Samples of this stretch are missing, seconds.
    line_freq : float
        Mains frequency, Hz; NaN: the source does not state it, and 50 Hz is planted.
    subject : str
        Label of the subject.
    drop : tuple of str
        Channels that this recording does not have.
    seed : int
        Of the generator.

    Returns
    -------
    tree : xarray.DataTree
        Root attributes, ``/raw`` and ``/events``.
    truth : ChannelTruth
        What was planted.
    """
    rng = np.random.default_rng(seed)
    rows = ROWS[modality]()
    time = np.arange(round(seconds * rate)) / rate
    signal, gamma = _signal(rng, time, rows, modality)
    values, names, kinds = signal.copy(), rows["names"], np.array(rows["kinds"], dtype=object)
    data = [i for i, kind in enumerate(kinds) if kind not in ("eog", "ecg", "stim")]
    marks = {"noisy": "", "flat": "", "stated": ""}
    if faults:
        mains = 50.0 if np.isnan(line_freq) else line_freq
        wave = sum(np.sin(2 * np.pi * mains * k * time + k) / k for k in (1, 2, 3))
        scale = np.array([AMPLITUDE.get(kind, 0.0) for kind in kinds])
        values += LINE_SHARE * np.asarray(wave)[:, None] * scale
        noisy, flat, stated = data[3], data[7], data[11]
        values[:, noisy] += 30 * scale[noisy] * rng.normal(size=len(time))
        values[:, flat] = 0.0
        marks = {"noisy": names[noisy], "flat": names[flat], "stated": names[stated]}
    keep = [i for i, name in enumerate(names) if name not in drop]
    tree = _tree(modality, time, values, rows, np.array(keep), dtype, gap, line_freq, subject,
                 marks["stated"])  # fmt: skip
    return tree, ChannelTruth(**marks, signal=signal[:, keep], gamma=gamma)


def _stored(values: np.ndarray, dtype: str) -> tuple[np.ndarray, dict[str, Any]]:
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype), {}
    # Room for 16 bits or, as of 24-bit amplifiers, for 24.
    largest = np.maximum(np.abs(values).max(axis=0), 1e-15)
    scale = largest / (30_000 if np.dtype(dtype).itemsize == 2 else 8_000_000)
    offset = 3 * scale
    stored = np.round((values - offset) / scale).astype(dtype)
    return stored, {"scale_factor": ("channel", scale), "add_offset": ("channel", offset)}


def _tree(
    modality: str, time: np.ndarray, values: np.ndarray, rows: dict[str, Any], keep: np.ndarray,
    dtype: str, gap: tuple[float, float] | None, line_freq: float, subject: str, stated: str,
) -> xr.DataTree:  # fmt: skip
    stored, scaling = _stored(values, dtype)
    names, kinds = np.array(rows["names"], dtype=object), np.array(rows["kinds"], dtype=object)
    units = np.array([UNITS.get(kind, "V") for kind in kinds], dtype=object)
    size, unknown = len(names), np.full(len(names), np.nan)
    extra = {key: ("channel", rows[key]) for key in rows if key not in ("names", "kinds", "xyz")}
    coords = {
        "channel": ("channel", names),
        "channel_source": ("channel", names.copy()),
        "ch_type": ("channel", kinds),
        "units": ("channel", units),
        "bad": ("channel", (names == stated).astype(bool)),
        "reference": ("channel", np.full(size, "", dtype=object)),
        **{axis: ("channel", rows["xyz"][:, k]) for k, axis in enumerate("xyz")},
        "low_cutoff": ("channel", unknown),
        "high_cutoff": ("channel", unknown.copy()),
        "channel_ok": ("channel", np.ones(size, dtype=bool)),
        **scaling,
        **extra,
    }
    raw = xr.Dataset({"signal": (("time", "channel"), stored)}, {"time": time, **coords})
    raw = raw.isel(channel=keep)
    rate = round(1 / (time[1] - time[0]), 6)
    attrs = {"sampling": "regular", "rate": rate, "grid_rate": rate}
    observed = [[time[0], time[-1]]]
    if gap is not None:
        inside = (time >= gap[0]) & (time < gap[1])
        edges = np.flatnonzero(np.diff(inside.astype(int)))
        observed = [[time[0], time[edges[0]]], [time[edges[1] + 1], time[-1]]]
        raw = raw.isel(time=np.flatnonzero(~inside))
        attrs |= {"sampling": "gaps", "rate": float("nan")}
        raw["segment_start"] = ("segment", np.array(observed)[:, 0])
    raw["observed"] = (("interval", "edge"), np.array(observed))
    raw.attrs = {"line_freq": line_freq, "coord_frame": "head", "all_valid": True}
    onset = np.arange(1.0, time[-1] - 1, 2.0)
    words = np.where(np.arange(len(onset)) % 3 == 0, "target", "standard").astype(object)
    events = xr.Dataset(
        {
            "onset": ("event", onset),
            "duration": ("event", np.zeros(len(onset))),
            "label": ("event", words),
        }
    )
    root = {
        "schema": f"neuropipe.{modality}",
        "schema_version": "1.0.0",
        "recording": f"sub-{subject}_{modality}",
        "subject_id": subject,
        **attrs,
        "pipeline": json.dumps({"version": "0", "steps": []}),
        "issues": "[]",
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=root), "/raw": raw, "/events": events})
