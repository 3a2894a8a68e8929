"""fMRI recordings from their source files to the stores, and every fault on the way."""

from __future__ import annotations

import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from ingests import START, codes, ingest_source, refusal_check

from neuropipe.errors import ConfigError
from neuropipe.io.fmri.volumes import load_image
from neuropipe.io.registry import match
from neuropipe.io.scan import scan
from neuropipe.simulate.fmri_files import (
    MOTION,
    simulate_fmri,
    write_atlas,
    write_bids_fmri,
    write_dense_cifti,
    write_functional_gifti,
    write_parcel_cifti,
    write_parcel_table,
)
from neuropipe.store.nwb import from_nwb
from neuropipe.store.schema import check_tree
from neuropipe.store.validate import validate_store

NAME = "sub-01_fmri"
RUN = simulate_fmri(parcels=4, n_times=50, shape=(8, 9, 5))
BRAIN = RUN.labels > 0


def ingest(source, out, readers=None, reader="", **override):
    row = {"reader": reader, "session_start": START}
    return ingest_source(source, out, "fmri", override=override, row=row, readers=readers or {})


check_refusal = refusal_check(ingest)


def check_stores(tree, out):
    """Check schema and hash of both stores, and that NWB gives the same back."""
    assert check_tree(tree) == []
    assert from_nwb(out / f"{NAME}.nwb").identical(tree)


def test_events_of_one_recording_are_named_or_described(tmp_path):
    write_bids_fmri(RUN, tmp_path / "set")
    source = next((tmp_path / "set").rglob("*_bold.nii.gz"))
    next(source.parent.glob("*_events.tsv")).unlink()
    (source.parent / "e.tsv").write_text("onset\tduration\ttrial_type\n3.0\t1.0\tgo\n")
    for number, events in enumerate(("e.tsv", {"path": "e.tsv", "time_unit": "s"})):
        _, tree = ingest(source, tmp_path / str(number), events=events)
        assert list(tree["events/label"].values) == ["go"]
        np.testing.assert_array_equal(tree["events/onset"].values, [3.0])


def test_headers_without_zooms_draw_no_line(tmp_path, caplog, capfd):
    path = tmp_path / "c.dtseries.nii"
    write_dense_cifti(RUN, path)
    capfd.readouterr()
    caplog.clear()
    load_image(path)
    assert caplog.records == []
    assert capfd.readouterr().err == ""


def test_both_stores_are_valid(bids, tmp_path):
    ingest(bids[1], tmp_path / "o")
    for suffix in (".zarr", ".nwb"):
        found = validate_store(tmp_path / f"o/{NAME}{suffix}")
        assert [issue for issue in found if issue.severity == "error"] == []


@pytest.fixture(scope="session")
def data_set(tmp_path_factory):
    """A BIDS data set of one run; tests that change it take a copy."""
    root = tmp_path_factory.mktemp("bids")
    write_bids_fmri(RUN, root, number="1")
    return root


@pytest.fixture
def bids(data_set, tmp_path):
    """Folder of a copy, and its image."""
    shutil.copytree(data_set, tmp_path / "bids")
    func = tmp_path / "bids/sub-01/func"
    return func, func / "sub-01_task-objects_run-1_bold.nii.gz"


def save(values, path, affine=RUN.affine, tr=2.0, unit="sec", **scale):
    image = nib.Nifti1Image(values, affine)
    image.header.set_zooms((*image.header.get_zooms()[:3], tr, 1.0)[: values.ndim])
    image.header.set_xyzt_units("mm", unit)
    if scale:
        image.header.set_slope_inter(**scale)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


