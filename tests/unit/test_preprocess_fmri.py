"""Steps of fMRI against brute force least squares, and their traps."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import xarray as xr

from neuropipe.config.models import PreprocessConfig
from neuropipe.errors import ConfigError, DataError, MissingInput
from neuropipe.preprocess.chain import preprocess
from neuropipe.preprocess.fmri import bold_blocks, take_bold
from neuropipe.preprocess.fmri_motion import framewise_displacement, motion_terms
from neuropipe.preprocess.fmri_parcels import load_atlas_image
from neuropipe.simulate.fmri_files import MOTION, simulate_fmri, write_atlas

RUN = simulate_fmri(parcels=4, n_times=100, shape=(8, 9, 5))
TISSUE = np.random.default_rng(3).normal(size=(100, 2)).cumsum(axis=0)
BRAIN = RUN.labels > 0


def store(values=None, motion=RUN.motion, tissue=TISSUE, steady=2, tr=2.0, **columns):
    """Return an ingested store in memory."""
    values = RUN.values[BRAIN].T if values is None else values
    n_times, n_rows = values.shape
    names = ([*MOTION] if motion is not None else []) + (
        ["csf", "white_matter"] if tissue is not None else []
    )
    parts = [part for part in (motion, tissue) if part is not None]
    parts += [np.asarray(column)[:, None] for column in columns.values()]
    names += list(columns)
    data = {
        "bold": (("time", "voxel"), values, {"units": "a.u."}),
        "voxel_ok": ("voxel", np.ones(n_rows, bool)),
        "observed": (("interval", "edge"), [[0.0, tr * (n_times - 1)]]),
    }
    coords = {"time": tr * np.arange(n_times), "voxel": np.arange(n_rows)}
    if parts:
        data["confounds"] = (("time", "confound"), np.concatenate(parts, axis=1))
        data["sample_ok"] = ("time", np.arange(n_times) >= steady)
        coords["confound"] = np.array(names, dtype=object)
    places = np.nonzero(BRAIN)
    for name, index in zip("ijk", places, strict=True):
        if len(index) == n_rows:
            data[name] = ("voxel", index.astype(np.int32))
    raw = xr.Dataset(data, coords, {"affine": RUN.affine.tolist(), "volume_shape": [8, 9, 5]})
    root = xr.Dataset(attrs={"schema": "neuropipe.fmri", "recording": "sub-01_fmri"})
    return xr.DataTree.from_dict({"/": root, "/raw": raw})


def run(tree, **settings):
    return preprocess(tree, PreprocessConfig(fmri=settings))


def issues(tree):
    return [issue["code"] for issue in json.loads(tree.attrs["issues"])]


def design(kept, terms="24p", tissue=True, trend=True, high_pass=0.008, tr=2.0):
    """Write the whole design matrix down by hand, constant included."""
    n = len(kept)
    columns = [np.ones(n)]
    if terms != "none":
        moved = np.diff(RUN.motion, axis=0, prepend=np.nan)
        moved[0] = moved[1]
        full = [RUN.motion, moved, RUN.motion**2, moved**2]
        columns += [c for part in full[: 1 if terms == "6p" else 4] for c in part.T]
    columns += list(TISSUE.T) if tissue else []
    columns += [np.arange(n) / n] if trend else []
    if high_pass:
        # Every cosine of the discrete transform below the cut-off, on the whole clock.
        order = int(np.floor(2 * n * high_pass * tr))
        columns += [np.cos(np.pi * (np.arange(n) + 0.5) * k / n) for k in range(1, order + 1)]
    return np.stack(columns, axis=1)


def least_squares(values, matrix, kept):
    """Residuals at kept samples, with the mean put back as the fit at the mean regressor."""
    x = matrix[kept] - matrix[kept].mean(axis=0)
    x[:, 0] = 1.0
    beta = np.linalg.lstsq(x / np.abs(x).max(axis=0), values[kept], rcond=None)[0]
    fitted = (x / np.abs(x).max(axis=0)) @ beta
    return values[kept] - fitted + beta[0]


KEPT = (np.arange(100) >= 2) & ~(np.nan_to_num(RUN.displacement) > 0.5)


# --- displacement and censoring --------------------------------------------------------------


def test_displacement_is_that_of_power():
    motion = np.array([[0, 0, 0, 0, 0, 0], [1, -2, 0, 0, 0, 0], [1, -2, 0, 0.01, 0, -0.02]], float)
    np.testing.assert_allclose(framewise_displacement(motion), [np.nan, 3.0, 1.5])


def test_24_terms_are_parameters_differences_and_squares():
    terms = motion_terms(RUN.motion, "24p")
    assert terms.shape == (100, 24)
    np.testing.assert_array_equal(terms[1:, 6:12], np.diff(RUN.motion, axis=0))
    np.testing.assert_array_equal(terms[0, 6:12], terms[1, 6:12])
    np.testing.assert_array_equal(terms[:, 12:], terms[:, :12] ** 2)


def test_censored_volumes_stay_in_place_as_missing():
    result = run(store())
    assert (~KEPT).sum() >= 2 + 2 * len(RUN.spikes)
    assert result["activity"].sizes["time"] == 100
    np.testing.assert_array_equal(result["sample_ok"].values, KEPT)
    np.testing.assert_array_equal(np.isfinite(result["activity"].values).all(axis=1), KEPT)
    np.testing.assert_array_equal(result["valid"].values, np.isfinite(result["activity"].values))
    np.testing.assert_allclose(result["framewise_displacement"].values, RUN.displacement)


def test_the_displacement_of_the_source_is_preferred():
    stated = np.where(np.arange(100) == 50, 0.7, 0.1)
    result = run(store(framewise_displacement=stated))
    np.testing.assert_array_equal(np.flatnonzero(~result["sample_ok"].values), [0, 1, 50])


def test_no_threshold_censors_only_what_is_not_steady():
    result = run(store(), fd_threshold_mm=None)
    np.testing.assert_array_equal(np.flatnonzero(~result["sample_ok"].values), [0, 1])


def test_many_censored_volumes_are_an_issue_and_all_of_them_an_error():
    result = run(store(), fd_threshold_mm=float(np.nanmedian(RUN.displacement)), confounds="6p")
    assert "CENSORED" in issues(result)
    with pytest.raises(DataError, match="every volume moved"):
        run(store(steady=100))


# --- one model -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, {}),
        ({"confounds": "6p"}, {"terms": "6p"}),
        ({"confounds": "none", "csf_wm": False}, {"terms": "none", "tissue": False}),
        ({"detrend": False, "high_pass_hz": None}, {"trend": False, "high_pass": None}),
        ({"high_pass_hz": 0.02}, {"high_pass": 0.02}),
    ],
)
def test_the_result_is_one_least_squares_fit_over_kept_volumes(settings, terms):
    values = RUN.values[BRAIN].T.astype(np.float64)
    result = run(store(values), standardise="none", **settings)
    expected = least_squares(values, design(KEPT, **terms), KEPT)
    assert result["activity"].dtype == np.float64
    # Both solve the same normal equations; condition numbers of 1e4 cost 4 digits.
    np.testing.assert_allclose(result["activity"].values[KEPT], expected, rtol=0, atol=1e-6)


def test_what_censored_volumes_hold_does_not_matter():
    values = RUN.values[BRAIN].T.astype(np.float64)
    wild = values.copy()
    wild[~KEPT] = 1e6
    first, second = run(store(values)), run(store(wild))
    np.testing.assert_array_equal(first["activity"].values, second["activity"].values)


def test_steps_in_turn_would_put_back_what_was_taken_off():
    """The trap: high pass first, motion afterwards brings the slow drift in again."""
    values = RUN.values[BRAIN].T.astype(np.float64)
    drift = design(KEPT, terms="none", tissue=False)
    motion = design(KEPT, tissue=True, trend=False, high_pass=None)
    first = np.full(values.shape, np.nan)
    first[KEPT] = least_squares(values, drift, KEPT)
    in_turn = least_squares(first, motion, KEPT)
    together = run(store(values), standardise="none")["activity"].values[KEPT]
    slow = drift[KEPT] - drift[KEPT].mean(axis=0)
    leak = np.abs(slow.T @ (in_turn - in_turn.mean(axis=0))).max()
    assert leak > 1e3 * np.abs(slow.T @ (together - together.mean(axis=0))).max()
    assert np.abs(in_turn - together).max() > 1.0


@pytest.mark.parametrize("standardise", ["zscore_sample", "psc"])
def test_scales(standardise):
    values = RUN.values[BRAIN].T.astype(np.float64)
    cleaned = least_squares(values, design(KEPT), KEPT)
    mean, spread = cleaned.mean(axis=0), cleaned.std(axis=0, ddof=1)
    expected = (cleaned - mean) / (spread if standardise == "zscore_sample" else mean / 100)
    result = run(store(values), standardise=standardise)
    np.testing.assert_allclose(result["activity"].values[KEPT], expected, atol=1e-7)
    units = {"zscore_sample": "s.d.", "psc": "%"}
    assert result["activity"].attrs["units"] == units[standardise]


def test_rows_with_missing_samples_are_fitted_on_their_own():
    values = RUN.values[BRAIN].T.astype(np.float64)
    values[10:14, 3] = np.nan
    values[60, 7] = np.inf
    result = run(store(values), standardise="none")["activity"].values
    for row, extra in ((3, slice(10, 14)), (7, slice(60, 61))):
        use = KEPT.copy()
        use[extra] = False
        alone = least_squares(values[:, [row]], design(KEPT), use)
        np.testing.assert_allclose(result[use, row], alone[:, 0], atol=1e-6)
        assert np.isnan(result[~use, row]).all()


def test_flat_rows_are_missing_and_not_ok():
    values = RUN.values[BRAIN].T.copy()
    values[:, 5] = 700
    result = run(store(values))
    assert not result["voxel_ok"].values[5]
    assert result["voxel_ok"].values.sum() == values.shape[1] - 1
    assert np.isnan(result["activity"].values[:, 5]).all()
    assert issues(result) == ["FLAT_ROWS"]


def test_scaled_integers_are_cleaned_as_values():
    tree = store(RUN.values[BRAIN].T)
    values = RUN.values[BRAIN].T * 0.25 - 7.0
    tree["raw"]["bold"].attrs.update(scale_factor=0.25, add_offset=-7.0)
    expected = least_squares(values, design(KEPT), KEPT)
    result = run(tree, standardise="none")["activity"]
    assert result.dtype == np.float32
    # float32 of values near 250.
    np.testing.assert_allclose(result.values[KEPT], expected, atol=2e-4)


def test_source_values_are_those_of_the_store():
    tree = store(RUN.values[BRAIN].T)
    taken = take_bold(tree["raw"].to_dataset())
    np.testing.assert_array_equal(taken["activity"].values, RUN.values[BRAIN].T)
    assert sum(len(block) for _, block in bold_blocks(tree["raw"].to_dataset())) == 100


# --- what is absent --------------------------------------------------------------------------


def test_without_motion_the_error_names_the_remedy():
    message = r"lacks motion parameters: trans_x.*found: .*confounds: none"
    with pytest.raises(DataError, match=message):
        run(store(motion=None, tissue=None))
    result = run(store(motion=None, tissue=None), confounds="none")
    assert issues(result) == ["NO_MOTION", "NO_TISSUE_SIGNAL"]
    quiet = run(store(motion=None, tissue=None), confounds="none", csf_wm=False,
                fd_threshold_mm=None)  # fmt: skip
    assert issues(quiet) == []
    assert quiet["activity"].notnull().all()


def test_absent_tissue_signals_are_an_issue():
    assert issues(run(store(tissue=None))) == ["NO_TISSUE_SIGNAL"]


def test_a_regressor_that_is_no_number_at_a_kept_volume_is_refused():
    tissue = TISSUE.copy()
    tissue[40, 1] = np.nan
    with pytest.raises(DataError, match="not finite at volume 40"):
        run(store(tissue=tissue))
    first = TISSUE.copy()
    first[0] = np.nan
    run(store(tissue=first))


def test_too_few_volumes_for_the_model():
    short = store(RUN.values[BRAIN].T[:30], motion=RUN.motion[:30], tissue=TISSUE[:30])
    with pytest.raises(DataError, match=r"independent regressors.*6p"):
        run(short)
    run(short, confounds="6p")


def test_uneven_volumes_allow_no_high_pass():
    tree = store()
    time = 2.0 * np.arange(100)
    time[50:] += 7.0
    tree["raw"] = tree["raw"].to_dataset().assign_coords(time=time)
    with pytest.raises(DataError, match="high_pass_hz: null"):
        run(tree)
    run(tree, high_pass_hz=None)


# --- atlas -----------------------------------------------------------------------------------


@pytest.fixture
def atlas(tmp_path):
    write_atlas(RUN, tmp_path / "atlas.nii.gz")
    return str(tmp_path / "atlas.nii.gz")


def parcels(tree, atlas, **settings):
    return run(tree, parcellation={"atlas": atlas}, **settings)


def test_parcels_are_means_of_their_voxels(atlas):
    result = parcels(store(), atlas, standardise="none")
    means = np.stack([RUN.values[RUN.labels == k + 1].mean(axis=0) for k in range(4)], axis=1)
    expected = least_squares(means, design(KEPT), KEPT)
    np.testing.assert_allclose(result["activity"].values[KEPT], expected, atol=2e-4)
    assert list(result["parcel"].values) == RUN.names
    assert list(result["hemisphere"].values) == ["L", "L", "R", "R"]
    assert result["parcel_ok"].values.all()
    centre = (np.argwhere(RUN.labels == 1) @ RUN.affine[:3, :3] + RUN.affine[:3, 3]).mean(axis=0)
    np.testing.assert_allclose([float(result[n].values[0]) for n in "xyz"], centre)
    assert "voxel" not in result.dims


def test_cleaned_parcels_are_the_planted_signals_less_the_same_model(atlas):
    result = parcels(store(), atlas)["activity"].values[KEPT]
    planted = least_squares(RUN.signals, design(KEPT), KEPT)
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(result.T, planted.T, strict=True)]
    assert min(found) > 0.97


def test_parcel_means_leave_missing_voxels_out(atlas):
    values = RUN.values[BRAIN].T.astype(np.float64)
    lost = np.flatnonzero(RUN.labels[BRAIN] == 2)[:5]
    values[20, lost] = np.nan
    tree = store(values)
    settings = {"confounds": "none", "csf_wm": False, "detrend": False, "high_pass_hz": None}
    result = parcels(tree, atlas, standardise="none", **settings)["activity"].values
    rest = np.setdiff1d(np.flatnonzero(RUN.labels[BRAIN] == 2), lost)
    assert result[20, 1] == pytest.approx(values[20, rest].mean())


def test_an_atlas_on_another_grid_is_brought_to_the_data(tmp_path):
    fine = np.kron(RUN.labels, np.ones((2, 2, 2), np.int16))
    affine = RUN.affine.copy()
    affine[:3, :3] /= 2
    affine[:3, 3] -= 1.0
    nib.save(nib.Nifti1Image(fine, affine), tmp_path / "fine.nii.gz")
    result = parcels(store(), str(tmp_path / "fine.nii.gz"))
    write_atlas(RUN, tmp_path / "atlas.nii.gz")
    same = parcels(store(), str(tmp_path / "atlas.nii.gz"))
    np.testing.assert_array_equal(result["activity"].values, same["activity"].values)
    assert list(result["parcel"].values) == [f"parcel-{k}" for k in range(1, 5)]
    np.testing.assert_allclose(result["coverage"].values, 1.0)


def test_parcels_outside_the_data_are_missing(tmp_path):
    labels = RUN.labels.copy()
    outside = np.argwhere(labels == 0)
    # Parcel 4 gets twice its size again outside the head, so that a third of it is covered.
    extra = outside[: 2 * int((labels == 4).sum())]
    labels[tuple(extra.T)] = 4
    nib.save(nib.Nifti1Image(labels, RUN.affine), tmp_path / "a.nii.gz")
    result = parcels(store(), str(tmp_path / "a.nii.gz"))
    assert list(result["parcel_ok"].values) == [True, True, True, False]
    assert result["coverage"].values[3] == pytest.approx(1 / 3)
    assert np.isnan(result["activity"].values[:, 3]).all()
    assert issues(result) == ["LOW_COVERAGE"]
    far = RUN.affine.copy()
    far[:3, 3] += 500.0
    nib.save(nib.Nifti1Image(RUN.labels, far), tmp_path / "far.nii.gz")
    with pytest.raises(DataError, match="one space"):
        parcels(store(), str(tmp_path / "far.nii.gz"))


def test_faults_of_an_atlas(tmp_path):
    with pytest.raises(MissingInput, match="no such file"):
        parcels(store(), str(tmp_path / "none.nii.gz"))
    for name, values, words in (
        ("a", np.ones((3, 3, 3, 2), np.int16), "3-D"),
        ("b", np.full((3, 3, 3), 0.5, np.float32), "fractions"),
        ("c", np.zeros((3, 3, 3), np.int16), "no label"),
    ):
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii")
        with pytest.raises(DataError, match=words):
            load_atlas_image(str(tmp_path / f"{name}.nii"))
    write_atlas(RUN, tmp_path / "d.nii")
    (tmp_path / "d.tsv").write_text("index\tname\n1\tx\n2\tx\n")
    with pytest.raises(DataError, match="'x'"):
        load_atlas_image(str(tmp_path / "d.nii"))
    (tmp_path / "d.tsv").write_text("number\tname\n1\tx\n")
    with pytest.raises(ConfigError, match="'index'"):
        load_atlas_image(str(tmp_path / "d.nii"))
    (tmp_path / "e.nii").write_bytes(b"no image")
    with pytest.raises(DataError, match="nibabel"):
        load_atlas_image(str(tmp_path / "e.nii"))


def test_only_voxels_can_be_averaged(atlas):
    tree = store()
    raw = tree["raw"].to_dataset().rename(voxel="grayordinate", voxel_ok="grayordinate_ok")
    tree["raw"] = raw.drop_vars(["i", "j", "k"])
    with pytest.raises(DataError, match="takes voxels, the store holds grayordinates"):
        parcels(tree, atlas)
    assert run(tree)["activity"].dims == ("time", "grayordinate")


def test_steps_are_recorded_with_their_parameters(atlas):
    steps = json.loads(parcels(store(), atlas).attrs["pipeline"])
    assert [step["step"] for step in steps] == ["parcellation", "censor", "clean"]
    assert steps[1]["parameters"] == {"fd_threshold_mm": 0.5}
    assert steps[2]["parameters"]["high_pass_hz"] == 0.008
    assert len(steps[0]["parameters"]["sha256"]) == 64
    assert {"nilearn", "nibabel"} <= set(steps[0]["versions"])
    assert "nilearn" in steps[2]["versions"]


def test_the_store_is_not_changed():
    tree = store()
    before = tree.copy(deep=True)
    run(tree)
    assert tree.identical(before)
