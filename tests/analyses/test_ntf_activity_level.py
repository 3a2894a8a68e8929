"""Activity level is not interaction: neurons that are only busy are reported as no community."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses import ntf
from neuropipe.simulate.planted_calcium import _calcium, _events

pytestmark = pytest.mark.recovery


def busy_neurons(seed: int, kind: str) -> tuple[xr.Dataset, np.ndarray]:
    """Ten of thirty neurons, whose events are their own (`level`) or common (`common`).

    They are ten times as frequent as those of the others in the stretch of 35 s that a motif has:
    what is common to the ten is the level of their activity, or its moments as well.
    """
    n_neurons, n_subjects, n_times, fs = 30, 3, 640, 4.0
    rng = np.random.default_rng(seed)
    group = rng.choice(n_neurons, 10, replace=False)
    activity = np.empty((n_subjects, n_neurons, n_times))
    for subject in range(n_subjects):
        drive = np.zeros((n_neurons, n_times))
        common = _events(rng, 0.45, 60.0, 95.0)
        for neuron, row in enumerate(drive):
            trains = [_events(rng, 0.05, 0.0, n_times / fs)]
            if neuron in group and kind != "none":
                always = kind == "always"
                own = _events(rng, 0.45, *((0.0, n_times / fs) if always else (60.0, 95.0)))
                trains.append(common if kind == "common" else own)
            for times, sizes in trains:
                np.add.at(row, (times * fs).astype(int), sizes)
        gain = rng.uniform(0.5, 2.0, n_neurons)
        activity[subject] = _calcium(rng, drive, fs, 4.0, gain, np.ones(n_neurons))
    data = xr.Dataset(
        {"activity": (("subject", "neuron", "time"), activity)},
        coords={
            "subject": [f"S{k}" for k in range(n_subjects)],
            "neuron": [f"N{k:02d}" for k in range(n_neurons)],
            "time": np.arange(n_times) / fs,
        },
        attrs={"align": "absolute", "time_aligned": 1},
    )
    return data, group


def smallest_pvalue(data: xr.Dataset, mode: str, test: str, seed: int) -> float:
    settings = ntf.Settings(
        rank=2, restarts=2, affinity={"mode": mode}, significance=test, communities={"restarts": 2}
    )
    found = ntf.fit(data, settings, seed)
    return float(found["community_pvalue"].isel(level=0).fillna(1.0).min())


@pytest.mark.parametrize("mode", ["excess", "differential"])
def test_neurons_that_are_only_busy_are_no_community(mode: str, monkeypatch) -> None:
    """Independent neurons, busy at all times or together for a while, against a common drive.

    At a true rate of 0.05, 3 of 8 or 2 of 4 come with probability 0.006 and 0.014.
    """
    monkeypatch.setattr("neuropipe.analyses.ntf.significance.SHIFT_DRAWS", 39)
    lowest = {
        kind: [
            smallest_pvalue(busy_neurons(seed, kind)[0], mode, "circular_shift", seed)
            for seed in range(seeds)
        ]
        for kind, seeds in (("none", 4), ("always", 4), ("level", 8), ("common", 3))
    }
    print(mode, {kind: np.round(values, 3).tolist() for kind, values in lowest.items()})
    for kind, most in (("none", 1), ("always", 1), ("level", 2)):
        assert np.sum(np.array(lowest[kind]) < 0.05) <= most, kind
    assert np.sum(np.array(lowest["common"]) < 0.05) >= 2


def test_permuted_weights_do_not_test_for_interaction() -> None:
    """Independent neurons make uneven weights: this is why the text of the result says so."""
    lowest = [
        smallest_pvalue(busy_neurons(seed, "none")[0], "excess", "permute", seed)
        for seed in range(6)
    ]
    assert np.mean(np.array(lowest) < 0.05) > 0.5
