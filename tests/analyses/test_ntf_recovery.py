"""Planted motifs are found: the acceptance table of the NTF connectomes.

What it says of exact tensors is tested in `tests/unit/test_ntf_factorise.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from neuropipe.analyses import ntf

# Import mode `importlib` puts no folder on the path; the benchmark prints what is tested here.
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import ntf_acceptance as acceptance

pytestmark = pytest.mark.recovery


def check_demands(checks: Iterable[acceptance.Check]) -> None:
    found = list(checks)
    print("", *found, sep="\n")
    assert found
    assert [str(check) for check in found if not check.met] == []


@pytest.mark.parametrize("mode", acceptance.DEMANDS)
def test_planted_motifs_are_found(mode: str) -> None:
    check_demands(acceptance.planted(mode))


def test_motifs_are_found_with_twice_the_noise_and_missing_neurons() -> None:
    check_demands(acceptance.harder())


@pytest.mark.parametrize("seed", acceptance.SEEDS)
def test_automatic_rank_is_the_planted_one_or_a_little_more(seed: int) -> None:
    check_demands(acceptance.automatic_rank([seed], largest=7))


def test_noise_has_rank_two_at_most() -> None:
    check_demands(acceptance.noise_rank(range(2), largest=4))


def test_shifted_traces_call_independent_neurons_independent(monkeypatch) -> None:
    """At most 10 % of seeds may have a significant community; planted ones have."""
    # The smallest possible p is 1 / 25.
    monkeypatch.setattr("neuropipe.analyses.ntf.significance.SHIFT_DRAWS", 24)
    settings = ntf.Settings(rank=2, restarts=2, significance="circular_shift")
    planted = [
        float(ntf.fit(acceptance.small(seed), settings, seed)["community_pvalue"].min())
        for seed in range(3)
    ]
    shuffled = np.array(acceptance.independent(range(20)))
    rotated = np.array(acceptance.independent(range(10), shuffle=False))
    print(*(np.round(values, 3).tolist() for values in (planted, shuffled, rotated)), sep="\n")
    assert np.median(planted) < 0.05
    assert (shuffled < 0.05).mean() <= 0.1
    assert (rotated < 0.05).mean() <= 0.1
