"""Planted motifs are found: the acceptance table of the NTF connectomes."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.analyses import ntf

pytestmark = pytest.mark.recovery

SEEDS = range(5)
# Least means over motifs and seeds, and the least value of the worst seed.
DEMANDS = {
    "excess": {
        "pair_auc": (0.98, 0.95),
        "subject_cosine": (0.95, 0.95),
        "interval_iou": (0.68, 0.60),
        "fms": (0.68, 0.60),
        "community_ari": (0.92, 0.85),
    },
    "differential": {
        "pair_auc": (0.97, 0.95),
        "subject_cosine": (0.95, 0.95),
        "interval_iou": (0.75, 0.70),
        "fms": (0.52, 0.45),
        "community_ari": (0.85, 0.80),
    },
}


def scores(mode: str, **simulation: float) -> dict[str, np.ndarray]:
    """Fit one component more than planted on every seed and return the metrics."""
    settings = ntf.Settings(rank=5, affinity={"mode": mode}, significance="none")
    rows = []
    for seed in SEEDS:
        data, truth = ntf.simulate(seed, **simulation)
        rows.append(ntf.score(ntf.fit(data, settings, seed), truth))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("mode", DEMANDS)
def test_planted_motifs_are_found(mode: str) -> None:
    found = scores(mode)
    for name, (mean, worst) in DEMANDS[mode].items():
        values = found[name]
        print(
            f"{mode} {name}: mean {values.mean():.3f} (demand {mean}), worst seed "
            f"{values.argmin()}: {values.min():.3f} (demand {worst})"
        )
    for name, (mean, worst) in DEMANDS[mode].items():
        assert found[name].mean() >= mean, name
        assert found[name].min() >= worst, name


def test_motifs_are_found_with_twice_the_noise_and_missing_neurons() -> None:
    found = scores("excess", snr=2.0, missing=0.30, n_subjects=8)
    for name in ("pair_auc", "community_ari"):
        print(f"harder {name}: mean {found[name].mean():.3f}, worst {found[name].min():.3f}")
    assert found["community_ari"].mean() >= 0.85
    assert found["pair_auc"].mean() >= 0.97


def select(data, seed: int, largest: int) -> int:
    part = ntf.affinity_tensor(data)
    return ntf.select_rank(
        part["affinity"].values,
        range(1, largest + 1),
        W=part["pair_observed"].values,
        V=part["time_observed"].values,
        seed=seed,
    )[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_automatic_rank_is_the_planted_one_or_a_little_more(seed: int) -> None:
    data, _ = ntf.simulate(seed)
    rank = select(data, seed, 7)
    print(f"automatic rank, seed {seed}: {rank}")
    assert rank in (4, 5, 6)


@pytest.mark.parametrize("seed", range(2))
def test_noise_has_rank_two_at_most(seed: int) -> None:
    data, _ = ntf.simulate(seed)
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(data["activity"].values, axis=2)
    assert select(data.assign(activity=(data["activity"].dims, shuffled)), seed, 5) <= 2


def test_shifted_traces_call_independent_neurons_independent(monkeypatch) -> None:
    """At most 10 % of seeds may have a significant community; planted ones have."""
    monkeypatch.setattr("neuropipe.analyses.ntf.significance.SHIFT_DRAWS", 40)
    settings = ntf.Settings(rank=2, restarts=2, significance="circular_shift")
    seeds = {"planted": 3, "shifted": 10, "shuffled": 20}
    lowest: dict[str, list[float]] = {kind: [] for kind in seeds}
    for seed in range(20):
        size = {"n_neurons": 24, "n_subjects": 3, "duration": 120.0, "n_motifs": 1}
        data, _ = ntf.simulate(seed, **size)
        rng = np.random.default_rng(seed)
        made = {"planted": data["activity"].values}
        rolls = rng.integers(data.sizes["time"], size=made["planted"].shape[:2])
        frames = (np.arange(data.sizes["time"]) + rolls[..., None]) % data.sizes["time"]
        made["shifted"] = np.take_along_axis(made["planted"], frames, axis=2)
        made["shuffled"] = rng.permuted(made["planted"], axis=2)
        for kind, values in made.items():
            if seed >= seeds[kind]:
                continue
            found = ntf.fit(data.assign(activity=(data["activity"].dims, values)), settings, seed)
            lowest[kind].append(float(found["community_pvalue"].fillna(1.0).min()))
    print({kind: np.round(values, 3).tolist() for kind, values in lowest.items()})
    assert np.median(lowest["planted"]) < 0.05
    assert np.mean(np.array(lowest["shuffled"]) < 0.05) <= 0.1
    assert np.mean(np.array(lowest["shifted"]) < 0.05) <= 0.1
