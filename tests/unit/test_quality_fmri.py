"""Quality figures of fMRI: the numbers behind them, and every kind of store."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr

from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import DataError
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.chain import preprocess
from neuropipe.report.quality import figures
from neuropipe.report.quality.fmri_maps import slices_of
from neuropipe.report.quality.fmri_numbers import depth_order, event_course, read_run
from neuropipe.simulate.fmri_files import simulate_fmri, write_bids_fmri, write_parcel_table
from neuropipe.store.zarr import open_store

RUN = simulate_fmri(n_times=80)
BRAIN = RUN.labels > 0


def ingest(source, folder, **override):
    row = Recording(name="sub-01_fmri", subject="01", modality="fmri", path="x")
    config = IngestConfig(overrides={"sub-01_fmri": override} if override else {})
    ingest_recording(row, source, config, folder / "sub-01_fmri.zarr")
    return open_store(folder / "sub-01_fmri.zarr")


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    raw = ingest(write_bids_fmri(RUN, folder / "b"), folder)
    return raw, preprocess(raw, PreprocessConfig(fmri={"confounds": "6p"}))


def test_five_figures_with_caption_and_numbers(stores):
    found = figures(*stores)
    assert list(found) == ["motion", "carpet", "noise", "events", "confounds"]
    for figure in found.values():
        assert figure.title
        assert "Good:" in figure.caption
        assert "Bad:" in figure.caption
        assert len(figure.table) > 0
        figure.canvas.draw()


def test_the_numbers_are_those_of_the_whole_array(stores):
    """Streamed sums against NumPy on the loaded array."""
    raw, processed = stores
    run = read_run(raw, processed)
    values = RUN.values[BRAIN].T.astype(np.float64)
    kept = processed["sample_ok"].values
    np.testing.assert_array_equal(run.kept, kept)
    clock = np.stack([np.ones(80), np.arange(80)], axis=1)[kept]
    fitted = clock @ np.linalg.lstsq(clock, values[kept], rcond=None)[0]
    spread = np.sqrt(((values[kept] - fitted) ** 2).sum(axis=0) / (kept.sum() - 2))
    np.testing.assert_allclose(run.before.mean, values[kept].mean(axis=0))
    np.testing.assert_allclose(run.before.tsnr, values[kept].mean(axis=0) / spread)
    change = np.sqrt((np.diff(values, axis=0) ** 2).mean(axis=1))
    np.testing.assert_allclose(run.before.dvars[1:], change)
    assert np.isnan(run.before.dvars[0])
    np.testing.assert_allclose(run.before.course, values.mean(axis=1))
    table = figures(raw, processed)["motion"].table
    np.testing.assert_allclose(table["framewise_displacement"], RUN.displacement)
    assert (~table["kept"]).sum() == (~kept).sum()


def test_dvars_joins_blocks(stores, monkeypatch):
    raw, processed = stores
    whole = read_run(raw, processed)
    monkeypatch.setattr("neuropipe.report.quality.fmri_numbers.BLOCK_BYTES", 3 * 2 * BRAIN.sum())
    parts = read_run(raw.load(), processed)
    np.testing.assert_allclose(parts.before.dvars, whole.before.dvars)
    np.testing.assert_allclose(parts.before.spread, whole.before.spread)
    np.testing.assert_array_equal(parts.before.carpet, whole.before.carpet)


def test_the_carpet_runs_from_the_rim_to_the_centre(stores):
    raw = stores[0]["raw"].to_dataset()
    order = depth_order(raw, "voxel")
    assert sorted(order) == list(range(BRAIN.sum()))
    centre = (np.array(BRAIN.shape) - 1) / 2
    places = np.stack([raw[n].values for n in "ijk"], axis=1)
    distance = np.abs((places - centre) / centre).max(axis=1)
    assert distance[order[:50]].mean() > distance[order[-50:]].mean() + 0.2


def test_maps_put_voxels_where_they_were_and_name_the_sides(stores):
    slices = slices_of(stores[0]["raw"].to_dataset())
    volume = slices.fill(RUN.values[BRAIN][:, 5].astype(float))
    np.testing.assert_array_equal(volume[BRAIN], RUN.values[BRAIN][:, 5])
    assert np.isnan(volume[~BRAIN]).all()
    assert slices.letters == ("L", "R", "P", "A")
    raw = stores[0]["raw"].to_dataset()
    flipped = RUN.affine.copy()
    flipped[0, 0] *= -1
    raw.attrs["affine"] = flipped.tolist()
    assert slices_of(raw).letters == ("R", "L", "P", "A")


def test_conditions_are_shifted_by_the_delay_of_the_response(stores):
    run = read_run(*stores)
    onset, duration, label = RUN.events[0]
    on = run.time[event_course(run, label) == 1]
    assert on[0] == pytest.approx(np.ceil((onset + 5.0) / 2.0) * 2.0)
    first = [t for t in on if t < onset + 20]
    assert len(first) == duration / RUN.tr_s


def test_confounds_that_were_regressed_out_are_gone_from_the_mean(stores):
    table = figures(*stores)["confounds"].table.set_index("confound")
    moved = table.loc[["trans_x", "trans_y", "rot_z", "csf"]]
    assert np.abs(moved["mean after"]).max() < 1e-3
    assert np.abs(moved["mean before"]).max() > 0.1


def test_drawing_changes_neither_store(stores):
    before = [tree.copy(deep=True) for tree in stores]
    figures(*stores)
    assert all(a.identical(b) for a, b in zip(stores, before, strict=True))


def test_parcels_without_motion_and_events(tmp_path):
    write_parcel_table(RUN, tmp_path / "a.tsv")
    raw = ingest(tmp_path / "a.tsv", tmp_path, tr_s=2.0)
    processed = preprocess(raw, PreprocessConfig(fmri={"confounds": "none", "csf_wm": False}))
    found = figures(raw, processed)
    assert list(found) == ["motion", "carpet", "noise", "events"]
    assert "The source states no motion" in found["motion"].caption
    assert len(found["motion"].axes) == 1
    assert list(found["noise"].table["parcel"]) == RUN.names
    assert list(figures(raw, None)) == list(found)


@pytest.mark.parametrize("case", ["flat", "nan", "one voxel", "three volumes"])
def test_odd_recordings_are_drawn(case):
    rng = np.random.default_rng(0)
    values = 100 + rng.normal(size=(3 if case == "three volumes" else 30, 4))
    if case == "flat":
        values[...] = 7.0
    if case == "nan":
        values[:, :3] = np.nan
    if case == "one voxel":
        values = values[:, :1]
    n_times, n_rows = values.shape
    coords = {"time": 2.0 * np.arange(n_times), "voxel": np.arange(n_rows)}
    places = {n: ("voxel", np.arange(n_rows) % (2 + k)) for k, n in enumerate("ijk")}
    raw = xr.Dataset({"bold": (("time", "voxel"), values), **places}, coords)
    raw.attrs = {"affine": np.eye(4).tolist(), "volume_shape": [3, 3, 4]}
    tree = xr.DataTree.from_dict({"/": xr.Dataset(), "/raw": raw})
    tree.attrs["schema"] = "neuropipe.fmri"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figures(tree, None)
        for figure in drawn.values():
            figure.canvas.draw()
    assert "carpet" in drawn


def test_a_store_without_its_series_is_refused(stores):
    raw, _ = stores
    with pytest.raises(DataError, match="no /raw/bold"):
        figures(raw.drop_nodes("raw"), None)
    with pytest.raises(DataError, match="`activity`"):
        figures(raw, xr.DataTree(xr.Dataset(attrs=raw.attrs)))
