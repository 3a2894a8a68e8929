"""The bi-clustering on spike counts of a public Neuropixels recording, short chains."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from real_data import ROOT, needs

from neuropipe.analyses import bicluster
from neuropipe.analyses.bicluster.report_numbers import headline
from neuropipe.stats.clustering_scores import adjusted_rand_score

FOLDER = ROOT / "spikes/neuropixels_counts"
pytestmark = needs(FOLDER)


@pytest.fixture(scope="module")
def counts() -> xr.Dataset:
    """Return every third unit in the first 160 of 720 bins of 0.5 s."""
    table = pd.read_csv(FOLDER / "Y.csv", header=None).to_numpy()
    codes = pd.read_csv(FOLDER / "Lab_neuron.csv", header=None).to_numpy().ravel()
    regions = np.array(["CA1", "LP", "VISp"])[codes - 1]
    picked = np.arange(0, len(table), 3)
    return xr.Dataset(
        {"counts": (("unit", "time"), table[picked, :160])},
        coords={
            "unit": [f"u{i:02d}" for i in picked],
            "time": 0.5 * np.arange(160) + 0.25,
            "region": ("unit", regions[picked]),
        },
        attrs={"bin_width_s": 0.5},
    )


def fitted(counts: xr.Dataset, seed: int) -> xr.DataTree:
    settings = bicluster.Settings(
        model={"p": 1, "n_states_max": 4},
        mcmc={"warmup": 40, "draws": 60, "thin": 2, "latent_thin": 4, "chains": 2},
    )
    return bicluster.fit(counts, settings, seed)


@pytest.fixture(scope="module")
def result(counts) -> xr.DataTree:
    return fitted(counts, 0)


def test_rates_that_change_predict_better_than_constant_ones(result, counts):
    """Three masks: one holds out 336 entries of 21 units, whose gain is one to four errors."""
    found = [result, fitted(counts, 1), fitted(counts, 2)]
    gain = np.mean([float(one["held_out_bits_per_spike"]) for one in found])
    errors = [float(one["held_out_bits_per_spike_se"]) for one in found]
    assert gain > 2 * np.sqrt(np.square(errors).sum()) / len(found)


def test_every_region_is_counted_once_per_unit(result, counts):
    assert int(result["region_by_cluster"].sum()) == counts.sizes["unit"]
    assert set(result["region_name"].values) == set(counts["region"].values)


def test_short_chains_say_that_they_have_not_converged(result):
    assert result.attrs["converged"] == 0
    assert headline(result).startswith("NOT CONVERGED")


def test_replicas_cover_the_statistics_of_most_units(result):
    """Of 95 % intervals of well-fitted statistics; Fano factors are what the family is for."""
    found = bicluster.posterior_predictive(result, n=40)
    tail = found["fano_tail"].values
    assert np.mean((tail > 0.0) & (tail < 1.0)) > 0.8


def test_clusters_and_states_agree_with_known_labels_no_worse_than_chance(result, counts):
    """Nothing says that clusters are regions; an index far below zero would be an error."""
    value = adjusted_rand_score(result["unit_cluster"].values, counts["region"].values)
    assert -0.1 < value <= 1.0
