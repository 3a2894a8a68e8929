"""Small EEG and MEG recordings in real formats: BrainVision, EDF and BDF, FIF, EEGLAB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from neuropipe.simulate.edf_writer import EdfSignal, write_edf_file

__all__ = [
    "SimulatedChannels",
    "simulate_channels",
    "write_brainvision",
    "write_edf",
    "write_eeglab",
    "write_fif",
]

EEG_NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7", "T8")
ALPHA_HZ, EVOKED_S = 10.0, 0.3
# Amplitude of the rhythm per unit; noise, line and evoked response are fractions of it.
AMPLITUDE = {"V": 2e-5, "T": 5e-13, "T/m": 2e-11}
MICRO = {"V": 1e-6, "T": 1e-15, "T/m": 1e-13}
START = datetime(2024, 1, 1, 9, 0, tzinfo=UTC)
BINARY = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}


@dataclass(frozen=True)
class SimulatedChannels:
    """Rhythms, line noise and evoked responses with known times.

    Attributes
    ----------
    values : numpy.ndarray
        ``(n_times, n_channels)`` float64, SI units.
    rate_hz : float
        Sampling rate.
    names, types, units : tuple of str
        Per channel.
    bad : tuple of str
        Channels of noise.
    events : tuple of (int, int)
        Sample and code of each event.
    line_hz : float
        Frequency of the line noise.
    positions : numpy.ndarray
        ``(n_channels, 3)`` metres, head frame.
    """

    values: np.ndarray
    rate_hz: float
    names: tuple[str, ...]
    types: tuple[str, ...]
    units: tuple[str, ...]
    bad: tuple[str, ...]
    events: tuple[tuple[int, int], ...]
    line_hz: float
    positions: np.ndarray

    @property
    def n_times(self) -> int:
        """Number of samples."""
        return len(self.values)


def _rows(kind: str, n_channels: int) -> tuple[list[str], list[str], list[str]]:
    """Return names, types and units; of MEG two gradiometers follow each magnetometer."""
    if kind == "meg":
        types = [("mag", "grad", "grad")[k % 3] for k in range(n_channels)]
        names = [f"MEG {k // 3 + 1:03d}{k % 3 + 1}" for k in range(n_channels)]
        return names, types, ["T" if word == "mag" else "T/m" for word in types]
    more = [f"E{k + 1}" for k in range(len(EEG_NAMES), n_channels)]
    return [*EEG_NAMES[:n_channels], *more], ["eeg"] * n_channels, ["V"] * n_channels


def simulate_channels(
    n_channels: int = 8,
    duration_s: float = 10.0,
    *,
    kind: str = "eeg",
    rate_hz: float = 250.0,
    line_hz: float = 50.0,
    bad: Sequence[int] = (3,),
    codes: Sequence[int] = (1, 2),
    seed: int = 0,
) -> SimulatedChannels:
    """Return channels with an alpha rhythm, line noise and a response to each event.

    Parameters
    ----------
    n_channels : int
        Channels.
    duration_s : float
        Duration, seconds; an event every second, from 0.5 s on.
    kind : {"eeg", "meg"}
        EEG in volts, or magnetometers (T) and planar gradiometers (T/m).
    rate_hz, line_hz : float
        Sampling rate and frequency of the line noise.
    bad : sequence of int
        Channels that hold strong noise only.
    codes : sequence of int
        Codes of the events, in turn; the response to the k-th code is k times as large.
    seed : int
        Seed.
    """
    rng = np.random.default_rng(seed)
    names, types, units = _rows(kind, n_channels)
    n_times = round(duration_s * rate_hz)
    time = np.arange(n_times) / rate_hz
    weights = rng.uniform(0.5, 1.0, n_channels)
    rhythm = np.sin(2 * np.pi * ALPHA_HZ * time)[:, None] * weights
    line = 0.2 * np.sin(2 * np.pi * line_hz * time + 1.0)[:, None]
    noise = 0.3 * rng.standard_normal((n_times, n_channels))
    starts = np.arange(0.5, duration_s - 0.25, 1.0)
    events = tuple(
        (round(start * rate_hz), int(codes[k % len(codes)])) for k, start in enumerate(starts)
    )
    evoked = np.zeros(n_times)
    for sample, code in events:
        after = (np.arange(n_times) - sample) / rate_hz
        bump = np.exp(-(((after - 0.1) / 0.03) ** 2)) * (after >= 0)
        evoked += (1 + list(codes).index(code)) * bump
    values = rhythm + line + noise + evoked[:, None] * weights[::-1]
    for k in bad:
        values[:, k] = 10.0 * rng.standard_normal(n_times)
    values *= [AMPLITUDE[unit] for unit in units]
    angle = 2 * np.pi * np.arange(n_channels) / n_channels
    ring = np.stack([0.08 * np.cos(angle), 0.08 * np.sin(angle), np.full(n_channels, 0.04)], axis=1)
    return SimulatedChannels(
        values, rate_hz, tuple(names), tuple(types), tuple(units),
        tuple(names[k] for k in bad), events, line_hz, ring,
    )  # fmt: skip


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S%f")


def write_brainvision(
    channels: SimulatedChannels,
    path: Path | str,
    *,
    binary: str = "INT_16",
    orientation: str = "MULTIPLEXED",
    resolution: float = 0.1,
    unit: str = "\u00b5V",
    points: bool = False,
    pauses: Mapping[int, float | None] | None = None,
) -> np.ndarray:
    """Write the three files of BrainVision.

    Parameters
    ----------
    channels : SimulatedChannels
    path : path
        The ``.vhdr`` file; ``.eeg`` and ``.vmrk`` lie beside it.
    binary : {"INT_16", "INT_32", "IEEE_FLOAT_32"}
        Numbers of the file.
    orientation : {"MULTIPLEXED", "VECTORIZED"}
        Order of the numbers.
    resolution : float
        Microvolts per number.
    unit : str
        Unit that the header declares: another than the microvolt makes it lie.
    points : bool
        State the number of samples.
    pauses : mapping of int to float or None, optional
        Sample -> seconds that recording paused before it; None: a new segment without a date.

    Returns
    -------
    numpy.ndarray
        The numbers written, ``(n_times, n_channels)``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = channels.values / MICRO["V"] / resolution
    dtype = np.dtype(BINARY[binary])
    stored = (np.rint(numbers) if dtype.kind == "i" else numbers).astype(dtype)
    ordered = stored if orientation == "MULTIPLEXED" else stored.T
    np.ascontiguousarray(ordered).tofile(path.with_suffix(".eeg"))
    size = f"DataPoints={channels.n_times}\n" if points else ""
    rows = "".join(
        f"Ch{k + 1}={name.replace(',', chr(92) + '1')},REF,{resolution!r},{unit}\n"
        for k, name in enumerate(channels.names)
    )
    header = (
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\n"
        f"DataOrientation={orientation}\nNumberOfChannels={len(channels.names)}\n{size}"
        f"SamplingInterval={1e6 / channels.rate_hz!r}\n\n[Binary Infos]\nBinaryFormat={binary}\n\n"
        f"[Channel Infos]\n{rows}"
    )
    path.write_text(header, encoding="utf-8")
    markers = [(0, f"New Segment,,1,1,0,{_stamp(START)}")]
    markers += [
        (sample, f"Stimulus,S{code:3d},{sample + 1},1,0") for sample, code in channels.events
    ]
    paused = 0.0
    for sample, pause in sorted((pauses or {}).items()):
        paused += pause or 0.0
        moment = START + timedelta(seconds=sample / channels.rate_hz + paused)
        date = "" if pause is None else f",{_stamp(moment)}"
        markers.append((sample, f"New Segment,,{sample + 1},1,0{date}"))
    lines = [f"Mk{k + 1}={text}\n" for k, (_, text) in enumerate(sorted(markers))]
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n\n[Marker Infos]\n{''.join(lines)}",
        encoding="utf-8",
    )
    return stored


