"""Small source files in real formats, made from simulated calcium activity."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.simulate.matlab_files import write_matlab

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "write_caiman_hdf5",
    "write_calcium_hdf5",
    "write_calcium_nwb",
    "write_calcium_table",
    "write_matlab_file",
    "write_suite2p_folder",
]

CLOCK_START_S = 1234.5
BASELINE = 100.0


def _traces(
    data: xr.Dataset, subject: str, labels: Mapping[str, str] | Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return traces ``(n_times, n_rois)``, times and labels of the neurons seen in a subject."""
    activity = data["activity"].sel(subject=subject).transpose("time", "neuron")
    seen = np.isfinite(activity.values).any(axis=0)
    names = [str(name) for name in data["neuron"].values]
    if isinstance(labels, Mapping):
        names = [labels.get(name, name) for name in names]
    elif labels is not None:
        names = [str(name) for name in labels]
    kept = [name for name, here in zip(names, seen, strict=True) if here]
    return activity.values[:, seen], np.asarray(data["time"].values, np.float64), kept


def _shuffle(seed: int, subject: str, count: int) -> np.ndarray:
    """Return an order of the traces, another one in every subject."""
    words = np.frombuffer(str(subject).encode(), np.uint8)
    return np.random.default_rng([seed, *words.tolist()]).permutation(count)


