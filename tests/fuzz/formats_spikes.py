"""Formats of spike recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from damage import Damage, text_of
from formats import Format, Source

from neuropipe.simulate.spike_files import (
    SimulatedSpikes,
    simulate_spikes,
    write_phy_folder,
    write_spike_nwb,
    write_spike_table,
)

__all__ = ["DURATION_S", "FORMATS", "MS", "SAMPLES", "by_unit", "spikes_of_variant"]

DURATION_S = 20.0
PHY = ("spike_times.npy", "spike_clusters.npy", "params.py", "cluster_group.tsv",
       "cluster_KSLabel.tsv")  # fmt: skip


def spikes_of_variant(variant: int) -> SimulatedSpikes:
    """Return spikes of three units, or of the five of another recording."""
    rates = ((2.0, 8.0, 5.0), (3.0, 6.0, 4.0, 2.0, 1.0))[variant]
    return simulate_spikes(rates, DURATION_S, trials=3, seed=variant)


def by_unit(units: Any, owner: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    """Return spikes as the store has them: by unit, then time."""
    order = np.lexsort([times, owner])
    return {
        "raw/unit": np.array([str(unit) for unit in units], dtype=object),
        "raw/spike_unit": owner[order],
        "raw/spike_time": times[order],
    }


# --- NWB -------------------------------------------------------------------------------------


def _write_nwb(folder: Path, variant: int) -> Source:
    write_spike_nwb(spikes_of_variant(variant), folder / "a.nwb")
    return Source("a.nwb")


def _read_nwb(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(folder / source.path) as file:
        stops = file["units/spike_times_index"][...].astype(int)
        owner = np.repeat(np.arange(len(stops)), np.diff(stops, prepend=0))
        found = by_unit(file["units/id"][...], owner, file["units/spike_times"][...])
        for name in ("start", "stop"):
            if f"intervals/trials/{name}_time" in file:
                found[f"trials/{name}"] = file[f"intervals/trials/{name}_time"][...]
    return found


def _nwb_times(factor: float) -> Any:
    def apply(path: Path, rng: np.random.Generator) -> None:
        import h5py

        with h5py.File(path, "r+") as file:
            file["units/spike_times"][...] *= factor

    return apply


# --- Phy -------------------------------------------------------------------------------------


def _write_phy(folder: Path, variant: int) -> Source:
    write_phy_folder(spikes_of_variant(variant), folder / "phy")
    return Source("phy", {"duration_s": DURATION_S})


def _read_phy(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import re

    import pandas as pd

    path = folder / "phy"
    clusters = np.load(path / "spike_clusters.npy").ravel().astype(np.int64)
    samples = np.load(path / "spike_times.npy").ravel()
    text = (path / "params.py").read_text("utf-8-sig")
    (rate,) = re.findall(r"^sample_rate = (\S+)\s*$", text, re.MULTILINE)
    units, owner = np.unique(clusters, return_inverse=True)
    found = by_unit(units, owner, samples.astype(np.float64) / float(rate))
    quality = dict.fromkeys(units.tolist(), "unsorted")
    for name, column in (("cluster_KSLabel.tsv", "KSLabel"), ("cluster_group.tsv", "group")):
        table = pd.read_csv(path / name, sep="\t", keep_default_na=False, dtype=str)
        for unit, label in zip(table["cluster_id"], table[column], strict=True):
            if int(unit) in quality and str(label).strip():
                quality[int(unit)] = str(label).strip()
    return found | {"raw/quality": np.array(list(quality.values()), dtype=object)}


def _params_rate(text: str, rng: np.random.Generator) -> str:
    return text.replace("30000.0", "30.0")


# --- tables ----------------------------------------------------------------------------------


def _write_table(folder: Path, variant: int) -> Source:
    write_spike_table(spikes_of_variant(variant), folder / "a.csv")
    return Source("a.csv", {"time_unit": "s", "duration_s": DURATION_S})


def _write_parquet(folder: Path, variant: int) -> Source:
    import pandas as pd

    source = _write_table(folder, variant)
    pd.read_csv(folder / "a.csv", converters={"time": float}).to_parquet(folder / "a.parquet")
    (folder / "a.csv").unlink()
    return Source("a.parquet", source.settings)


def _read_table(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import pandas as pd

    path = folder / source.path
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
    else:
        frame = pd.read_csv(path, dtype={"unit": str}, float_precision="round_trip",
                            index_col=False)  # fmt: skip
    units, owner = np.unique(frame["unit"].to_numpy(dtype=object), return_inverse=True)
    return by_unit(units, owner, frame["time"].to_numpy().astype(np.float64))


def _table_times(factor: float) -> Any:
    def change(text: str, rng: np.random.Generator) -> str:
        head, *rows = text.splitlines()
        cells = [row.split(",") for row in rows]
        moved = [",".join([u, repr(float(t) * factor), *rest]) for u, t, *rest in cells]
        return "\n".join([head, *moved]) + "\n"

    return text_of(change)


MS, SAMPLES = "times in ms, said to be s", "times in samples, said to be s"

FORMATS = (
    Format(
        "NWB units", "spikes", "nwb_units", _write_nwb, _read_nwb, {"a.nwb": "hdf5"},
        own=(("a.nwb", Damage(MS, _nwb_times(1e3), "refused")),
             ("a.nwb", Damage(SAMPLES, _nwb_times(3e4), "refused"))),
    ),
    Format(
        "Phy folder", "spikes", "phy", _write_phy, _read_phy,
        {f"phy/{name}": {"npy": "npy", "tsv": "table", "py": "text"}[name.rsplit(".", 1)[1]]
         for name in PHY},
        optional=frozenset(f"phy/{name}" for name in PHY[3:]),
        holds={f"phy/{name}": frozenset({"raw/quality"}) for name in PHY[3:]},
        own=(("phy/params.py", Damage("a rate a thousand times lower",
                                      text_of(_params_rate), "refused")),),
        share=0.6,
    ),
    Format(
        "spike table", "spikes", "spike_table", _write_table, _read_table, {"a.csv": "table"},
        own=(("a.csv", Damage(MS, _table_times(1e3), "refused")),
             ("a.csv", Damage(SAMPLES, _table_times(3e4), "refused"))),
    ),
    Format("spike parquet", "spikes", "spike_table", _write_parquet, _read_table,
           {"a.parquet": "binary"}, share=0.6),
)  # fmt: skip