# --- what comes in ---------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [".nii.gz", ".nii"])
def test_bids_volumes_come_in_as_they_are(tmp_path, extension):
    image = write_bids_fmri(RUN, tmp_path / "b", extension=extension)
    report, tree = ingest(image, tmp_path / "o")
    check_stores(tree, tmp_path / "o")
    assert codes(report) == []
    raw = tree["raw"].to_dataset()
    assert report["sizes"] == {"time": 50, "voxel": int(BRAIN.sum())}
    assert raw["bold"].dtype == np.int16
    np.testing.assert_array_equal(raw["bold"].values, RUN.values[BRAIN].T)
    np.testing.assert_array_equal(np.stack([raw[n].values for n in "ijk"]), np.nonzero(BRAIN))
    assert {raw[n].dtype for n in "ijk"} == {np.dtype(np.int32)}
    np.testing.assert_array_equal(raw["time"].values, 2.0 * np.arange(50))
    np.testing.assert_array_equal(raw.attrs["affine"], RUN.affine)
    assert raw.attrs["volume_shape"] == [8, 9, 5]
    assert raw.attrs["resolution"] == [4.0, 4.0, 4.0]
    np.testing.assert_allclose(raw["slice_timing"].values, 0.4 * np.arange(5))
    assert list(tree["events/label"].values) == [label for _, _, label in RUN.events]
    assert list(tree["events/onset"].values) == [onset for onset, _, _ in RUN.events]
    assert tree.attrs["dataset"] == "simulated objects"
    assert tree.attrs["rate"] == 0.5


def test_confounds_keep_names_order_and_missing_values(bids, tmp_path):
    _, image = bids
    _, tree = ingest(image, tmp_path / "o")
    raw = tree["raw"].to_dataset()
    table = raw["confounds"]
    assert table.dims == ("time", "confound")
    assert list(raw["confound"].values[:3]) == ["csf", "white_matter", "global_signal"]
    for k, name in enumerate(MOTION):
        np.testing.assert_array_equal(table.sel(confound=name).values, RUN.motion[:, k])
    assert np.isnan(table.sel(confound="trans_x_derivative1").values[0])
    np.testing.assert_array_equal(
        table.sel(confound="framewise_displacement").values, RUN.displacement
    )
    np.testing.assert_array_equal(raw["sample_ok"].values, np.arange(50) >= 2)


def test_the_image_is_referred_to_by_name_and_hash(bids, tmp_path):
    _, image = bids
    report, tree = ingest(image, tmp_path / "o")
    listed = {e["path"]: e["sha256"] for e in json.loads(tree["raw"].attrs["source_files"])}
    assert listed == {e["path"]: e["sha256"] for e in report["source"]}
    assert image.name in listed
    assert f"{image.name.removesuffix('_bold.nii.gz')}_desc-brain_mask.nii.gz" in listed
    again, second = ingest(tmp_path / f"o/{NAME}.nwb", tmp_path / "p", reader="nwb_fmri")
    assert again["content_sha256"] == report["content_sha256"]
    assert second["raw"].attrs["source_files"] == tree["raw"].attrs["source_files"]


def test_two_ingests_have_one_hash(bids, tmp_path):
    _, image = bids
    first, _ = ingest(image, tmp_path / "o")
    second, _ = ingest(image, tmp_path / "p")
    assert first["content_sha256"] == second["content_sha256"]
    assert first["attrs"] == second["attrs"]


def test_scaled_integers_stay_integers(tmp_path):
    stored = RUN.values[..., :6].astype(np.int16)
    path = save(stored, tmp_path / "a.nii.gz", slope=0.5, inter=-3.0)
    # nibabel scales on writing: what lies in the file counts, not what went in.
    proxy = nib.load(path).dataobj
    _, tree = ingest(path, tmp_path / "o", {"nifti": {"mask": "all"}})
    check_stores(tree, tmp_path / "o")
    bold = tree["raw/bold"]
    assert bold.dtype == np.int16
    assert (bold.attrs["scale_factor"], bold.attrs["add_offset"]) == (0.5, -3.0)
    values = bold.values * bold.attrs["scale_factor"] + bold.attrs["add_offset"]
    np.testing.assert_array_equal(values.T, np.asarray(proxy).reshape(-1, 6))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64", ">f4", ">i2"])
def test_the_dtype_of_the_source_is_kept(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 200, (3, 4, 5, 7)).astype(dtype)
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(values, RUN.affine, dtype=values.dtype), path)
    _, tree = ingest(path, tmp_path / "o", {"nifti": {"mask": "all"}}, tr_s=1.5)
    assert tree["raw/bold"].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(tree["raw/bold"].values.T, values.reshape(-1, 7))
    assert tree["raw/time"].values[1] == 1.5


