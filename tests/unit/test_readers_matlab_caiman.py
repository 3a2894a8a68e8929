"""Readers of MATLAB files and of CaImAn results: the values that independent readers give."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr

from neuropipe.config.models import IngestConfig, IngestOverride
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.ingest import ingest_recording
from neuropipe.io.registry import match, readers
from neuropipe.simulate.calcium_files import CLOCK_START_S, write_caiman_hdf5, write_matlab_file
from neuropipe.store.schema import check_tree
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store

NAMES = ["AVAL", "AVAR", "", "VB02"]
N_TIMES = 40


@pytest.fixture(scope="module")
def activity():
    values = np.random.default_rng(1).standard_normal((1, len(NAMES), N_TIMES))
    coords = {"subject": ["01"], "neuron": [f"n{k}" for k in range(4)]}
    coords["time"] = np.arange(N_TIMES) / 4.0
    return xr.Dataset({"activity": (("subject", "neuron", "time"), values)}, coords)


def ingest(path, out, reader, settings, override=None):
    row = Recording(name="sub-01_calcium", subject="01", modality="calcium", path="x")
    overrides = {row.name: override} if override else {}
    config = IngestConfig(readers={reader: settings}, overrides=overrides)
    report = ingest_recording(row, path, config, out / f"{row.name}.zarr")
    assert validate_store(out / f"{row.name}.zarr") == []
    tree = open_store(out / f"{row.name}.zarr")
    assert check_tree(tree) == []
    return report, tree


def open_with(name, path, settings=None, override=None):
    reader = readers()[name]
    keys = reader.settings.model_validate(settings or {})
    return reader.open_recording(path, keys, IngestOverride.model_validate(override or {}))


# --- MATLAB ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_both_versions_of_matlab_files_give_the_same_store(activity, tmp_path, version):
    path = tmp_path / "a.mat"
    velocity = np.arange(2.0 * N_TIMES)
    settings = write_matlab_file(
        activity, "01", path, version=version, labels=NAMES, behavior={"velocity": velocity}
    )
    assert match(path)[0].name == "matlab"
    _, tree = ingest(path, tmp_path / "out", "matlab", settings)
    expected = activity["activity"].values[0].T
    np.testing.assert_array_equal(tree["raw/dff"].values, expected)
    assert tree["raw/dff"].dtype == np.float64
    assert tree["raw/label_source"].values.tolist() == NAMES
    assert tree["raw/label"].values.tolist() == ["AVAL", "AVAR", "", "VB2"]
    np.testing.assert_array_equal(tree["behavior/velocity"].values, velocity)
    assert tree["behavior/velocity"].dims == ("time_ball",)
    assert tree.attrs["t0_source"] == CLOCK_START_S
    np.testing.assert_allclose(np.diff(tree["behavior/time_ball"].values), 0.125)


def test_our_version_5_file_is_what_scipy_reads(activity, tmp_path):
    write_matlab_file(activity, "01", tmp_path / "a.mat", labels=NAMES)
    imaging = scipy.io.loadmat(tmp_path / "a.mat", simplify_cells=True)["imaging"]
    np.testing.assert_array_equal(imaging["dff"], activity["activity"].values[0])


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_frame_rate_in_the_file_stands_for_times(activity, tmp_path, version):
    path = tmp_path / "a.mat"
    settings = write_matlab_file(activity, "01", path, version=version, times=False)
    handle = open_with("matlab", path, settings)
    np.testing.assert_allclose(handle.raw["time"].values, np.arange(N_TIMES) / 4.0)
    assert handle.attrs["imaging_rate"] == 4.0
    with pytest.raises(ConfigError, match="exclude each other"):
        open_with("matlab", path, {**settings, "rate_hz": 3.0})


def test_times_may_be_sample_numbers_of_an_acquisition_clock(tmp_path):
    frames = 100 + 50 * np.arange(30)  # three planes per volume
    scipy.io.savemat(tmp_path / "a.mat", {"F": np.ones((2, 10)), "pos": {"frame": frames}})
    clock = {"path": "pos.frame", "rate_hz": 1000.0, "every": 3, "offset_s": 0.5}
    handle = open_with("matlab", tmp_path / "a.mat", {"datasets": {"traces": "F", "time": clock}})
    np.testing.assert_allclose(handle.raw["time"].values, 0.6 + 0.15 * np.arange(10))
    keys = {"datasets": {"traces": "F", "time": clock}, "time_unit": "ms"}  # of other times
    again = open_with("matlab", tmp_path / "a.mat", keys)
    np.testing.assert_allclose(again.raw["time"].values, handle.raw["time"].values)


def test_faults_of_a_field_map_are_named(activity, tmp_path):
    path = tmp_path / "a.mat"
    settings = write_matlab_file(activity, "01", path, labels=NAMES)
    wrong = {**settings, "datasets": {**settings["datasets"], "traces": "imaging.dFf"}}
    with pytest.raises(IngestError, match=r"imaging\.dFf.*imaging\.dff"):
        open_with("matlab", path, wrong)
    text = {**settings, "datasets": {**settings["datasets"], "traces": "imaging.names"}}
    with pytest.raises(IngestError, match="numbers expected"):
        open_with("matlab", path, text)
    with pytest.raises(ConfigError, match=r"imaging\.dff \(4, 40\)"):
        open_with("matlab", path)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_a_cut_matlab_file_is_refused(activity, tmp_path, version):
    path = tmp_path / "a.mat"
    settings = write_matlab_file(activity, "01", path, version=version)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(IngestError, match="TRUNCATED"):
        ingest(path, tmp_path / "out", "matlab", settings)
    assert not list(tmp_path.glob("out/*"))


def test_another_format_under_the_name_of_matlab_is_refused(tmp_path):
    (tmp_path / "a.mat").write_text("no MATLAB")
    with pytest.raises(IngestError, match="NOT_THIS_FORMAT"):
        match(tmp_path / "a.mat")
    with pytest.raises(IngestError, match="header"):
        open_with("matlab", tmp_path / "a.mat")


# --- CaImAn ----------------------------------------------------------------------------------


def test_caiman_results_are_read_as_they_are(activity, tmp_path):
    path = tmp_path / "a.hdf5"
    settings = write_caiman_hdf5(activity, "01", path)
    assert match(path)[0].name == "caiman"
    _, tree = ingest(path, tmp_path / "out", "caiman", settings)
    with h5py.File(path) as file:
        for series, name in (("fluorescence", "C"), ("dff", "F_dff"), ("deconvolved", "S")):
            np.testing.assert_array_equal(
                tree[f"raw/{series}"].values, file["estimates"][name][:].T
            )
        footprints = scipy.sparse.csc_matrix(
            tuple(file[f"estimates/A/{part}"][:] for part in ("data", "indices", "indptr")),
            shape=file["estimates/A/shape"][:],
        ).toarray()
    assert tree["raw/is_cell"].values.tolist() == [True, False, True, False]
    assert tree.attrs["rate"] == pytest.approx(4.0)
    rows, columns = np.mgrid[0:40, 0:50]
    for k in range(4):
        image = footprints[:, k].reshape((40, 50), order="F")
        assert tree["raw/y"].values[k] == pytest.approx((image * rows).sum() / image.sum())
        assert tree["raw/x"].values[k] == pytest.approx((image * columns).sum() / image.sum())


def test_caiman_results_without_evaluation_or_rate(activity, tmp_path):
    path = tmp_path / "a.hdf5"
    settings = write_caiman_hdf5(activity, "01", path, evaluated=False, rate=False)
    with pytest.raises(IngestError, match="MISSING_SIDECAR"):
        open_with("caiman", path)
    handle = open_with("caiman", path, settings)
    assert "is_cell" not in handle.raw
    assert [issue.code for issue in handle.issues] == ["MISSING_SIDECAR"]
    handle.close()
    write_caiman_hdf5(activity, "01", tmp_path / "b.hdf5")
    other = open_with("caiman", tmp_path / "b.hdf5", {"rate_hz": 5.0})
    assert "RATE_MISMATCH" in [issue.code for issue in other.issues]
    assert other.raw["time"].values[1] == 0.2
    other.close()


def test_faulty_caiman_results_are_refused(activity, tmp_path):
    path = tmp_path / "a.hdf5"
    write_caiman_hdf5(activity, "01", path)
    with h5py.File(path, "r+") as file:
        file["estimates/idx_components"][0] = 9
    with pytest.raises(IngestError, match="names component 9, there are 4"):
        open_with("caiman", path)
    write_caiman_hdf5(activity, "01", path)
    with h5py.File(path, "r+") as file:
        file["estimates/S"][...] = 0
        del file["estimates/F_dff"]
    handle = open_with("caiman", path)
    assert [source.name for source in handle.sources] == ["fluorescence"]
    assert "ALL_ZERO" in [issue.code for issue in handle.issues]
    handle.close()
