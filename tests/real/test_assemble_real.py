"""Input datasets made of real recordings: a reach, an EEG, a worm, and the faces of Haxby."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from real_data import DAG, ROOT, WORM_FOLDER, needs

from neuropipe.assemble.conditions import Input as ConditionInput
from neuropipe.assemble.conditions import conditions
from neuropipe.assemble.multimodal import Input as ModalInput
from neuropipe.assemble.multimodal import multimodal
from neuropipe.assemble.trials import Input as TrialInput
from neuropipe.assemble.trials import trials
from neuropipe.config.load import check_model
from neuropipe.config.models import FmriPreprocess, IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import DataError
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.chain import preprocess
from neuropipe.store.zarr import open_store

REACH = ROOT / "behavior/mc_maze_trial_748.csv"
EEGLAB = ROOT / "eeg_meg/eeglab/eeglab_data.set"
HAXBY = ROOT / "fmri/haxby2001_1slice/sub001/BOLD"
CATEGORIES = ["face", "house", "cat", "bottle", "scissors", "shoe", "chair", "scrambledpix"]


def given(model, **block):
    found, problems = check_model(model, block, "input")
    assert not problems, problems
    return found


def ingested(source, folder, modality, readers=None, run="", **override):
    name = "_".join(["sub-1", *([f"run-{run}"] if run else []), modality])
    row = Recording(name=name, subject="1", modality=modality, path="x", run=run)
    config = IngestConfig(readers=readers or {}, overrides={name: override} if override else {})
    ingest_recording(row, source, config, folder / f"{name}.zarr")
    return open_store(folder / f"{name}.zarr")


@needs(REACH)
def test_spikes_and_movement_of_a_reach(tmp_path):
    table = pd.read_csv(REACH)
    units = [name for name in table if name.startswith("unit_")]
    rows, owner = np.nonzero(table[units].to_numpy())
    time = table["timestamp"].to_numpy()
    spikes = pd.DataFrame({"unit": [units[k] for k in owner], "time_s": time[rows]})
    spikes.to_csv(tmp_path / "spikes.csv", index=False)
    (tmp_path / "reach.csv").write_bytes(REACH.read_bytes())
    stream = {"path": "reach.csv", "time": "timestamp", "time_unit": "s",
              "columns": ["hand_vel_x", "hand_pos_x"]}  # fmt: skip
    tree = ingested(tmp_path / "spikes.csv", tmp_path, "spikes", behavior={"reach": stream})
    ds = trials([tree], given(TrialInput, bin_ms=20, regressors=["hand_vel_x"],
                              units={"min_spikes": 5}))  # fmt: skip
    assert (ds["counts"].values.sum(axis=(0, 1)) >= 4).all()
    valid = ds["valid"].values[0] if "valid" in ds else np.ones(ds.sizes["time"], bool)
    assert valid.mean() > 0.95
    exact = np.interp(ds["time"].values, time, table["hand_vel_x"])
    speed = ds["regressor"].values[0, :, 0]
    assert np.corrcoef(speed[valid], exact[valid])[0, 1] > 0.999
    both = multimodal([tree], given(
        ModalInput, scope="recording", modalities=["spikes", "behavior"],
        behavior=["hand_vel_x", "hand_pos_x"], trials={"by": "blocks", "block_s": 0.5},
    ))  # fmt: skip
    assert both.sizes["time_behavior"] == 500
    assert both.sizes["time_spikes"] == 25
    at = both["time_behavior"].values + (
        both["trial_onset"].values + both["sample_offset_behavior"].values
    )[:, None]  # fmt: skip
    hand = np.interp(at, time, table["hand_pos_x"])
    np.testing.assert_allclose(both["behavior"].values[..., 1], hand, atol=0.5)


@needs(EEGLAB)
def test_stimuli_of_an_eeg_give_an_evoked_response(tmp_path):
    tree = ingested(EEGLAB, tmp_path, "eeg")
    labels = sorted(set(tree["events/label"].values.tolist()))
    assert labels == ["rt", "square"]
    tree = preprocess(tree, PreprocessConfig(eeg={"bandpass_hz": (1.0, 40.0), "line_hz": None}))
    block = {"by": "events", "labels": ["square"], "window_s": [-0.2, 0.8]}
    ds = trials([tree], given(TrialInput, trials=block))
    assert ds.sizes["time"] == 128
    assert ds.sizes["trial"] + sum(
        entry["count"] for entry in json.loads(ds.attrs["excluded"]) if entry["kind"] == "trial"
    ) == int((tree["events/label"].values == "square").sum())
    found = conditions([tree], given(ConditionInput, labels=labels, window_s=[-0.2, 0.8], folds=8,
                                     keep_time=True), seed=1)  # fmt: skip
    evoked = found["patterns"].values[0, 0, :, labels.index("square")]
    before = found["time"].values < 0
    # What follows a stimulus is the same in every fold, what precedes it is not.
    half = [evoked[:4].mean(axis=0), evoked[4:].mean(axis=0)]
    after = np.corrcoef(half[0][:, ~before].ravel(), half[1][:, ~before].ravel())[0, 1]
    assert after > 0.8
    assert np.abs(half[0][:, ~before]).max() > 2 * np.abs(half[0][:, before]).max()


@needs(WORM_FOLDER)
def test_a_worm_with_a_clock_of_its_own_needs_a_grid(tmp_path):
    source = WORM_FOLDER / "2022-08-02-31-data.h5"
    tree = ingested(source, tmp_path, "calcium", {"hdf5": DAG})
    with pytest.raises(DataError, match="resample: {dt_s"):
        trials([preprocess(tree, PreprocessConfig())], given(TrialInput))
    calcium = {"resample": {"dt_s": 0.6}, "normalise": "zscore"}
    ds = trials([preprocess(tree, PreprocessConfig(calcium=calcium))],
                given(TrialInput, regressors=["velocity"]))  # fmt: skip
    assert ds.sizes["trial"] == 1
    assert ds.attrs["bin_width_s"] == 0.6
    assert ds["unit"].size > 100
    assert ds.attrs["all_valid"] == 1
    assert np.isfinite(ds["regressor"].values).all()


def crossnobis(patterns):
    """Return the mean crossnobis distance of (run, condition, channel)."""
    runs, n, channels = patterns.shape
    total = patterns.sum(axis=0)
    within = np.einsum("mip,mjp->ij", patterns, patterns)
    gram = (total @ total.T - within) / (runs * (runs - 1) * channels)
    own = np.diag(gram)
    distance = own[:, None] + own - 2 * gram
    return distance[np.triu_indices(n, 1)].mean()


@needs(HAXBY)
def test_categories_of_haxby_differ_as_published(tmp_path):
    layout = {
        "events": "bold_events.tsv", "confounds": "bold_moest.txt", "mask": "all",
        "confound_columns": ["rot_x", "rot_y", "rot_z", "trans_x", "trans_y", "trans_z"],
    }  # fmt: skip
    stores = [
        ingested(image, tmp_path, "fmri", {"nifti": layout}, run=f"{k + 1:02d}")
        for k, image in enumerate(sorted(HAXBY.glob("task001_run*/bold_1slice.nii.gz")))
    ]
    block = {"labels": CATEGORIES, "units": {"where": "relative_intensity > 0.2"}}
    fmri = FmriPreprocess(confounds="6p", csf_wm=False, fd_threshold_mm=None)
    for estimate in ("window_mean", "glm"):
        settings = given(ConditionInput, **block, glm={"estimate": estimate, "lag_s": 5.0})
        ds = conditions(stores, settings, fmri=fmri)
        assert ds.sizes["run"] == 12
        values = ds["patterns"].values[0, 0]
        noise = (values - values.mean(axis=0)).reshape(-1, values.shape[2]).std(axis=0)
        rng = np.random.default_rng(0)
        shuffled = [values[m, rng.permutation(8)] for m in range(12)]
        found, null = crossnobis(values / noise), crossnobis(np.stack(shuffled) / noise)
        assert found > 4 * abs(null)
        if estimate == "window_mean":
            # Measured for the method: 0.28 with 488 voxels.
            assert found == pytest.approx(0.28, abs=0.01)
            assert ds.sizes["channel"] == pytest.approx(488, abs=6)
