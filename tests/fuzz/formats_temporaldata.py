"""Files of temporaldata: spikes and calcium of others, and our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from damage import Damage
from formats import Format, Source
from formats_spikes import MS, by_unit

from neuropipe.simulate.temporaldata_files import write_temporaldata

__all__ = ["FORMATS"]


def _text(values: np.ndarray) -> np.ndarray:
    return np.array([value.decode() for value in values], dtype=object)


def _write_spikes(folder: Path, variant: int) -> Source:
    write_temporaldata(folder / "a.h5", kinds=("spikes",), n_units=3 + variant, seed=variant)
    return Source("a.h5")


def _write_calcium(folder: Path, variant: int) -> Source:
    write_temporaldata(folder / "a.h5", kinds=("calcium",), seed=variant)
    return Source("a.h5")


def _beside(file: Any) -> dict[str, np.ndarray]:
    places = {
        "behavior/pos": "cursor/pos",
        "behavior/time_cursor": "cursor/timestamps",
        "trials/start": "trials/start",
        "trials/stop": "trials/end",
        "trials/target": "trials/target",
    }
    found = {name: file[place][...] for name, place in places.items() if place in file}
    return {name: _text(v) if v.dtype.kind == "S" else v for name, v in found.items()}


def _read_spikes(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(folder / source.path) as file:
        times, owner = file["spikes/timestamps"][...], file["spikes/unit_index"][...]
        found = by_unit(_text(file["units/id"][...]), owner.astype(np.int64), times)
        found["raw/region"] = _text(file["units/brain_region"][...])
        found["raw/observed"] = np.stack(
            [file["spikes/domain/start"][...], file["spikes/domain/end"][...]], axis=1
        )
        return found | _beside(file)


def _read_calcium(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(folder / source.path) as file:
        traces = file["calcium_traces"]
        samples = traces["df_over_f"][...]
        start, rate = traces["domain/start"][0], traces.attrs["sampling_rate"]
        times = start + np.arange(len(samples)) / rate
        return {"raw/dff": samples, "raw/time": times, **_beside(file)}


def _write_own(folder: Path, variant: int) -> Source:
    from neuropipe.config.models import IngestConfig
    from neuropipe.config.recordings import Recording
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.store.temporaldata import to_temporaldata
    from neuropipe.store.zarr import open_store

    made = folder / ".made"
    made.mkdir()
    write_temporaldata(made / "a.h5", kinds=("spikes",), n_units=3 + variant, seed=variant)
    row = Recording(name="sub-01_spikes", subject="01", modality="spikes", path="x")
    ingest_recording(row, made / "a.h5", IngestConfig(), made / "sub-01_spikes.zarr")
    to_temporaldata(open_store(made / "sub-01_spikes.zarr"), folder / "a.h5")
    return Source("a.h5")


def _read_own(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(folder / source.path) as file:
        owner = file["spikes/unit_index"][...].astype(np.int64)
        names = _text(file["units/id"][...])
        found = by_unit(names, owner, file["spikes/timestamps"][...])
        found["trials/start"] = file["trials/start"][...]
        return found | {"behavior/pos": file["cursor/pos"][...]}


def _times(factor: float) -> Any:
    def apply(path: Path, rng: np.random.Generator) -> None:
        import h5py

        with h5py.File(path, "r+") as file:
            file["spikes/timestamps"][...] *= factor

    return apply


def _with_suffix(name: str) -> Any:
    def apply(path: Path, rng: np.random.Generator) -> None:
        import h5py

        with h5py.File(path, "r+") as file:
            file[name].attrs["object"] = "Unheard"

    return apply


FORMATS = (
    Format(
        "temporaldata spikes", "spikes", "temporaldata", _write_spikes, _read_spikes,
        {"a.h5": "hdf5"}, share=0.5,
        own=(("a.h5", Damage(MS, _times(1e3), "refused")),
             ("a.h5", Damage("spikes of an unknown class", _with_suffix("spikes"), "refused"))),
    ),
    Format("temporaldata calcium", "calcium", "temporaldata", _write_calcium, _read_calcium,
           {"a.h5": "hdf5"}, share=0.5),
    Format("temporaldata of ours", "spikes", "temporaldata", _write_own, _read_own,
           {"a.h5": "hdf5"}, share=0.5),
)  # fmt: skip
