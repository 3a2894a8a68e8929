"""Stores made in memory, for the tests of what is assembled from them."""

from __future__ import annotations

import numpy as np
import xarray as xr

CLOCK = '[{"step": "clock", "by": "pulses"}]'


def text(values) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def name_of(modality: str, attrs: dict) -> str:
    parts = [f"sub-{attrs['subject_id']}"]
    for key, word in (("session_id", "ses"), ("task", "task"), ("acq", "acq"), ("run", "run")):
        parts += [f"{word}-{attrs[key]}"] if attrs.get(key) else []
    return "_".join([*parts, modality])


def tree_of(modality, groups, events, trials, behavior, given) -> xr.DataTree:
    attrs = {"schema": f"neuropipe.{modality}", "subject_id": "a", "clock": "session"}
    attrs |= {"pipeline": CLOCK, **given}
    attrs["recording"] = name_of(modality, attrs)
    if events:
        onset, label = zip(*events, strict=True)
        groups["/events"] = xr.Dataset(
            {"onset": ("event", np.array(onset, float)), "label": ("event", text(label)),
             "duration": ("event", np.full(len(onset), 0.1)),
             "x_side": ("event", text(["left", "right"] * len(onset))[: len(onset)])}
        )  # fmt: skip
    if trials:
        columns = {k: ("trial", np.asarray(v) if k != "choice" else text(v))
                   for k, v in trials.items()}  # fmt: skip
        groups["/trials"] = xr.Dataset(columns)
    if behavior is not None:
        groups["/behavior"] = behavior
    for path in ("/", "/raw"):
        if path in groups:
            groups[path].attrs |= {"recording": attrs["recording"]}
    groups.setdefault("/", xr.Dataset()).attrs |= attrs
    return xr.DataTree.from_dict(groups)


def spike_store(times, observed=((0.0, 10.0),), *, ids=None, own=None, events=(), trials=None,
                behavior=None, **given) -> xr.DataTree:  # fmt: skip
    """Return an ingested store of spikes; `own` gives intervals per unit, (interval, 2, unit)."""
    observed = np.asarray(observed, float)
    counts = np.array([len(t) for t in times])
    own = np.repeat(observed[:, :, None], len(times), axis=2) if own is None else own
    n = len(times)
    raw = xr.Dataset(
        {
            "spike_time": ("spike", np.concatenate([np.asarray(t, float) for t in times])),
            "spike_unit": ("spike", np.repeat(np.arange(n, dtype=np.int32), counts)),
            "observed": (("interval", "edge"), observed),
            "obs_start": (("unit_interval", "unit"), own[:, 0]),
            "obs_stop": (("unit_interval", "unit"), own[:, 1]),
            "unit_ok": ("unit", np.ones(n, dtype=bool)),
        },
        {"unit": np.arange(n) * 3 if ids is None else ids, "n_spikes": ("unit", counts),
         "unit_start": ("unit", np.cumsum(counts) - counts),
         "quality": ("unit", text(["good", "mua"] * n)[:n]),
         "region": ("unit", text([f"R{k}" for k in range(n)]))},
    )  # fmt: skip
    return tree_of("spikes", {"/raw": raw}, events, trials, behavior, given)


def series_store(time, values, *, modality="eeg", row="channel", ids=None, events=(), trials=None,
                 behavior=None, **given) -> xr.DataTree:  # fmt: skip
    """Return a preprocessed store of samples (time, row)."""
    values = np.asarray(values, float).reshape(len(time), -1)
    n = values.shape[1]
    ds = xr.Dataset(
        {"activity": (("time", row), values, {"units": "V"}),
         "valid": (("time", row), np.isfinite(values)),
         f"{row}_ok": (row, np.ones(n, dtype=bool))},
        {"time": np.asarray(time, float),
         row: text([f"E{k}" for k in range(n)]) if ids is None else ids},
    )  # fmt: skip
    return tree_of(modality, {"/": ds}, events, trials, behavior, given)


def stream(time, **columns) -> xr.Dataset:
    """Return /behavior with variables of one stream."""
    data = {name: (("time_s", *(f"c{k}" for k in range(np.ndim(v) - 1))), v)
            for name, v in columns.items()}  # fmt: skip
    return xr.Dataset(data, {"time_s": np.asarray(time, float)})
