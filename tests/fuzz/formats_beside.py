"""Tables of behaviour, events and trials beside a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from formats import Format, Source

__all__ = ["FORMATS"]

TIMES = np.arange(40) / 4.0
OVERRIDE = {
    "behavior": {"run": {"path": "run.csv", "time_unit": "s", "units": {"speed": "m/s"}}},
    "events": {"path": "licks.csv", "time_unit": "s"},
    "trials": {"path": "trials.csv", "time_unit": "s", "times": ["cue"]},
}


def _table(path: Path, header: list[str], rows: list[list[object]]) -> None:
    lines = [",".join(str(cell) for cell in row) for row in (header, *rows)]
    path.write_text("\n".join(lines) + "\n")


def _write(folder: Path, variant: int) -> Source:
    rng = np.random.default_rng(variant)
    count = (25, 31)[variant]
    values = rng.standard_normal((len(TIMES), 3)).tolist()
    rows = [[float(t), *row] for t, row in zip(TIMES, values, strict=True)]
    _table(folder / "a.csv", ["time", "AVAL", "AVAR", "RID"], rows)
    clock = np.linspace(0.0, 9.75, count).round(4).tolist()
    speed = rng.standard_normal(count).round(6).tolist()
    states = [("rest", "walk")[k % (2 + variant) % 2] for k in range(count)]
    _table(folder / "run.csv", ["time", "speed", "state"],
           [list(row) for row in zip(clock, speed, states, strict=True)])  # fmt: skip
    onsets = np.sort(rng.uniform(0, 9, 6 + variant)).round(4).tolist()
    _table(folder / "licks.csv", ["onset", "duration", "label", "force"],
           [[t, 0.25, f"lick{k % 2}", k / 8] for k, t in enumerate(onsets)])  # fmt: skip
    starts = [0.5 + 2.0 * k + 0.1 * variant for k in range(4)]
    _table(
        folder / "trials.csv",
        ["start", "stop", "cue", "choice"],
        [[t, t + 1.5, t + 0.5, ("left", "right")[k % 2]] for k, t in enumerate(starts)],
    )
    return Source("a.csv", {"kind": "dff"}, OVERRIDE)


def _read(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import pandas as pd

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(folder / name, index_col=False, float_precision="round_trip")

    run, licks, trials = table("run.csv"), table("licks.csv"), table("trials.csv")
    licks = licks.sort_values("onset", kind="stable")
    places = {
        "behavior/speed": (run, "speed"), "behavior/time_run": (run, "time"),
        "behavior/state": (run, "state"), "events/onset": (licks, "onset"),
        "events/duration": (licks, "duration"), "events/label": (licks, "label"),
        "events/x_force": (licks, "force"), "trials/start": (trials, "start"),
        "trials/stop": (trials, "stop"), "trials/cue": (trials, "cue"),
        "trials/choice": (trials, "choice"),
    }  # fmt: skip
    found = {}
    for key, (frame, column) in places.items():
        if column in frame:
            values = frame[column]
            is_text = values.dtype.kind not in "biuf"
            found[key] = (values.fillna("").astype(str) if is_text else values).to_numpy()
    return found


FORMATS = (
    Format("tables beside", "calcium", "table", _write, _read,
           {"run.csv": "table", "licks.csv": "table", "trials.csv": "table"},
           alone=frozenset({"run.csv", "licks.csv", "trials.csv"}), share=0.6),
)  # fmt: skip