def write_edf(
    channels: SimulatedChannels,
    path: Path | str,
    *,
    bdf: bool = False,
    record_s: float = 1.0,
    pauses: Mapping[int, float] | None = None,
    slower: Mapping[str, int] | None = None,
    annotations: bool = True,
    trigger: bool = False,
    unit: str = "uV",
) -> dict[str, np.ndarray]:
    """Write an EDF or BDF file, with annotations at the events.

    Parameters
    ----------
    channels : SimulatedChannels
        Of whole records.
    path : path
        The file.
    bdf : bool
        24-bit integers of BDF.
    record_s : float
        Duration of a data record, seconds.
    pauses : mapping of int to float, optional
        Record -> seconds that recording paused before it: EDF+D.
    slower : mapping of str to int, optional
        Channel -> only every so many samples are written: several rates.
    annotations : bool
        Write the events as annotations (EDF+); else a plain file.
    trigger : bool
        Add a channel ``Status`` with the codes of the events.
    unit : str
        Unit that the header declares.

    Returns
    -------
    dict
        Name -> numbers written.
    """
    limit = 2**23 - 1 if bdf else 2**15 - 1
    signals = []
    for k, name in enumerate(channels.names):
        every = (slower or {}).get(name, 1)
        micro = channels.values[::every, k] / MICRO["V"]
        bound = float(f"{1.2 * np.abs(micro).max() + 1:.0f}")
        scale = 2 * bound / (2 * limit)
        numbers = np.rint(micro / scale).astype(np.int64)
        signals.append(EdfSignal(name, numbers, (-bound, bound), (-limit, limit), unit, every))
    if trigger:
        status = np.zeros(channels.n_times, np.int64)
        for sample, code in channels.events:
            status[sample : sample + 3] = code
        signals.append(EdfSignal("Status", status, (-limit, limit), (-limit, limit), "", 1))
    notes = [(sample / channels.rate_hz, f"S {code}") for sample, code in channels.events]
    write_edf_file(
        Path(path), signals, rate_hz=channels.rate_hz, record_s=record_s, bdf=bdf,
        notes=notes if annotations else None, pauses=pauses or {},
    )  # fmt: skip
    return {signal.name: signal.numbers for signal in signals}