@pytest.mark.parametrize("case", ["nan", "one voxel", "one volume", "no events", "words"])
def test_edge_cases_go_to_nwb_and_back(tmp_path, case):
    values = np.random.default_rng(1).normal(size=(2, 2, 2, 9)).astype(np.float32)
    mask = np.ones((2, 2, 2), np.uint8)
    if case == "nan":
        values[0, 1, 0, 2:4] = np.nan
    if case == "one voxel":
        mask[...] = 0
        mask[1, 0, 1] = 1
    path = save(values[..., :1] if case == "one volume" else values, tmp_path / "a_bold.nii.gz")
    save(mask, tmp_path / "a_bold_brain_mask.nii.gz")
    events = {
        "no events": "onset\tduration\ttrial_type\n",
        "words": "onset\tduration\ttrial_type\n2\tn/a\tä 神\n4\t1\t\n",
    }
    if case in events:
        (tmp_path / "a_events.tsv").write_text(events[case], encoding="utf-8")
    report, tree = ingest(path, tmp_path / "o")
    check_stores(tree, tmp_path / "o")
    assert ("NAN_IN_DATA" in codes(report)) == (case == "nan")
    if case == "nan":
        np.testing.assert_array_equal(
            tree["raw/valid"].values, np.isfinite(values.reshape(-1, 9).T)
        )


def test_blocks_join_to_the_same_samples_whatever_their_size(bids):
    _, image = bids
    reader, _ = match(image, "fmri")
    config = reader.settings()
    from neuropipe.config.models import IngestOverride

    handle = reader.open_recording(image, config, IngestOverride())
    for size in (1, 3 * 8 * 9 * 5 * 2, 1 << 30):
        parts = list(handle.blocks(size))
        assert [p.start for p in parts] == np.cumsum([0, *(len(p.values) for p in parts)])[
            :-1
        ].tolist()
        assert len(parts) == {1: 50, 2160: 17, 1 << 30: 1}[size]
        joined = np.concatenate([p.values for p in parts])
        np.testing.assert_array_equal(joined, RUN.values[BRAIN].T)


def test_a_mask_is_computed_where_none_is_given(tmp_path):
    run = simulate_fmri(n_times=30)
    image = write_bids_fmri(run, tmp_path / "b", mask=False)
    report, tree = ingest(image, tmp_path / "o")
    assert codes(report) == ["MASK_COMPUTED"]
    brain = run.labels > 0
    found = np.zeros(brain.shape, bool)
    found[tuple(tree["raw"][n].values for n in "ijk")] = True
    # The simulated head stands clear of its background; opening takes off its corners.
    assert found.sum() > 0.4 * brain.sum()
    assert not (found & ~brain).any()


def test_a_table_without_header_takes_names_from_the_settings(tmp_path):
    path = save(RUN.values, tmp_path / "bold_1slice.nii.gz")
    np.savetxt(tmp_path / "bold_moest.txt", RUN.motion)
    (tmp_path / "bold_events.tsv").write_text("onset\tduration\ttrial_type\n4\t2\tface\n")
    settings = {"events": "bold_events.tsv", "confounds": "bold_moest.txt", "mask": "all"}
    check_refusal("MISSING_SIDECAR", "6 columns without names", path, tmp_path / "o",
           readers={"nifti": settings})  # fmt: skip
    named = {**settings, "confound_columns": list(MOTION)}
    report, tree = ingest(path, tmp_path / "o", {"nifti": named})
    assert codes(report) == []
    np.testing.assert_array_equal(tree["raw/confounds"].values, RUN.motion)
    short = {**settings, "confound_columns": ["trans_x"]}
    check_refusal("LENGTH_MISMATCH", "names 1", path, tmp_path / "p", readers={"nifti": short})
    absent = {**settings, "events": "events.tsv"}
    with pytest.raises(ConfigError, match=r"events: 'events.tsv' does not exist"):
        ingest(path, tmp_path / "p", {"nifti": absent})
    outside = {**settings, "events": "../events.tsv"}
    check_refusal(
        "UNSAFE", "leads out of the folder", path, tmp_path / "p", readers={"nifti": outside}
    )


