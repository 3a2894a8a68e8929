"""Stores to patterns of conditions: trial folds, and the model of fMRI against nilearn's own."""

from __future__ import annotations

import json
import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from memory_stores import series_store, spike_store
from nilearn.glm.first_level import FirstLevelModel

from neuropipe.assemble.conditions import Input, conditions
from neuropipe.assemble.patterns import stratified_folds
from neuropipe.config.load import check_model
from neuropipe.config.models import FmriPreprocess, IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError, DataError
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.fmri_motion import motion_terms
from neuropipe.simulate.fmri_files import CONDITIONS, simulate_fmri, write_atlas, write_bids_fmri
from neuropipe.store.provenance import read_dataset, write_dataset
from neuropipe.store.zarr import open_store

FMRI = {
    (subject, run): simulate_fmri(4, 90, shape=(8, 9, 5), seed=10 * k + r)
    for k, subject in enumerate(("f01", "f02")) for r, run in enumerate(("1", "2"))
}  # fmt: skip
LABELS = list(CONDITIONS)
PLAIN = FmriPreprocess(confounds="6p", csf_wm=False, detrend=False, high_pass_hz=0.01)
STEADY = 2


def given(**block) -> Input:
    model, problems = check_model(Input, {"labels": LABELS} | block, "input")
    assert not problems, problems
    again, problems = check_model(Input, model.model_dump(mode="json"), "input")
    assert not problems and again == model
    return again