def write_calcium_hdf5(
    data: xr.Dataset,
    subject: str,
    path: Path | str,
    *,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    behavior: Mapping[str, np.ndarray] | None = None,
    events: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write one subject as generic HDF5 with a names table ``<stem>-names.csv`` beside it.

    The traces are in an order of the subject's own, as in a real recording, and the clock begins
    at 1234.5 s. The names table counts from 1 and lists the identified traces only.

    Parameters
    ----------
    data : xarray.Dataset
        ``activity(subject, neuron, time)``, NaN where a neuron was not seen.
    subject : str
        Value of ``subject``.
    path : path
        The ``.h5`` file.
    labels : mapping or sequence of str, optional
        Names to write in place of those of `data`, empty for an unidentified trace.
    behavior : mapping of str to array, optional
        Variables on the clock of the traces, ``(n_times,)``.
    events : mapping of str to sequence of (float, float), optional
        Label -> start and stop in seconds on the clock of `data`, written as sample indices.
    seed : int
        Seed of the order of the traces.

    Returns
    -------
    dict
        Settings of the reader ``hdf5`` that read the file back.
    """
    import h5py

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values, time, names = _traces(data, subject, labels)
    order = _shuffle(seed, subject, len(names))
    table = path.with_name(f"{path.stem}-names.csv")
    with h5py.File(path, "w", track_order=False) as file:
        file["imaging/dff"] = values[:, order].astype(np.float32)
        file["imaging/time"] = time + CLOCK_START_S
        for name, series in sorted((behavior or {}).items()):
            file[f"behavior/{name}"] = np.asarray(series)
        for label, spans in sorted((events or {}).items()):
            file[f"events/{label}"] = np.searchsorted(time, np.array(spans).T).clip(
                0, len(time) - 1
            )
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["index", "label", "confidence"])
        writer.writerows(
            [row + 1, names[source], 5.0] for row, source in enumerate(order) if names[source]
        )
    datasets: dict[str, Any] = {"traces": "imaging/dff", "time": "imaging/time"}
    if behavior:
        datasets["behavior"] = {name: f"behavior/{name}" for name in sorted(behavior)}
    if events:
        datasets["intervals"] = {
            label: {"path": f"events/{label}", "index_base": 0} for label in sorted(events)
        }
    return {"datasets": datasets, "kind": "dff", "names_table": table.name, "index_base": 1}


def write_calcium_table(
    data: xr.Dataset,
    subject: str,
    path: Path | str,
    *,
    labels: Mapping[str, str] | Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write one subject as a wide CSV (or ``.tsv``): first column time, one column per neuron.

    Values are written with all their digits.

    Returns
    -------
    dict
        Settings of the reader ``table``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values, time, names = _traces(data, subject, labels)
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
        writer.writerow(["time", *names])
        for moment, row in zip(time, values, strict=True):
            cells = ["n/a" if np.isnan(value) else repr(float(value)) for value in row]
            writer.writerow([repr(float(moment)), *cells])
    return {"kind": "dff"}


def write_suite2p_folder(
    data: xr.Dataset, subject: str, path: Path | str, *, seed: int = 0, spikes: bool = True
) -> dict[str, Any]:
    """Write one subject as a suite2p folder without ops.npy and stat.npy.

    Fluorescence is a baseline with the activity on it; ``Fneu`` is a weak share of its mean.

    Returns
    -------
    dict
        Settings of the reader ``suite2p``, the rate among them.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    values, time, names = _traces(data, subject, None)
    generator = np.random.default_rng(seed)
    fluorescence = (BASELINE * (1.0 + 0.1 * values.T)).astype(np.float32)
    neuropil = np.tile(0.3 * fluorescence.mean(axis=0), (len(names), 1)).astype(np.float32)
    rises = np.diff(values.T, axis=1, prepend=values.T[:, :1]).clip(min=0)
    probability = generator.uniform(0.2, 1.0, len(names))
    np.save(path / "F.npy", fluorescence)
    np.save(path / "Fneu.npy", neuropil)
    np.save(path / "spks.npy", (rises if spikes else 0 * rises).astype(np.float32))
    np.save(path / "iscell.npy", np.stack([probability > 0.5, probability], axis=1).astype(float))
    return {"rate_hz": float((len(time) - 1) / (time[-1] - time[0]))}


def write_caiman_hdf5(
    data: xr.Dataset,
    subject: str,
    path: Path | str,
    *,
    seed: int = 0,
    evaluated: bool = True,
    rate: bool = True,
) -> dict[str, Any]:
    """Write one subject as CaImAn saves its results: ``/estimates`` and ``/params``.

    Each component has a footprint of 3 x 3 pixels; what was not computed is the text
    ``NoneType``, as in files of CaImAn.

    Parameters
    ----------
    evaluated : bool
        Write ``idx_components``: every second component was accepted.
    rate : bool
        Write ``/params/data/fr``; without it the settings hold the rate.

    Returns
    -------
    dict
        Settings of the reader ``caiman``.
    """
    import h5py
    from scipy import sparse

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values, time, names = _traces(data, subject, None)
    dims, order = (40, 50), _shuffle(seed, subject, len(names))
    footprints = sparse.lil_matrix((dims[0] * dims[1], len(names)))
    for k, place in enumerate(order):
        y, x = 3 + 4 * (int(place) // 10), 3 + 4 * (int(place) % 10)
        box = [(x + dx) * dims[0] + y + dy for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        footprints[box, k] = 1.0 / 9
    footprints = footprints.tocsc()
    frequency = float((len(time) - 1) / (time[-1] - time[0]))
    with h5py.File(path, "w") as file:
        estimates = file.create_group("estimates")
        estimates["C"] = BASELINE * (1.0 + 0.1 * values.T)
        estimates["F_dff"] = 0.1 * values.T
        estimates["S"] = np.diff(values.T, axis=1, prepend=values.T[:, :1]).clip(min=0)
        for part in ("data", "indices", "indptr", "shape"):
            estimates[f"A/{part}"] = np.asarray(getattr(footprints, part))
        accepted = np.arange(0, len(names), 2)
        estimates["idx_components"] = accepted if evaluated else "NoneType"
        estimates["idx_components_bad"] = "NoneType"
        file["dims"] = np.array(dims)
        file["params/data/fr"] = frequency if rate else "NoneType"
    return {} if rate else {"rate_hz": frequency}


def write_matlab_file(
    data: xr.Dataset,
    subject: str,
    path: Path | str,
    *,
    version: str = "5",
    labels: Mapping[str, str] | Sequence[str] | None = None,
    behavior: Mapping[str, np.ndarray] | None = None,
    times: bool = True,
) -> dict[str, Any]:
    """Write one subject as a MATLAB file with structs and a cell array of names.

    Parameters
    ----------
    version : {"5", "7.3"}
        MAT-file version; 7.3 is HDF5 with arrays turned round and references for cells.
    behavior : mapping of str to array, optional
        Variables at twice the rate, with times of their own, ``(n,)``.
    times : bool
        Write sample times; without them the frame rate only.

    Returns
    -------
    dict
        Settings of the reader ``matlab``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values, time, names = _traces(data, subject, labels)
    imaging: dict[str, Any] = {"dff": values.T, "names": names}
    imaging |= {"t": time[:, None] + CLOCK_START_S} if times else {}
    imaging["fps"] = np.array([[(len(time) - 1) / (time[-1] - time[0])]])
    content: dict[str, Any] = {"imaging": imaging}
    datasets: dict[str, Any] = {"traces": "imaging.dff", "names": "imaging.names"}
    datasets |= {"time": "imaging.t"} if times else {"fps": "imaging.fps"}
    if behavior:
        series = {name: np.asarray(values)[:, None] for name, values in behavior.items()}
        n = len(next(iter(series.values())))
        step = float((time[-1] - time[0]) / (len(time) - 1)) / 2
        start = time[0] + (CLOCK_START_S if times else 0.0)
        content["ball"] = {"t": (start + step * np.arange(n))[:, None], **series}
        datasets["behavior"] = {
            name: {"path": f"ball.{name}", "time": "ball.t", "stream": "ball"}
            for name in sorted(behavior)
        }
    write_matlab(path, content, version)
    order = {} if times else {"orientation": "roi_time"}
    return {"kind": "dff", "datasets": datasets, **order}


def write_calcium_nwb(
    data: xr.Dataset,
    subject: str,
    path: Path | str,
    *,
    labels: Mapping[str, str] | Sequence[str] | None = None,
    irregular: bool = False,
    fluorescence: bool = True,
    behavior: Mapping[str, np.ndarray] | None = None,
    events: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> dict[str, Any]:
    """Write one subject as another converter would: ``DfOverF`` and ``Fluorescence`` in NWB.

    Parameters
    ----------
    irregular : bool
        Write timestamps with a jitter of a tenth of a step in place of a rate.
    fluorescence : bool
        Also write a ``Fluorescence`` series.
    behavior : mapping of str to array, optional
        Variables at half the rate, ``(n,)``, from the first sample on.
    events : mapping of str to sequence of (float, float), optional
        Label -> start and stop in seconds, written as epochs with the label as tag.

    Returns
    -------
    dict
        Settings of the reader ``nwb``.
    """
    from pynwb import NWBHDF5IO

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values, time, names = _traces(data, subject, labels)
    step = float((time[-1] - time[0]) / (len(time) - 1))
    jitter = np.random.default_rng(0).uniform(-0.1, 0.1, len(time)) * step
    clock: dict[str, Any] = {"rate": 1.0 / step, "starting_time": float(time[0])}
    if irregular:
        clock = {"timestamps": time + jitter}
    nwb = _nwb_file(subject)
    _add_rois(nwb, values, names, clock, fluorescence)
    if behavior:
        _add_behavior(nwb, behavior, time[0], 0.5 / step)
    for label, spans in sorted((events or {}).items()):
        for start, stop in spans:
            nwb.add_epoch(start_time=float(start), stop_time=float(stop), tags=[label])
    with NWBHDF5IO(path, "w") as stream:
        stream.write(nwb)
    return {}


def _nwb_file(subject: str) -> Any:
    from datetime import datetime

    from pynwb import NWBFile
    from pynwb.file import Subject

    start = datetime.fromisoformat("2024-03-05T14:00:00+01:00")
    return NWBFile(
        session_description="simulated calcium imaging",
        identifier=f"simulated-{subject}",
        session_start_time=start,
        file_create_date=[start],
        subject=Subject(
            subject_id=str(subject), species="Caenorhabditis elegans", sex="O", age="P3D"
        ),
    )


def _add_rois(
    nwb: Any, values: np.ndarray, names: list[str], clock: dict[str, Any], fluorescence: bool
) -> None:
    from pynwb.ophys import (
        DfOverF,
        Fluorescence,
        ImageSegmentation,
        OpticalChannel,
        RoiResponseSeries,
    )

    device = nwb.create_device(name="Microscope")
    plane = nwb.create_imaging_plane(
        name="ImagingPlane",
        optical_channel=OpticalChannel(
            name="green", description="green channel", emission_lambda=510.0
        ),
        description="head",
        device=device,
        excitation_lambda=488.0,
        indicator="GCaMP",
        location="head",
    )
    module = nwb.create_processing_module(name="ophys", description="traces")
    segmentation = ImageSegmentation()
    module.add(segmentation)
    table = segmentation.create_plane_segmentation(
        description="rois", imaging_plane=plane, name="PlaneSegmentation"
    )
    for k in range(len(names)):
        table.add_roi(pixel_mask=[(k, k, 1.0)], id=100 + k)
    table.add_column(name="label", description="identity of the neuron", data=names)
    series = [("DfOverF", DfOverF, values.astype(np.float32))]
    if fluorescence:
        raw = (BASELINE * (1 + 0.1 * values)).astype(np.float32)
        series.append(("Fluorescence", Fluorescence, raw))
    for name, container, samples in series:
        holder = container(name=name)
        module.add(holder)
        region = table.create_roi_table_region(description="all", region=list(range(len(names))))
        holder.add_roi_response_series(
            RoiResponseSeries(
                name="RoiResponseSeries", data=samples, rois=region, unit="n.a.", **clock
            )
        )


def _add_behavior(nwb: Any, behavior: Mapping[str, np.ndarray], start: float, rate: float) -> None:
    from pynwb import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries

    holder = BehavioralTimeSeries(name="BehavioralTimeSeries")
    for name, values in sorted(behavior.items()):
        series = TimeSeries(
            name=name, data=np.asarray(values), unit="n.a.", rate=rate, starting_time=float(start)
        )
        holder.add_timeseries(series)
    nwb.create_processing_module(name="behavior", description="behaviour").add(holder)