def test_sidecars_of_higher_folders_apply_and_the_nearest_wins(bids, tmp_path):
    func, image = bids
    (func.parents[1] / "task-objects_bold.json").write_text(
        json.dumps({"RepetitionTime": 3.0, "SliceTiming": [0.0, 1.0]})
    )
    own = func / "sub-01_task-objects_run-1_bold.json"
    own.write_text(json.dumps({"RepetitionTime": 2.0}))
    _, tree = ingest(image, tmp_path / "o")
    assert tree["raw/time"].values[1] == 2.0
    assert list(tree["raw/slice_timing"].values) == [0.0, 1.0]


def test_sidecars_can_be_left_alone(bids, tmp_path):
    report, tree = ingest(bids[1], tmp_path / "o", {"nifti": {"mask": "all"}}, sidecars=False)
    assert [entry["path"] for entry in report["source"]] == [bids[1].name]
    assert "confounds" not in tree["raw"]
    assert "events" not in tree.children
    assert codes(report) == []


def test_volume_times_of_sparse_acquisition_are_kept(bids, tmp_path):
    func, image = bids
    times = np.cumsum(np.where(np.arange(50) % 5, 2.0, 6.0)).tolist()
    (func / "sub-01_task-objects_run-1_bold.json").write_text(json.dumps({"VolumeTiming": times}))
    _, tree = ingest(image, tmp_path / "o")
    np.testing.assert_array_equal(tree["raw/time"].values, np.array(times) - times[0])


def test_header_times_in_milliseconds_are_seconds_in_the_store(tmp_path):
    path = save(RUN.values[..., :4], tmp_path / "a.nii.gz", tr=720.0, unit="msec")
    _, tree = ingest(path, tmp_path / "o", {"nifti": {"mask": "all"}})
    np.testing.assert_allclose(tree["raw/time"].values, 0.72 * np.arange(4), rtol=1e-15)


def test_a_header_time_without_unit_is_taken_as_seconds_with_an_issue(tmp_path):
    path = save(RUN.values[..., :4], tmp_path / "a.nii.gz", tr=0.72, unit="unknown")
    report, tree = ingest(path, tmp_path / "o", {"nifti": {"mask": "all"}})
    assert tree["raw/time"].values[1] == 0.72
    assert "UNITS_INFERRED" in codes(report)


# --- other formats ---------------------------------------------------------------------------


def test_dense_cifti(tmp_path):
    samples = write_dense_cifti(RUN, tmp_path / "sub-01_task-rest_space-fsLR_bold.dtseries.nii")
    source = next(tmp_path.glob("*.dtseries.nii"))
    report, tree = ingest(source, tmp_path / "o")
    check_stores(tree, tmp_path / "o")
    raw = tree["raw"].to_dataset()
    assert report["sizes"] == {"time": 50, "grayordinate": samples.shape[1]}
    np.testing.assert_array_equal(raw["bold"].values, samples)
    assert raw["bold"].dtype == np.float32
    assert list(raw["vertex"].values[:5]) == [0, 2, 5, 9, -1]
    assert list(raw["structure"].values[:1]) == ["CIFTI_STRUCTURE_CORTEX_LEFT"]
    np.testing.assert_array_equal(np.stack([raw[n].values[4:] for n in "ijk"]), np.nonzero(BRAIN))
    assert raw.attrs["space"] == "fsLR"
    assert raw.attrs["volume_shape"] == [8, 9, 5]
    assert raw["time"].values[1] == 2.0


def test_parcel_cifti(tmp_path):
    samples = write_parcel_cifti(RUN, tmp_path / "a.ptseries.nii")
    _, tree = ingest(tmp_path / "a.ptseries.nii", tmp_path / "o")
    check_stores(tree, tmp_path / "o")
    np.testing.assert_array_equal(tree["raw/bold"].values, samples)
    assert list(tree["raw/parcel"].values) == RUN.names
    counts = [(RUN.labels == k + 1).sum() for k in range(4)]
    assert list(tree["raw/n_voxels"].values) == counts


