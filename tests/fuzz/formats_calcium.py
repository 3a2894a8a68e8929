"""Formats of calcium recordings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from damage import Damage, text_of
from formats import Format, Source

from neuropipe.simulate.calcium_files import (
    write_caiman_hdf5,
    write_calcium_hdf5,
    write_calcium_nwb,
    write_calcium_table,
    write_matlab_file,
    write_suite2p_folder,
)

__all__ = ["FORMATS"]

NAMES = (("AVAL", "AVAR", "RID", "VB2"), ("AIBL", "AIBR", "RMED", "RMEV", "SMDDL", "DB1"))
LENGTHS = (40, 33)
RATE = 4.0


def _activity(variant: int) -> xr.Dataset:
    rng = np.random.default_rng(variant)
    names = list(NAMES[variant])
    values = rng.standard_normal((1, len(names), LENGTHS[variant]))
    coords = {"subject": ["01"], "neuron": names, "time": np.arange(LENGTHS[variant]) / RATE}
    return xr.Dataset({"activity": (("subject", "neuron", "time"), values)}, coords)


def _behavior(variant: int) -> dict[str, np.ndarray]:
    return {"velocity": np.random.default_rng(9 + variant).standard_normal(LENGTHS[variant])}


def _texts(values: Any) -> np.ndarray:
    texts = [v.decode() if isinstance(v, bytes) else str(v) for v in np.asarray(values).ravel()]
    return np.array(texts, dtype=object)


# --- HDF5 of a laboratory --------------------------------------------------------------------


def _write_hdf5(folder: Path, variant: int, names: str) -> Source:
    data, path = _activity(variant), folder / "a.h5"
    behavior, events = _behavior(variant), {"reversal": [(1.0, 2.0), (4.0, 6.0)]}
    settings = write_calcium_hdf5(data, "01", path, behavior=behavior, events=events)
    if names == "json":
        import json

        rows = (folder / "a-names.csv").read_text().splitlines()[1:]
        table = {row.split(",")[0]: row.split(",")[1] for row in rows}
        (folder / "a-names.csv").unlink()
        (folder / "a-names.json").write_text(json.dumps(table))
        settings["names_table"] = "a-names.json"
    return Source("a.h5", settings)


def _read_hdf5(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import json

    import h5py
    import pandas as pd

    with h5py.File(folder / source.path) as file:
        time = file["imaging/time"][...]
        first, last = file["events/reversal"][...].astype(int)
        found = {
            "raw/dff": file["imaging/dff"][...],
            "raw/time": time,
            "behavior/velocity": file["behavior/velocity"][...],
            "events/onset": time[first],
            "events/duration": time[last] - time[first],
        }
    names = folder / source.settings["names_table"]
    if names.suffix == ".json":
        rows = json.loads(names.read_text()).items()
    else:
        table = pd.read_csv(names, dtype=str, keep_default_na=False)
        rows = zip(table["index"], table["label"], strict=True)
    labels = np.full(found["raw/dff"].shape[1], "", dtype=object)
    for index, label in rows:
        labels[int(index) - 1] = "" if label == "n/a" else label
    return found | {"raw/label_source": labels}


def _milliseconds(path: Path, rng: np.random.Generator) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        file["imaging/time"][...] *= 1000


# --- wide tables -----------------------------------------------------------------------------


def _write_table(folder: Path, variant: int) -> Source:
    return Source("a.csv", write_calcium_table(_activity(variant), "01", folder / "a.csv"))


def _write_parquet(folder: Path, variant: int) -> Source:
    import pandas as pd

    settings = write_calcium_table(_activity(variant), "01", folder / "a.csv")
    pd.read_csv(folder / "a.csv", float_precision="round_trip").to_parquet(folder / "a.parquet")
    (folder / "a.csv").unlink()
    return Source("a.parquet", settings)


def _read_table(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import pandas as pd

    path = folder / source.path
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        names = list(frame.columns)
    else:
        frame = pd.read_csv(path, float_precision="round_trip", index_col=False)
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
        names = first.iloc[0].tolist()  # as written: pandas numbers those that are the same
    return {
        "raw/dff": frame.to_numpy()[:, 1:].astype(np.float64),
        "raw/time": frame.to_numpy()[:, 0].astype(np.float64),
        "raw/label_source": np.array([str(name) for name in names[1:]], dtype=object),
    }


def _table_in_ms(text: str, rng: np.random.Generator) -> str:
    head, *rows = text.splitlines()
    moved = [row.split(",", 1) for row in rows]
    return "\n".join([head, *(f"{float(t) * 1000!r},{rest}" for t, rest in moved)]) + "\n"


# --- suite2p ---------------------------------------------------------------------------------

SUITE2P = {"fluorescence": "F", "neuropil": "Fneu", "deconvolved": "spks"}


def _write_suite2p(folder: Path, variant: int) -> Source:
    return Source("plane0", write_suite2p_folder(_activity(variant), "01", folder / "plane0"))


def _read_suite2p(folder: Path, source: Source) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, file in SUITE2P.items():
        if (folder / f"plane0/{file}.npy").is_file():
            found[f"raw/{name}"] = np.load(folder / f"plane0/{file}.npy").T
    if (folder / "plane0/iscell.npy").is_file():
        cells = np.load(folder / "plane0/iscell.npy")
        found["raw/is_cell"] = cells[:, 0].astype(bool)
        found["raw/iscell_prob"] = cells[:, 1].astype(np.float64)
    return found


# --- CaImAn ----------------------------------------------------------------------------------

CAIMAN = {"fluorescence": "C", "dff": "F_dff", "deconvolved": "S"}


def _write_caiman(folder: Path, variant: int) -> Source:
    return Source("a.hdf5", write_caiman_hdf5(_activity(variant), "01", folder / "a.hdf5"))


def _read_caiman(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(folder / source.path) as file:
        found = {
            f"raw/{name}": file[f"estimates/{key}"][...].T
            for name, key in CAIMAN.items()
            if key in file["estimates"]
        }
        n_times, n_rois = found["raw/fluorescence"].shape
        found["raw/time"] = np.arange(n_times) / float(file["params/data/fr"][()])
        cells = np.zeros(n_rois, dtype=bool)
        cells[file["estimates/idx_components"][...]] = True
        found["raw/is_cell"] = cells
    return found


# --- MATLAB ----------------------------------------------------------------------------------


def _write_matlab(folder: Path, variant: int, version: str) -> Source:
    data, n = _activity(variant), 2 * LENGTHS[variant]
    behavior = {"heading": np.random.default_rng(5 + variant).standard_normal(n)}
    labels = list(NAMES[variant])
    return Source(
        "a.mat",
        write_matlab_file(
            data, "01", folder / "a.mat", version=version, labels=labels, behavior=behavior
        ),
    )


def _read_matlab_5(folder: Path, source: Source) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    content = loadmat(folder / source.path, simplify_cells=True)
    imaging = content["imaging"]
    return {
        "raw/dff": np.asarray(imaging["dff"]).T,
        "raw/time": np.asarray(imaging["t"]).ravel(),
        "raw/label_source": np.array([str(n) for n in imaging["names"]], dtype=object),
        "behavior/heading": np.asarray(content["ball"]["heading"]),
    }


def _read_matlab_73(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(folder / source.path) as file:
        names = [file[ref][...] for ref in file["imaging/names"][...].ravel()]
        return {
            "raw/dff": file["imaging/dff"][...],
            "raw/time": file["imaging/t"][...].ravel(),
            "raw/label_source": np.array(
                ["".join(chr(code) for code in name.ravel()) for name in names], dtype=object
            ),
            "behavior/heading": file["ball/heading"][...].ravel(),
        }


# --- NWB -------------------------------------------------------------------------------------


def _write_nwb(folder: Path, variant: int, **keys: Any) -> Source:
    data = _activity(variant)
    events = {"reversal": [(1.0, 2.0), (4.0, 6.0)]}
    behavior = {"velocity": _behavior(variant)["velocity"][::2]}
    settings = write_calcium_nwb(
        data, "01", folder / "a.nwb", behavior=behavior, events=events, **keys
    )
    return Source("a.nwb", settings)


def _read_nwb(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    found: dict[str, np.ndarray] = {}
    with h5py.File(folder / source.path) as file:
        series = {}

        def look(name: str, item: Any) -> None:
            if item.attrs.get("neurodata_type") == "RoiResponseSeries":
                series["dff" if "DfOverF" in name else "fluorescence"] = item

        file["processing"].visititems(look)
        for name, item in series.items():
            found[f"raw/{name}"] = item["data"][...]
        found["raw/time"] = _nwb_times(item)
        tables: list[Any] = []
        file["processing/ophys"].visititems(
            lambda _, g: (
                tables.append(g) if g.attrs.get("neurodata_type") == "PlaneSegmentation" else None
            )
        )
        found["raw/label_source"] = _texts(tables[0]["label"][...])
        if "intervals/epochs/start_time" in file:
            found["events/onset"] = file["intervals/epochs/start_time"][...]
    return found


def _nwb_times(item: Mapping[str, Any]) -> np.ndarray:
    if "timestamps" in item:
        return item["timestamps"][...]
    start = item["starting_time"]
    return float(start[()]) + np.arange(len(item["data"])) / float(start.attrs["rate"])


def _write_own_nwb(folder: Path, variant: int) -> Source:
    """Write the NWB file that an ingest of the same recording leaves."""
    import shutil

    from neuropipe.config.models import IngestConfig
    from neuropipe.config.recordings import Recording
    from neuropipe.io.ingest import ingest_recording

    source = _write_hdf5(folder, variant, "csv")
    row = Recording(name="sub-01_calcium", subject="01", modality="calcium", path="a.h5")
    config = IngestConfig(readers={"hdf5": dict(source.settings)})
    out = folder / "made"
    ingest_recording(row, folder / "a.h5", config, out / f"{row.name}.zarr")
    (out / f"{row.name}.nwb").rename(folder / "a.nwb")
    shutil.rmtree(out)
    (folder / "a.h5").unlink()
    (folder / "a-names.csv").unlink()
    return Source("a.nwb")


def _read_own_nwb(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    found: dict[str, np.ndarray] = {}

    def look(name: str, item: Any) -> None:
        if item.attrs.get("neurodata_type") == "RoiResponseSeries":
            found["raw/dff"] = item["data"][...]

    with h5py.File(folder / source.path) as file:
        file["processing"].visititems(look)
    return found


MS = "times in ms, said to be s"

FORMATS = (
    Format(
        "calcium HDF5 + names CSV", "calcium", "hdf5", partial(_write_hdf5, names="csv"),
        _read_hdf5, {"a.h5": "hdf5", "a-names.csv": "table"},
        own=(("a.h5", Damage(MS, _milliseconds, "told")),),
    ),
    Format(
        "calcium HDF5 + names JSON", "calcium", "hdf5", partial(_write_hdf5, names="json"),
        _read_hdf5, {"a-names.json": "text"},
    ),
    Format(
        "calcium table", "calcium", "table", _write_table, _read_table, {"a.csv": "table"},
        own=(("a.csv", Damage(MS, text_of(_table_in_ms), "told")),),
    ),
    Format("calcium parquet", "calcium", "table", _write_parquet, _read_table,
           {"a.parquet": "binary"}),
    Format(
        "suite2p", "calcium", "suite2p", _write_suite2p, _read_suite2p,
        {f"plane0/{name}.npy": "npy" for name in (*SUITE2P.values(), "iscell")},
        optional=frozenset(f"plane0/{name}.npy" for name in ("Fneu", "spks", "iscell")),
        share=0.5,
    ),
    Format("CaImAn", "calcium", "caiman", _write_caiman, _read_caiman, {"a.hdf5": "hdf5"}),
    Format("MATLAB 5", "calcium", "matlab", partial(_write_matlab, version="5"), _read_matlab_5,
           {"a.mat": "binary"}),
    Format("MATLAB 7.3", "calcium", "matlab", partial(_write_matlab, version="7.3"),
           _read_matlab_73, {"a.mat": "hdf5"}),
    Format("calcium NWB, rate", "calcium", "nwb", _write_nwb, _read_nwb, {"a.nwb": "hdf5"}),
    Format("calcium NWB, timestamps", "calcium", "nwb", partial(_write_nwb, irregular=True),
           _read_nwb, {"a.nwb": "hdf5"}, share=0.5),
    Format("our calcium NWB", "calcium", "nwb", _write_own_nwb, _read_own_nwb,
           {"a.nwb": "hdf5"}),
)  # fmt: skip