def codes(ds: xr.Dataset) -> list[str]:
    return [issue["code"] for issue in json.loads(ds.attrs["issues"])]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two subjects with two runs each, their images, and an atlas."""
    root = tmp_path_factory.mktemp("study")
    write_atlas(FMRI["f01", "1"], root / "atlas.nii.gz")
    stores, images = {}, {}
    for (subject, run), data in FMRI.items():
        image = write_bids_fmri(data, root / "bids", subject=subject, number=run)
        name = f"sub-{subject}_task-objects_run-{run}_fmri"
        row = Recording(
            name=name, subject=subject, task="objects", run=run, modality="fmri", path="x"
        )
        ingest_recording(row, image, IngestConfig(), root / f"{name}.zarr")
        stores[subject, run] = open_store(root / f"{name}.zarr")
        images[subject, run] = image
    return stores, images, str(root / "atlas.nii.gz")


# --- fMRI ------------------------------------------------------------------------------------


def theirs(image, data, noise) -> dict[str, np.ndarray]:
    """Return the weights of nilearn's own model of the same run, by condition."""
    events = pd.DataFrame(data.events, columns=["onset", "duration", "trial_type"])
    moved = np.nan_to_num(data.displacement) > 0.5
    moved[:STEADY] = True
    nuisance = pd.DataFrame(
        np.concatenate([motion_terms(data.motion, "6p"), np.eye(len(moved))[:, moved]], axis=1)
    ).add_prefix("n")
    mask = nib.load(str(image).replace("_bold.nii.gz", "_desc-brain_mask.nii.gz"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = FirstLevelModel(
            t_r=data.tr_s, hrf_model="glover", drift_model="cosine", high_pass=0.01,
            noise_model=noise, mask_img=mask, signal_scaling=False, minimize_memory=False,
        ).fit(str(image), events, nuisance)  # fmt: skip
        brain = data.labels > 0
        found = {}
        for label in LABELS:
            effect = model.compute_contrast(label, output_type="effect_size")
            found[label] = np.asarray(effect.dataobj)[brain]
        found["residuals"] = np.asarray(model.residuals[0].dataobj)[brain].T[~moved]
    return found


@pytest.mark.parametrize("noise", ["ols", "ar1"])
def test_weights_are_those_of_nilearn(study, noise):
    stores, images, _ = study
    ds = conditions([stores["f01", "1"]], given(glm={"noise": noise}), fmri=PLAIN)
    expected = theirs(images["f01", "1"], FMRI["f01", "1"], noise)
    assert ds["patterns"].dims == ("subject", "region", "run", "condition", "channel")
    values = ds["patterns"].values[0, 0, 0]
    index = np.array([name.split() for name in ds["channel_name"].values[0, 0]], dtype=int)
    grid = np.full(FMRI["f01", "1"].labels.shape, -1)
    grid[FMRI["f01", "1"].labels > 0] = np.arange((FMRI["f01", "1"].labels > 0).sum())
    order = grid[tuple(index.T)]
    for k, label in enumerate(LABELS):
        # nilearn keeps maps in float32.
        np.testing.assert_allclose(values[k], expected[label][order], rtol=2e-4, atol=2e-4)
    if noise == "ols":
        left = ds["noise_residuals"].values[0, 0, 0]
        np.testing.assert_allclose(left, expected["residuals"][:, order], atol=2e-2)


def test_each_run_is_a_fold_and_each_parcel_a_region(study):
    stores, _, atlas = study
    ds = conditions(list(stores.values())[::-1], given(regions=atlas), fmri=PLAIN)
    assert ds["subject"].values.tolist() == ["f01", "f02"]
    assert ds["run"].values.tolist() == ["1", "2"]
    assert ds["condition"].values.tolist() == LABELS
    assert ds["region"].values.tolist() == FMRI["f01", "1"].names
    sizes = [(FMRI["f01", "1"].labels == k + 1).sum() for k in range(4)]
    np.testing.assert_array_equal(ds["n_channels"].values, [sizes] * 2)
    for region, size in enumerate(sizes):
        values = ds["patterns"].values[:, region]
        assert np.isfinite(values[..., :size]).all()
        assert np.isnan(values[..., size:]).all()
    assert (ds["n_events"].values > 0).all()
    dof = ds["noise_dof"].values
    kept = sum((~(np.nan_to_num(FMRI["f01", r].displacement[STEADY:]) > 0.5)).sum() for r in "12")
    assert (dof < kept).all() and (dof > kept - 40).all()


def test_planted_responses_are_found_in_every_region(study):
    stores, _, atlas = study
    ds = conditions(list(stores.values()), given(regions=atlas), fmri=PLAIN)
    means = ds["patterns"].mean("channel").values
    # The response of a parcel to a condition is the same in every subject and run.
    first, second = means[0].mean(axis=1).ravel(), means[1].mean(axis=1).ravel()
    assert np.corrcoef(first, second)[0, 1] > 0.8


def test_places_of_voxels_are_in_mm(study):
    stores, _, _ = study
    ds = conditions([stores["f01", "1"]], given(), fmri=PLAIN)
    index = np.array([name.split() for name in ds["channel_name"].values[0, 0]], dtype=float)
    affine = FMRI["f01", "1"].affine
    expected = index @ affine[:3, :3].T + affine[:3, 3]
    found = np.stack([ds[axis].values[0, 0] for axis in "xyz"], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ds["x"].attrs["units"] == "mm"


def test_means_of_volumes_are_those_of_their_windows(study):
    stores, _, _ = study
    tree, data = stores["f01", "1"], FMRI["f01", "1"]
    fmri = FmriPreprocess(fd_threshold_mm=None)
    glm = {"estimate": "window_mean", "lag_s": 4.0}
    ds = conditions([tree], given(glm=glm), fmri=fmri)
    raw = tree["raw"].to_dataset()
    time, values = raw["time"].values, raw["bold"].values.astype(float)
    kept = np.arange(len(time)) >= STEADY
    for voxel in (0, 17):
        trend = np.polyval(np.polyfit(time[kept], values[kept, voxel], 2), time)
        course = values[:, voxel] - trend
        for k, label in enumerate(LABELS):
            means = [
                course[(time >= onset + 4) & (time < onset + duration + 4)].mean()
                for onset, duration, name in data.events if name == label
            ]  # fmt: skip
            assert ds["patterns"].values[0, 0, 0, k, voxel] == pytest.approx(np.mean(means))
    events = len(data.events)
    assert int(np.isfinite(ds["noise_residuals"].values[0, 0, 0, :, 0]).sum()) == events
    assert ds["noise_dof"].values.item() == events - len(LABELS)


def test_voxels_are_chosen_by_their_intensity_and_their_place(study):
    stores, _, _ = study
    where = "relative_intensity > 0.99 and k != 2"
    ds = conditions([stores["f01", r] for r in "12"], given(units={"where": where}), fmri=PLAIN)
    whole = conditions([stores["f01", r] for r in "12"], given(), fmri=PLAIN)
    assert 0 < ds.sizes["channel"] < whole.sizes["channel"]
    names = whole["channel_name"].values[0, 0].tolist()
    place = [names.index(name) for name in ds["channel_name"].values[0, 0]]
    np.testing.assert_array_equal(
        ds["patterns"].values[0], whole["patterns"].isel(channel=place).values[0]
    )
    assert all(name.split()[2] != "2" for name in ds["channel_name"].values[0, 0])
    (entry,) = json.loads(ds.attrs["excluded"])
    assert entry["count"] == whole.sizes["channel"] - ds.sizes["channel"]
    with pytest.raises(ConfigError, match="count spikes"):
        conditions([stores["f01", "1"]], given(units={"min_spikes": 3}), fmri=PLAIN)


def test_runs_that_cannot_be_used_are_left_out_with_the_reason(study):
    stores, _, _ = study
    cut = stores["f01", "2"].copy()
    cut["events"] = xr.DataTree(cut["events"].to_dataset().isel(event=[]))
    ds = conditions([stores["f01", "1"], cut], given(), fmri=PLAIN)
    assert ds["run"].values.tolist() == ["1"]
    assert "RECORDING_LEFT_OUT" in codes(ds)
    few = FmriPreprocess(confounds="24p", high_pass_hz=0.2)
    with pytest.raises(DataError, match=r"no recording is left .*(too few|cannot be told)"):
        conditions([stores["f01", "1"]], given(), fmri=few)
    unknown = stores["f01", "1"].copy()
    table = unknown["events"].to_dataset()
    unknown["events"] = xr.DataTree(table.assign(duration=table["duration"] * np.nan))
    with pytest.raises(DataError, match="has no duration"):
        conditions([unknown], given(), fmri=PLAIN)


def test_a_condition_of_no_recording_is_an_error_and_of_one_an_issue(study):
    stores, _, _ = study
    with pytest.raises(DataError, match=f"labelled 'tree'.*labels found: .*{LABELS[0]}"):
        conditions([stores["f01", "1"]], given(labels=[*LABELS, "tree"]), fmri=PLAIN)
    other = stores["f02", "1"].copy()
    table = other["events"].to_dataset()
    other["events"] = xr.DataTree(table.isel(event=table["label"].values != LABELS[0]))
    ds = conditions([stores["f01", "1"], other], given(), fmri=PLAIN)
    assert "CONDITION_MISSING" in codes(ds)
    assert np.isnan(ds["patterns"].values[1, 0, 0, 0]).all()
    assert np.isfinite(ds["patterns"].values[1, 0, 0, 1]).any()


def test_residuals_may_be_left_out_and_keys_must_fit_the_modality(study):
    stores, _, _ = study
    ds = conditions([stores["f01", "1"]], given(glm={"residuals": False}), fmri=PLAIN)
    assert "noise_residuals" not in ds
    for key, value in (("span_s", [0.0, 9.0]), ("keep_time", True)):
        with pytest.raises(ConfigError, match=f"input.{key}: patterns of fmri do not take it"):
            conditions([stores["f01", "1"]], given(**{key: value}), fmri=PLAIN)
    with pytest.raises(ConfigError, match="input.regions: patterns of eeg do not take it"):
        conditions([eeg()], given(regions="a.nii.gz"))


def test_runs_of_other_volumes_are_refused(study):
    stores, _, _ = study
    moved = stores["f01", "2"].copy()
    moved["raw"].attrs["affine"] = np.asarray(moved["raw"].attrs["affine"]) * 1.1
    with pytest.raises(DataError, match="different grids"):
        conditions([stores["f01", "1"], moved], given(), fmri=PLAIN)


# --- trials ----------------------------------------------------------------------------------


def eeg(subject="e1", *, rate=100.0, n_rows=3, seed=0, repeats=5, **more) -> xr.DataTree:
    """Return an EEG in which condition k adds k to row 0, 0.1 to 0.3 s after the event."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat(np.arange(3), repeats))
    onsets = 1.0 + 1.5 * np.arange(len(kinds))
    time = np.arange(0, onsets[-1] + 2, 1 / rate)
    values = 7.0 + rng.normal(scale=0.1, size=(len(time), n_rows))
    for onset, kind in zip(onsets, kinds, strict=True):
        values[(time >= onset + 0.1) & (time < onset + 0.3), 0] += kind
    labels = [LABELS[k] for k in kinds]
    return series_store(time, values, events=list(zip(onsets, labels, strict=True)),
                        subject_id=subject, **more)  # fmt: skip


@pytest.mark.parametrize(("counts", "folds"), [((8, 8, 8), 4), ((5, 7, 3), 4), ((1, 2), 3)])
def test_folds_have_equal_shares_of_every_condition(counts, folds):
    kinds = np.repeat(np.arange(len(counts)), counts)
    found = stratified_folds(kinds, folds, np.random.default_rng(1))
    for k in range(len(counts)):
        share = np.bincount(found[kinds == k], minlength=folds)
        assert share.max() - share.min() <= 1
    whole = np.bincount(found, minlength=folds)
    assert whole.max() - whole.min() <= 1


def test_patterns_are_means_of_trials_behind_their_baseline():
    ds = conditions([eeg()], given(folds=5))
    assert dict(ds["patterns"].sizes) == {
        "subject": 1, "region": 1, "run": 5, "condition": 3, "channel": 3,
    }  # fmt: skip
    values = ds["patterns"].values[0, 0]
    # A step of 0.2 s in the 0.49 s behind the event.
    expected = np.array([0, 1, 2]) * 20 / 49
    np.testing.assert_allclose(values[:, :, 0], np.tile(expected, (5, 1)), atol=0.12)
    np.testing.assert_allclose(values[:, :, 1:], 0, atol=0.12)
    assert (ds["n_events"].values == 1).all()
    assert "noise_residuals" not in ds
    plain = conditions([eeg()], given(folds=5, baseline_s=None))
    assert plain["patterns"].values[0, 0, :, :, 1].mean() == pytest.approx(7.0, abs=0.05)


def test_folds_depend_on_the_seed_and_not_on_other_subjects():
    stores = [eeg("e1"), eeg("e2", seed=1)]
    alone = conditions(stores[:1], given(folds=2), seed=3)
    both = conditions(stores[::-1], given(folds=2), seed=3)
    np.testing.assert_array_equal(both["patterns"].values[0], alone["patterns"].values[0])
    other = conditions(stores[:1], given(folds=2), seed=4)
    assert (other["patterns"].values != alone["patterns"].values).any()
    # Every trial is in one fold: the mean weighted by their number does not depend on the seed.
    for ds in (alone, other):
        weight = ds["n_events"].values[0][:, :, None]
        whole = (ds["patterns"].values[0, 0] * weight).sum(axis=0) / weight.sum(axis=0)
        if ds is alone:
            expected = whole
    np.testing.assert_allclose(whole, expected, atol=1e-12)


def test_time_may_be_kept_and_noise_is_that_of_the_baseline():
    ds = conditions([eeg(repeats=6)], given(folds=2, keep_time=True))
    assert ds["patterns"].dims[-1] == "time"
    np.testing.assert_allclose(ds["time"].values, -0.2 + np.arange(70) / 100)
    course = ds["patterns"].values[0, 0].mean(axis=0)[2, 0]
    inside = (ds["time"].values > 0.105) & (ds["time"].values < 0.295)
    np.testing.assert_allclose(course[inside], 2.0, atol=0.2)
    assert ds["noise_residuals"].sizes["sample"] == 9 * 21
    assert ds["noise_dof"].values.item() == (18 - 6) * 21
    # A mean of 3 trials and one of 21 samples are taken off; 567 samples know it to 3 %.
    expected = 0.1 * np.sqrt(2 / 3 * 20 / 21)
    assert float(ds["noise_residuals"].std()) == pytest.approx(expected, rel=0.1)


def test_noise_is_what_trials_leave_over_their_mean():
    ds = conditions([eeg(repeats=8)], given(folds=2))
    left = ds["noise_residuals"].values[0, 0]
    assert left.shape == (2, 12, 3)
    np.testing.assert_allclose(left.sum(axis=1), 0, atol=1e-5)
    assert ds["noise_dof"].values.item() == 24 - 6


def test_spikes_give_rates_and_are_not_baselined():
    onsets = 1.0 + np.arange(12)
    labels = [LABELS[k % 3] for k in range(12)]
    spikes = [
        np.concatenate([onset + np.linspace(0.011, 0.49, 5 * (k % 3)) for k, onset in
                        enumerate(onsets)]), np.arange(0.0, 14, 0.1),
    ]  # fmt: skip
    tree = spike_store([np.sort(s) for s in spikes], ((0.0, 14.0),),
                       events=list(zip(onsets, labels, strict=True)))  # fmt: skip
    ds = conditions([tree], given(folds=2, window_s=[0.0, 0.5]))
    np.testing.assert_allclose(ds["patterns"].values[0, 0, :, :, 0], [[0, 10, 20]] * 2)
    np.testing.assert_allclose(ds["patterns"].values[0, 0, :, :, 1], 10.0)
    assert ds["patterns"].attrs["units"] == "Hz"
    kept = conditions([tree], given(folds=2, window_s=[0.0, 0.5], keep_time=True, bin_ms=100))
    assert kept["patterns"].attrs["units"] == "1"
    np.testing.assert_allclose(kept["patterns"].values[0, 0, :, :, 1], 1.0)


def test_subjects_with_other_numbers_of_channels_are_padded():
    ds = conditions([eeg("e1"), eeg("e2", n_rows=5)], given(folds=3))
    np.testing.assert_array_equal(ds["n_channels"].values[:, 0], [3, 5])
    assert np.isnan(ds["patterns"].values[0, ..., 3:]).all()
    assert np.isfinite(ds["patterns"].values[1]).all()
    assert ds["channel_name"].values[0, 0].tolist() == ["E0", "E1", "E2", "", ""]
    with pytest.raises(DataError, match="trials have other times"):
        conditions([eeg("e1"), eeg("e2", rate=50.0)], given(keep_time=True))
    with pytest.raises(ConfigError, match="scope: cohort"):
        conditions([eeg("e1"), eeg("e2")], given(scope="subject"))


def test_trials_of_all_recordings_of_a_subject_count():
    stores = [eeg(run=str(k), seed=k) for k in (1, 2)]
    ds = conditions(stores, given(folds=5))
    assert (ds["n_events"].values == 2).all()
    sessions = [spike_store([[1.0]], events=[(1.0, LABELS[0])], session_id=s) for s in "ab"]
    with pytest.raises(ConfigError, match="sessions a, b, whose rows are not the same"):
        conditions(sessions, given())


def test_few_trials_and_subjects_without_any_are_told():
    ds = conditions([eeg(), series_store(np.arange(0, 9, 0.1), np.zeros(90), subject_id="e9")],
                    given(folds=8))  # fmt: skip
    assert ds["subject"].values.tolist() == ["e1"]
    assert sorted(codes(ds)) == ["FEW_TRIALS", "RECORDING_LEFT_OUT"]
    with pytest.raises(DataError, match="no recording is left"):
        conditions([eeg()], given(labels=["tree"]))
    with pytest.raises(ConfigError, match=r"write `labels: \[label, ...\]`"):
        conditions([eeg()], given(labels=[]))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"labels": ["a", "a"]}, "lists a condition twice"),
        ({"window_s": [1.0, 0.0]}, "must end after it starts"),
        ({"baseline_s": [-1.0, 0.0]}, "must lie within window_s"),
        ({"folds": 0}, "folds"),
        ({"glm": {"noise": "ar2"}}, "glm.noise"),
        ({"glm": {"lag": 5}}, "Did you mean 'lag_s'"),
    ],
)
def test_settings_that_contradict_each_other_are_named(block, message):
    assert message in "\n".join(check_model(Input, block, "input")[1])


def test_fields_are_described_and_a_file_keeps_the_dataset(study, tmp_path):
    schema = Input.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert not [k for k, v in model["properties"].items() if not v.get("description")]
    stores, _, atlas = study
    for name, ds in (
        ("fmri", conditions(list(stores.values()), given(regions=atlas), fmri=PLAIN)),
        ("eeg", conditions([eeg("e1"), eeg("e2", n_rows=5)], given(keep_time=True, folds=2))),
    ):
        write_dataset(ds, tmp_path / f"{name}.nc", {})
        again = read_dataset(tmp_path / f"{name}.nc")
        for variable in ds.variables:
            np.testing.assert_array_equal(again[variable].values, ds[variable].values)


def test_the_dataset_tells_how_its_patterns_were_made(study):
    stores, _, atlas = study
    both = [stores["f01", run] for run in "12"]
    ds = conditions(both, given(regions=atlas, glm={"noise": "ar1"}), fmri=PLAIN)
    making = json.loads(ds.attrs["making"])
    assert making["how"] == "glm"
    assert making["regions"] == "atlas.nii.gz"
    assert {key: making[key] for key in ("noise", "runs", "confounds", "high_pass_hz")} == {
        "noise": "ar1", "runs": 2, "confounds": "6p", "high_pass_hz": 0.01,
    }  # fmt: skip
    np.testing.assert_allclose(ds.attrs["affine"], np.ravel(FMRI["f01", "1"].affine))
    assert list(ds.attrs["volume_shape"]) == [8, 9, 5]
    glm = {"estimate": "window_mean", "lag_s": 4}
    ds = conditions(both, given(glm=glm), fmri=PLAIN)
    assert json.loads(ds.attrs["making"])["lag_s"] == 4
    ds = conditions([eeg()], given(window_s=[-0.1, 0.3], folds=2))
    making = json.loads(ds.attrs["making"])
    assert (making["how"], making["folds"], making["baseline_s"]) == ("trial_mean", 2, [None, 0.0])
    assert "affine" not in ds.attrs


def test_rows_of_grayordinates_are_vertices_and_voxels(tmp_path):
    """Vertices of a surface and voxels of one file keep their places and do not collapse."""
    from neuropipe.simulate.fmri_files import write_dense_cifti

    trees = []
    for run in "12":
        data = FMRI["f01", run]
        path = tmp_path / f"sub-f01_task-objects_run-{run}_space-fsLR_bold.dtseries.nii"
        write_dense_cifti(data, path)
        events = pd.DataFrame(data.events, columns=["onset", "duration", "trial_type"])
        events.to_csv(str(path).replace("_bold.dtseries.nii", "_events.tsv"), sep="\t", index=False)
        name = f"sub-f01_task-objects_run-{run}_fmri"
        row = Recording(
            name=name, subject="f01", task="objects", run=run, modality="fmri", path="x"
        )
        ingest_recording(row, path, IngestConfig(), tmp_path / f"{name}.zarr")
        trees.append(open_store(tmp_path / f"{name}.zarr"))
    plain = PLAIN.model_copy(update={"confounds": "none", "fd_threshold_mm": None})
    ds = conditions(trees, given(), fmri=plain)
    voxels = int((FMRI["f01", "1"].labels > 0).sum())
    assert ds.sizes["channel"] == voxels + 4
    names = ds["channel_name"].values.ravel()
    assert len(set(names)) == names.size
    assert names[:4].tolist() == [f"CORTEX_LEFT {k}" for k in (0, 2, 5, 9)]
    assert ds["vertex"].values.ravel()[:5].tolist() == [0, 2, 5, 9, -1]
    assert set(ds["structure"].values.ravel()[4:]) == {""}
    assert np.isnan(ds["x"].values.ravel()[:4]).all()
    assert np.isfinite(ds["x"].values.ravel()[4:]).all()
    again = read_dataset(_written(ds, tmp_path))
    assert again["structure"].values.ravel()[0] == "CORTEX_LEFT"


def _written(ds: xr.Dataset, folder):
    write_dataset(ds, folder / "input.nc", {})
    return folder / "input.nc"