def test_functional_gifti(tmp_path):
    samples = write_functional_gifti(RUN, tmp_path / "a.func.gii")
    _, tree = ingest(tmp_path / "a.func.gii", tmp_path / "o")
    check_stores(tree, tmp_path / "o")
    np.testing.assert_array_equal(tree["raw/bold"].values, samples)
    assert tree["raw/time"].values[1] == 2.0
    assert set(tree["raw/structure"].values) == {"CIFTI_STRUCTURE_CORTEX_LEFT"}
    write_functional_gifti(RUN, tmp_path / "b.func.gii", stated=False)
    check_refusal("MISSING_SIDECAR", "repetition time", tmp_path / "b.func.gii", tmp_path / "p")
    _, tree = ingest(tmp_path / "b.func.gii", tmp_path / "p", tr_s=1.0)
    assert tree["raw/time"].values[1] == 1.0
    text = (tmp_path / "a.func.gii").read_bytes()
    (tmp_path / "c.func.gii").write_bytes(text[: len(text) // 2])
    check_refusal("TRUNCATED", "XML", tmp_path / "c.func.gii", tmp_path / "q")


@pytest.mark.parametrize("suffix", [".tsv", ".csv"])
def test_parcel_table(tmp_path, suffix):
    path = tmp_path / f"rois{suffix}"
    write_parcel_table(RUN, path)
    check_refusal("MISSING_SIDECAR", "repetition time", path, tmp_path / "o", reader="roi_table")
    _, tree = ingest(path, tmp_path / "o", tr_s=2.0)
    check_stores(tree, tmp_path / "o")
    means = [RUN.values[RUN.labels == k + 1].mean(axis=0) for k in range(4)]
    np.testing.assert_array_equal(
        tree["raw/bold"].values, np.float32(np.stack(means, axis=1)).astype(np.float64)
    )
    assert list(tree["raw/parcel"].values) == RUN.names


def test_faults_of_a_parcel_table(tmp_path):
    path, out = tmp_path / "a.csv", tmp_path / "o"
    path.write_text("a,b\n1,n/a\n2,3\n", encoding="utf-8-sig")
    report, _ = ingest(path, out, tr_s=1.0)
    assert "NAN_IN_DATA" in codes(report)
    path.write_text("a,b\n1,x\n")
    check_refusal("NOT_THIS_FORMAT", "column b", path, tmp_path / "p", tr_s=1.0)
    path.write_text("a,a\n1,2\n")
    check_refusal("DUPLICATE_COLUMN", "'a'", path, tmp_path / "p", tr_s=1.0)
    path.write_text("1,2\n3,4\n")
    check_refusal("MISSING_SIDECAR", "names of parcels", path, tmp_path / "p", tr_s=1.0)
    path.write_text("a,b\n")
    check_refusal("EMPTY", "time", path, tmp_path / "p", tr_s=1.0)


# --- faults of section 10 --------------------------------------------------------------------


def test_a_repetition_time_out_of_range_is_refused_and_can_be_overridden(tmp_path):
    path = save(RUN.values[..., :3], tmp_path / "a.nii.gz", tr=2000.0)
    keep = {"nifti": {"mask": "all"}}
    check_refusal("UNITS", r"2000 s.*tr_s: 2", path, tmp_path / "o", readers=keep)
    report, tree = ingest(path, tmp_path / "o", keep, tr_s=2.0)
    assert tree["raw/time"].values[1] == 2.0
    assert "TR_OVERRIDDEN" in codes(report)
    check_refusal("UNITS", "tr_s of the settings", path, tmp_path / "p", readers=keep, tr_s=25.0)


def test_header_and_sidecar_must_agree_within_a_millisecond(bids, tmp_path):
    func, image = bids
    sidecar = func / "sub-01_task-objects_run-1_bold.json"
    sidecar.write_text(json.dumps({"RepetitionTime": 2.0009}))
    _, tree = ingest(image, tmp_path / "o")
    assert tree["raw/time"].values[1] == 2.0009
    sidecar.write_text(json.dumps({"RepetitionTime": 2.5}))
    check_refusal("TR_MISMATCH", "header 2 s, JSON sidecar 2.5 s", image, tmp_path / "p")
    _, tree = ingest(image, tmp_path / "p", tr_s=2.5)
    assert tree["raw/time"].values[1] == 2.5


def test_no_repetition_time_at_all(tmp_path):
    path = save(RUN.values[..., :3], tmp_path / "a.nii.gz", tr=0.0)
    check_refusal("MISSING_SIDECAR", "neither header nor JSON", path, tmp_path / "o",
           readers={"nifti": {"mask": "all"}})  # fmt: skip


@pytest.mark.parametrize("value", ["fast", None, True])
def test_a_sidecar_that_states_no_number(bids, tmp_path, value):
    func, image = bids
    sidecar = func / "sub-01_task-objects_run-1_bold.json"
    sidecar.write_text(json.dumps({"RepetitionTime": value}))
    if value is None:
        ingest(image, tmp_path / "o")
    else:
        check_refusal("NOT_THIS_FORMAT", "RepetitionTime", image, tmp_path / "o")
    sidecar.write_text("{")
    check_refusal("NOT_THIS_FORMAT", "is not JSON", image, tmp_path / "p")


def test_confounds_of_another_length(bids, tmp_path):
    func, image = bids
    table = func / "sub-01_task-objects_run-1_desc-confounds_timeseries.tsv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    check_refusal("LENGTH_MISMATCH", "volumes 50, .*49", image, tmp_path / "o")
    report, tree = ingest(image, tmp_path / "o", trim=1)
    assert codes(report) == ["TRIMMED"]
    assert tree["raw"].sizes["time"] == 49
    np.testing.assert_array_equal(tree["raw/bold"].values, RUN.values[BRAIN].T[:49])
    table.write_text("\n".join(lines[:-3]) + "\n")
    check_refusal("LENGTH_MISMATCH", "belong to one recording", image, tmp_path / "p", trim=1)


def test_truncated_files(tmp_path):
    keep = {"nifti": {"mask": "all"}}
    plain = save(RUN.values, tmp_path / "a.nii")
    whole = plain.read_bytes()
    plain.write_bytes(whole[:-1000])
    check_refusal("TRUNCATED", "48 whole volumes, the header states 50", plain, tmp_path / "o",
           readers=keep)  # fmt: skip
    report, tree = ingest(plain, tmp_path / "o", keep, allow_truncated=True)
    assert "TRUNCATED" in codes(report)
    np.testing.assert_array_equal(tree["raw/bold"].values.T, RUN.values.reshape(-1, 50)[:, :48])
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(whole, mtime=0)[:-400])
    check_refusal("TRUNCATED", "ends within volumes", packed, tmp_path / "p", readers=keep)
    report, tree = ingest(packed, tmp_path / "p", keep, allow_truncated=True)
    n_times = tree["raw"].sizes["time"]
    assert 40 < n_times < 50
    np.testing.assert_array_equal(
        tree["raw/bold"].values.T, RUN.values.reshape(-1, 50)[:, :n_times]
    )
    packed.write_bytes(gzip.compress(whole, mtime=0)[:60])
    check_refusal("TRUNCATED", "header", packed, tmp_path / "q", readers=keep)
    series = tmp_path / "c.dtseries.nii"
    write_dense_cifti(RUN, series)
    series.write_bytes(series.read_bytes()[:-100])
    check_refusal("TRUNCATED", "bytes of samples", series, tmp_path / "q")


def test_what_is_no_image(tmp_path):
    page = tmp_path / "a.nii.gz"
    page.write_text("<!DOCTYPE html><html></html>")
    check_refusal("NOT_THIS_FORMAT", "an HTML page", page, tmp_path / "o")
    page.write_bytes(b"\x1f\x8b" + bytes(100))
    check_refusal("NOT_THIS_FORMAT", "header", page, tmp_path / "o")
    page.write_bytes(b"plain text" * 200)
    check_refusal("NOT_THIS_FORMAT", "not a gzip file", page, tmp_path / "o", reader="nifti")
    page.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    check_refusal("NOT_THIS_FORMAT", "git-lfs", page, tmp_path / "o")


def test_a_single_volume_and_other_images_are_refused(tmp_path):
    path = save(RUN.values[..., 0], tmp_path / "a.nii.gz")
    check_refusal("EMPTY", "4-D with a time axis", path, tmp_path / "o")
    path = save(RUN.values, tmp_path / "sub-01_dwi.nii.gz")
    check_refusal("NOT_THIS_FORMAT", "ends in _dwi", path, tmp_path / "o")
    path = save(RUN.values[:, :, :, None], tmp_path / "b.nii.gz")
    check_refusal("NOT_THIS_FORMAT", "4-D expected", path, tmp_path / "o")


def test_a_label_file_is_an_atlas_and_no_recording(tmp_path):
    labels = nib.cifti2.LabelAxis(["parcels"], [{0: ("?", (0, 0, 0, 0)), 1: ("a", (1, 0, 0, 1))}])
    rows = nib.cifti2.BrainModelAxis.from_mask(BRAIN, affine=RUN.affine)
    header = nib.cifti2.Cifti2Header.from_axes((labels, rows))
    path = tmp_path / "a.dlabel.nii"
    image = nib.Cifti2Image(np.ones((1, BRAIN.sum()), np.float32), header)
    image.nifti_header.set_intent("ConnDenseLabel")
    nib.save(image, path)
    check_refusal("NOT_THIS_FORMAT", "an atlas, not a recording", path, tmp_path / "o")
    check_refusal("NOT_THIS_FORMAT", "an atlas", path, tmp_path / "o", reader="cifti")


def test_masks_that_do_not_fit(bids, tmp_path):
    func, image = bids
    mask = func / "sub-01_task-objects_run-1_desc-brain_mask.nii.gz"
    save(np.ones((8, 9, 4), np.uint8), mask)
    check_refusal("MASK_MISMATCH", r"shape \(8, 9, 4\)", image, tmp_path / "o")
    moved = RUN.affine.copy()
    moved[0, 3] += 2.0
    save(np.ones((8, 9, 5), np.uint8), mask, affine=moved)
    check_refusal("MASK_MISMATCH", "by up to 2 mm", image, tmp_path / "o")
    save(np.zeros((8, 9, 5), np.uint8), mask)
    check_refusal("EMPTY", "holds no voxel", image, tmp_path / "o")
    ingest(image, tmp_path / "o", {"nifti": {"mask": "all"}})


def test_nothing_but_nan_is_refused(tmp_path):
    path = save(np.full((2, 2, 2, 9), np.nan, np.float32), tmp_path / "a.nii.gz")
    check_refusal(
        "NAN_IN_DATA", "every row", path, tmp_path / "o", readers={"nifti": {"mask": "all"}}
    )


def test_sidecars_that_fit_equally_well_are_named(bids, tmp_path):
    func, image = bids
    other = func / "sub-01_task-objects_run-1_desc-confounds_regressors.tsv"
    other.write_text("trans_x\n0\n")
    check_refusal("AMBIGUOUS_SIDECAR", "_regressors.tsv, .*_timeseries.tsv", image, tmp_path / "o")


def test_events_without_onsets(bids, tmp_path):
    func, image = bids
    events = func / "sub-01_task-objects_run-1_events.tsv"
    events.write_text("start\tduration\n1\t2\n")
    check_refusal("NOT_THIS_FORMAT", "no column onset", image, tmp_path / "o")
    events.write_text("onset\tduration\n1\t2\nx\t1\n")
    check_refusal("NOT_A_NUMBER", "column onset, line 3", image, tmp_path / "o")
    events.write_text("onset\tduration\tvalue\tnote\n9\tn/a\t3\tlate\n1\t2\t4\t\n")
    _, tree = ingest(image, tmp_path / "o")
    found = tree["events"].to_dataset()
    assert list(found["onset"].values) == [1.0, 9.0]
    assert list(found["code"].values) == [4, 3]
    assert list(found["x_note"].values) == ["", "late"]
    assert np.isnan(found["duration"].values[1])


def test_scan_proposes_the_recording_and_nothing_else(tmp_path):
    write_bids_fmri(RUN, tmp_path / "b", number="1")
    write_atlas(RUN, tmp_path / "b/atlas.nii.gz")
    found = scan([tmp_path / "b"])
    images = [row for row in found.rows if row["modality"] == "fmri"]
    assert [(row["reader"], row["subject"], row["task"], row["run"]) for row in images] == [
        ("nifti", "01", "objects", "1")
    ]
