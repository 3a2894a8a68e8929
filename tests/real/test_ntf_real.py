"""Motifs of four real worms that moved freely: what can be shared between them and what not."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from real_data import FOUR, FOUR_WORMS, needs

from neuropipe.analyses import ntf
from neuropipe.analyses.ntf.figures.traces import draw_traces
from neuropipe.assemble.cohort import Input, cohort
from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import issues_from_json
from neuropipe.preprocess.chain import preprocess

pytestmark = needs(FOUR_WORMS)
ANIMALS = ("2022-07-26-31", "2022-07-26-38", "2022-07-27-31", "2022-07-27-38")
RANKS = [1, 2, 8]
INTER = {"units": {"where": "neuron_class != 'motor'"}}


@pytest.fixture(scope="module")
def worms(tmp_path_factory) -> list[xr.DataTree]:
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.store.zarr import open_store

    folder = tmp_path_factory.mktemp("worms")
    worm = PreprocessConfig.model_validate(
        {"calcium": {"resample": {"dt_s": 0.6}, "normalise": "zscore"}}
    )
    trees = []
    for animal in ANIMALS:
        subject = animal.replace("-", "")
        name = f"sub-{subject}_calcium"
        settings = IngestConfig.model_validate({"overrides": {name: {**FOUR, "group": animal}}})
        row = Recording(name=name, subject=subject, modality="calcium", path=str(FOUR_WORMS),
                        species="Caenorhabditis elegans", reader="hdf5")  # fmt: skip
        ingest_recording(row, FOUR_WORMS, settings, folder / f"{name}.zarr")
        trees.append(preprocess(open_store(folder / f"{name}.zarr"), worm))
    return trees


@pytest.fixture(scope="module")
def together(worms) -> xr.Dataset:
    settings = ntf.Settings(rank=RANKS, restarts=3, cv_folds=2, significance="none")
    return ntf.fit(cohort(worms, Input.model_validate(INTER)), settings, 0)


@pytest.fixture(scope="module")
def alone(worms) -> xr.Dataset:
    ds = cohort(worms[:1], Input.model_validate({"scope": "recording", **INTER}))
    return ntf.fit(ds, ntf.Settings(rank=4, restarts=4, communities={"null_draws": 40}), 0)


def codes(ds: xr.Dataset) -> list[str]:
    return [issue.code for issue in issues_from_json(ds.attrs["issues"])]


def test_the_cohort_is_told_not_to_be_aligned(together):
    assert codes(together).count("TIME_NOT_ALIGNED") == 1
    assert together.sizes["subject"] == 4


def test_cross_validation_chooses_one_or_two_components(together):
    error = together["cv_error"].mean("fold")
    print("held-out error by rank:", dict(zip(RANKS, error.values.round(3).tolist(), strict=True)))
    assert together.attrs["rank_selected"] <= 2
    assert float(error.sel(rank=8)) > float(error.min()), "more components predict no better"


def test_restarts_of_high_ranks_disagree(together):
    upper = np.triu_indices(together.sizes["restart"], 1)
    similarity = {
        rank: float(np.median(together["fms_restart"].sel(rank=rank).values[upper]))
        for rank in RANKS
    }
    print("restart similarity by rank:", {r: round(s, 3) for r, s in similarity.items()})
    assert similarity[1] > 0.99
    assert similarity[8] < 0.9


def test_a_high_rank_that_is_asked_for_is_called_unstable(worms):
    ds = cohort(worms, Input.model_validate(INTER))
    result = ntf.fit(ds, ntf.Settings(rank=8, restarts=4, significance="none"), 0)
    assert "UNSTABLE_COMPONENTS" in codes(result)


def test_one_animal_has_motifs_with_communities_and_their_traces(alone):
    assert alone.attrs["align"] == "single"
    assert "TIME_NOT_ALIGNED" not in codes(alone)
    p = alone["community_pvalue"].isel(level=0).values
    print("smallest p of each motif:", np.nanmin(p, axis=1).round(3).tolist())
    assert (np.nanmin(p, axis=1) < 0.05).sum() >= 2
    start, stop = alone["active_interval"].transpose("bound", ...).values
    assert np.nanmin(start) >= -1 and np.nanmax(stop) <= 490
    assert int((alone["community"].isel(level=0) >= 0).sum()) >= 8
    drawn = draw_traces(alone)
    assert set(drawn.table["neuron"]) <= set(alone["neuron"].values.tolist())
    assert len(set(drawn.table["neuron"])) >= 3
