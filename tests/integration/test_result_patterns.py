"""Latents and states of other analyses as rows of patterns, cut around the events of recordings."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from memory_stores import spike_store

from neuropipe.assemble.conditions import Input, conditions
from neuropipe.assemble.result_series import Result, segments_of
from neuropipe.assemble.trials import Input as TrialInput
from neuropipe.assemble.trials import trials
from neuropipe.config.load import check_model
from neuropipe.errors import ConfigError, DataError

LABELS = list("abcd")
STEP = 0.1


def given(**block) -> Input:
    model, problems = check_model(Input, {"labels": LABELS, "folds": 2} | block, "input")
    assert not problems, problems
    return model


@pytest.fixture(scope="module")
def store() -> xr.DataTree:
    """Spikes of one recording with an event every second, at 0.5 s, conditions in turn."""
    times = [np.sort(np.random.default_rng(k).uniform(0, 40, 300)) for k in range(3)]
    events = [(0.5 + k, LABELS[k % 4]) for k in range(40)]
    return spike_store(times, ((0.0, 40.0),), events=events, subject_id="m1",
                       recording="sub-m1_spikes")  # fmt: skip


def blocks(store: xr.DataTree, by: dict) -> xr.Dataset:
    """Return the input of an analysis of states: trials of binned spikes."""
    model, problems = check_model(TrialInput, {"bin_ms": 1000 * STEP, "trials": by}, "input")
    assert not problems, problems
    return trials([store], model)


def latents(data: xr.Dataset) -> Result:
    """Return a result with two latents: the time on the session's clock, and its square."""
    clock = data["trial_onset"].values[:, None] + data["time"].values
    values = np.stack([clock, clock**2], axis=-1)
    found = xr.Dataset(
        {"latent_mean": (("trial", "time", "latent"), values)},
        {"trial": data["trial"].values, "time": data["time"].values},
    )
    return Result("smooth", "gp_vae", "latent_mean", found.isel(trial=slice(None, None, -1)), data)


@pytest.mark.parametrize(
    "by", [{"by": "blocks", "block_s": 5}, {"by": "recording"},
           {"by": "events", "labels": LABELS, "window_s": [-0.3, 0.5]}]
)  # fmt: skip
def test_windows_around_events_are_cut_whatever_the_trials_were(store, by):
    one = latents(blocks(store, by))
    wanted = given(result="smooth", window_s=[-0.2, 0.4], keep_time=True, folds=1)
    ds = conditions([store], wanted, results=[one])
    assert ds["patterns"].dims == ("subject", "region", "run", "condition", "channel", "time")
    assert ds["region"].values.tolist() == ["smooth"]
    assert ds["channel_name"].values.ravel().tolist() == ["smooth 1", "smooth 2"]
    assert ds.attrs["modality"] == "latents"
    np.testing.assert_allclose(ds["time"], np.arange(-0.15, 0.4, STEP))
    # The mean clock of the events of a condition, and times after them: 0.5, 4.5, ... + 0.5 k.
    for k in range(4):
        events = 0.5 + np.arange(k, 40, 4)
        expected = events.mean() + np.arange(-0.15, 0.4, STEP)
        np.testing.assert_allclose(ds["patterns"].values[0, 0, 0, k, 0], expected, atol=1e-6)
    assert ds["n_events"].values.ravel().tolist() == [10, 10, 10, 10]
    assert json.loads(ds.attrs["making"])["results"] == {"smooth": ["gp_vae", "latent_mean"]}


def test_windows_over_the_end_of_a_block_are_left_out_and_told(store):
    one = latents(blocks(store, {"by": "blocks", "block_s": 3}))
    ds = conditions([store], given(result="smooth", window_s=[0, 1.0]), results=[one])
    # The last of the three events of each block has its window in two; after 39 s there is none.
    lost = [2 + 3 * k for k in range(13)] + [39]
    expected = [10 - sum(event % 4 == k for event in lost) for k in range(4)]
    assert ds["n_events"].values.sum(axis=(0, 1)).tolist() == expected
    excluded = [e for e in json.loads(ds.attrs["excluded"]) if e["kind"] == "trials"]
    assert excluded[0]["count"] == len(lost)
    assert "does not hold the window" in excluded[0]["reason"]


def test_states_of_bins_become_a_channel_each_and_results_regions(store):
    count = int(40 / STEP)
    half = np.arange(count) * STEP % 4 < 2  # state 7 while a and b come, 2 while c and d come
    result = xr.Dataset(
        {"time_state": ("time", np.where(half, 7, 2))},
        {"time": (np.arange(count) + 0.5) * STEP},
    )
    runs = [{"run": "", "recordings": ["sub-m1_spikes"], "first_bin": 0, "bins": count,
             "start_s": 0.0}]  # fmt: skip
    data = xr.Dataset(attrs={"subject": "m1", "bin_width_s": STEP, "runs": json.dumps(runs)})
    states = Result("bouts", "bicluster", "time_state", result, data)
    smooth = latents(blocks(store, {"by": "blocks", "block_s": 5}))
    wanted = given(result=["bouts", "smooth"], window_s=[0, 0.4])
    ds = conditions([store], wanted, results=[states, smooth])
    assert ds["region"].values.tolist() == ["bouts", "smooth"]
    assert ds["n_channels"].values.tolist() == [[2, 2]]
    found = ds["patterns"].sel(region="bouts").values[0]
    np.testing.assert_allclose(found[:, :2, 1], 1.0)
    np.testing.assert_allclose(found[:, 2:, 0], 1.0)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0)
    with pytest.raises(DataError, match="2 results of bouts"):
        conditions([store], wanted, results=[states, states, smooth])
    gone = Result("bouts", "bicluster", "other", result, data)
    with pytest.raises(DataError, match="has no other"):
        segments_of(gone)


def test_results_without_the_events_are_refused_with_the_labels_found(store):
    one = latents(blocks(store, {"by": "blocks", "block_s": 5}))
    strange = given(result="smooth", labels=["e", "f", "g", "h"])
    with pytest.raises(DataError, match="labels found: a, b, c, d"):
        conditions([store], strange, results=[one])
    with pytest.raises(ConfigError, match=r"input\.regions: patterns of spikes do not take it"):
        conditions([store], given(result="smooth", regions="a.nii.gz"), results=[one])