def write_fif(
    channels: SimulatedChannels,
    path: Path | str,
    *,
    first_samp: int = 1000,
    notes: Sequence[tuple[float, float, str]] = (),
    single: bool = True,
    dated: bool = True,
) -> None:
    """Write a FIF file with a trigger channel ``STI 014``, bad channels and line frequency.

    Parameters
    ----------
    channels : SimulatedChannels
    path : path
        The file, named ``*_meg.fif``, ``*_eeg.fif`` or ``*_raw.fif``.
    first_samp : int
        Number that the recorder gives the first sample.
    notes : sequence of (float, float, str)
        Onset (s from the first sample), duration (s) and text of annotations.
    single : bool
        float32 in the file, else float64.
    dated : bool
        State a measurement date.
    """
    import mne

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    trigger = np.zeros(channels.n_times)
    for sample, code in channels.events:
        trigger[sample : sample + 3] = code
    info = mne.create_info(
        [*channels.names, "STI 014"], channels.rate_hz, [*channels.types, "stim"], verbose="error"
    )
    info["bads"] = list(channels.bad)
    info["line_freq"] = channels.line_hz
    for ch, place in zip(info["chs"], channels.positions, strict=False):
        ch["loc"][:3] = place
    if dated:
        info.set_meas_date(START)
    values = np.vstack([channels.values.T, trigger])
    raw = mne.io.RawArray(values, info, first_samp=first_samp, verbose="error")
    if notes:
        onset, duration, text = zip(*notes, strict=True)
        shift = first_samp / channels.rate_hz
        origin = raw.info["meas_date"] if dated else None
        # Set behind the back of mne, which would drop those outside the data.
        raw._annotations = mne.Annotations(np.array(onset) + shift, duration, text, origin)
    raw.save(path, fmt="single" if single else "double", overwrite=True, verbose="error")


def write_eeglab(
    channels: SimulatedChannels,
    path: Path | str,
    *,
    separate: bool = True,
    cuts: Mapping[float, float] | None = None,
) -> None:
    """Write an EEGLAB data set: microvolts, latencies of events from 1.

    Parameters
    ----------
    channels : SimulatedChannels
    path : path
        The ``.set`` file.
    separate : bool
        Samples in a ``.fdt`` file beside it; else inside.
    cuts : mapping of float to float, optional
        Latency from 0 (such as 99.5, between two samples) -> samples cut out there (NaN: not
        stated): boundary events.
    """
    from scipy.io import savemat

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    micro = (channels.values / MICRO["V"]).astype("<f4")
    data: object = np.asarray(micro.T)
    if separate:
        micro.tofile(path.with_suffix(".fdt"))
        data = path.with_suffix(".fdt").name
    marks = [(float(sample), f"code{code}", 0.0) for sample, code in channels.events]
    marks += [(at, "boundary", gone) for at, gone in (cuts or {}).items()]
    events = np.zeros(
        len(marks), dtype=[("type", object), ("latency", object), ("duration", object)]
    )
    for k, (at, text, gone) in enumerate(sorted(marks)):
        events[k] = (text, at + 1.0, gone)
    chanlocs = np.zeros(
        len(channels.names), dtype=[(key, object) for key in ("labels", "X", "Y", "Z")]
    )
    for k, (name, place) in enumerate(zip(channels.names, channels.positions, strict=True)):
        # The nose points along X in EEGLAB, along y in the head frame; lengths in mm.
        chanlocs[k] = (name, 1e3 * place[1], -1e3 * place[0], 1e3 * place[2])
    eeg = {
        "setname": path.stem, "nbchan": float(len(channels.names)), "trials": 1.0,
        "pnts": float(channels.n_times), "srate": channels.rate_hz, "xmin": 0.0,
        "data": data, "chanlocs": chanlocs, "event": events, "icawinv": [], "icaweights": [],
        "icasphere": [], "icaact": [], "epoch": [], "ref": "common",
    }  # fmt: skip
    savemat(path, {"EEG": eeg}, appendmat=False)
