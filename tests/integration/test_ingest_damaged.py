"""What damaged files taught: each fault that the fuzz test of ingest found, once more by hand."""

from __future__ import annotations

import csv
import json

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
from ingests import START, THREE_NEURONS, codes, ingest_source, refusal_check
from scipy.io import savemat

from neuropipe.config.models import ConnectomeConfig
from neuropipe.errors import DataError, IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.connectome.ingest import read_connectome
from neuropipe.io.faults import readable
from neuropipe.io.registry import match
from neuropipe.io.scan import scan
from neuropipe.simulate.bids_files import simulate_seeg, write_bids_recording, write_bids_root
from neuropipe.simulate.calcium_files import (
    write_caiman_hdf5,
    write_calcium_nwb,
    write_suite2p_folder,
)
from neuropipe.simulate.channel_files import simulate_channels, write_brainvision
from neuropipe.simulate.spike_files import simulate_spikes, write_phy_folder, write_spike_nwb
from neuropipe.store.nwb import from_nwb, to_nwb

N_TIMES, N_ROIS = 40, 3
TIME = np.arange(N_TIMES) / 4
DATASETS = {"traces": "f", "time": "t", "names": "n", "behavior": {"v": "v"}}
HDF5 = {"datasets": DATASETS, "kind": "dff"}
NAMED = {
    "datasets": {"traces": "f", "time": "t"}, "kind": "dff", "names_table": "n.csv",
    "index_base": 1,
}  # fmt: skip


def hdf5(path, **fields):
    values = np.random.default_rng(0).standard_normal((N_TIMES, N_ROIS))
    content = {"f": values, "t": TIME, "n": ["AVAL", "AVAR", "VB2"], "v": TIME.copy()}
    with h5py.File(path, "w") as file:
        for name, value in (content | fields).items():
            file[name] = value
    return path


def ingest(source, out, settings, reader="hdf5", modality="calcium"):
    row = {"reader": reader, "session_start": START}
    report, tree = ingest_source(source, out, modality, row=row, readers={reader: settings})
    return codes(report), tree


check_refusal = refusal_check(ingest)


def check_refused(code, fragment, source, out, settings, **row):
    """Check that the refusal names the file and says what to do."""
    error = check_refusal(code, fragment, source, out, settings, **row)
    assert error.hint
    assert str(source.name) in str(error) or "n.csv" in str(error)


def broken_heap(path):
    """Damage the names of an HDF5 file so that it opens, but lists nothing."""
    data = path.read_bytes()
    at = data.index(b"HEAP")
    path.write_bytes(data[:at] + b"XXXX" + data[at + 4 :])
    return path


def test_damage_that_only_the_library_sees_is_a_fault_of_the_file(tmp_path):
    path = broken_heap(hdf5(tmp_path / "a.h5"))
    check_refused("NOT_THIS_FORMAT", "cannot be read.*local heap", path, tmp_path / "o", HDF5)
    with pytest.raises(IngestError, match="NOT_THIS_FORMAT"):
        match(path, "calcium")
    (issue,) = scan([tmp_path]).issues
    assert (issue.code, issue.path) == ("NOT_THIS_FORMAT", str(path))


def test_a_mistake_of_our_own_is_no_fault_of_the_file():
    with pytest.raises(TypeError), readable("a.h5"):
        object_array(None)
    message = r"a\.h5: cannot be read \(JSONDecodeError"
    with pytest.raises(IngestError, match=message), readable("a.h5"):
        json.loads("{")


def test_samples_that_cannot_be_decoded_leave_nothing(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {"time": TIME, "AVAL": np.random.default_rng(0).standard_normal(N_TIMES)}
    pd.DataFrame(columns).to_parquet(path)
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(1).dictionary_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(bytes(data))
    check_refused("NOT_THIS_FORMAT", "cannot be read", path, tmp_path / "o", {"kind": "dff"},
            reader="table")  # fmt: skip


def test_behaviour_of_one_value_is_refused(tmp_path):
    path = hdf5(tmp_path / "a.h5", v=1.0)
    check_refused("LENGTH_MISMATCH", r"shape \(\)", path, tmp_path / "o", HDF5)


def test_nul_in_text_is_refused(tmp_path):
    path = hdf5(tmp_path / "a.h5")
    for text in ("index,label\n1,A\x00L\n", "index,label\n1,AVAL\n2,\x00\n"):
        (tmp_path / "n.csv").write_text(text)
        check_refused("ENCODING", "NUL", path, tmp_path / "o", NAMED)
    hdf5(path, n=np.array([b"AV\x00L", b"AVAR", b"VB2"], dtype="S4"))
    check_refused("ENCODING", "NUL", path, tmp_path / "o", HDF5)


@pytest.mark.parametrize(
    ("text", "code", "fragment"),
    [
        ("index,label\n1,AVAL\n2", "TRUNCATED", "line 3: 1 cells for 2 columns"),
        ("index,label\n1\n2,AVAL\n", "LENGTH_MISMATCH", "line 2"),
        ("index,label,label\n1,AVAL,AVAR\n", "DUPLICATE_COLUMN", "'label'"),
        ('index,label\n1,"AVAL\n2,AVAR\n', "NOT_THIS_FORMAT", "quote"),
        ("index,la", "NOT_THIS_FORMAT", "no column of names"),
    ],
)
def test_a_damaged_names_table_is_refused(tmp_path, text, code, fragment):
    (tmp_path / "n.csv").write_text(text)
    check_refused(code, fragment, hdf5(tmp_path / "a.h5"), tmp_path / "o", NAMED)


def test_a_names_table_without_rows_or_without_an_end_is_told(tmp_path):
    path = hdf5(tmp_path / "a.h5")
    (tmp_path / "n.csv").write_text("index,label\n")
    assert ingest(path, tmp_path / "o", NAMED)[0] == ["EMPTY"]
    (tmp_path / "n.csv").write_text("index,label\n1,AVAL\n2,AVA")
    codes, tree = ingest(path, tmp_path / "p", NAMED)
    assert set(codes) == {"LAST_LINE_OPEN", "AMBIGUOUS_LABEL"}
    assert list(tree["raw/label_source"].values) == ["AVAL", "AVA", ""]


def test_a_wide_table_that_may_be_cut_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,AVAL\n0,1.25\n0.5,2.7")
    codes, tree = ingest(path, tmp_path / "o", {"kind": "dff"}, reader="table")
    assert codes == ["LAST_LINE_OPEN"]
    assert tree["raw/dff"].values[1, 0] == 2.7


def test_a_wide_table_without_names_of_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0.0,1.25\n0.5,2.75\n1.0,3.0\n")
    check_refused("NOT_THIS_FORMAT", "line 1 holds numbers", path, tmp_path / "o", {"kind": "dff"},
            reader="table")  # fmt: skip
    path.write_text("0,1\n0.5,2.75\n1.0,3.0\n")
    codes, _ = ingest(path, tmp_path / "o", {"kind": "dff"}, reader="table")
    assert "NO_HEADER" in codes


def test_an_open_quote_does_not_swallow_the_rest(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('time,AVAL\n0,1.25\n0.5,"2.75\n1.0,3.0\n')
    check_refused("NOT_THIS_FORMAT", "quote", path, tmp_path / "o", {"kind": "dff"}, reader="table")


@pytest.mark.parametrize(("factor", "count"), [(1000, 1), (1, 0), (1e-5, 1)])
def test_imaging_that_is_too_slow_or_fast_is_told(tmp_path, factor, count):
    path = hdf5(tmp_path / "a.h5", t=TIME * factor)
    settings = {**HDF5, "datasets": {**DATASETS, "behavior": {}}}
    codes, _ = ingest(path, tmp_path / "o", settings)
    assert codes.count("UNITS") == count


def test_connectome_tables_that_may_be_cut(tmp_path):
    path = tmp_path / "a.tsv"
    lines = [("pre", "post", "type", "synapses"), ("AVAL", "RID", "chemical", "12")]
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(lines)
    whole = path.read_text()
    issues = json.loads(read_connectome(ConnectomeConfig(path=str(path))).attrs["issues"])
    assert issues == []
    path.write_text(whole.rstrip("\n"))
    issues = json.loads(read_connectome(ConnectomeConfig(path=str(path))).attrs["issues"])
    assert [issue["code"] for issue in issues] == ["LAST_LINE_OPEN"]
    path.write_text(whole.replace("12\n", "").rstrip())
    with pytest.raises(IngestError, match="TRUNCATED"):
        read_connectome(ConnectomeConfig(path=str(path)))
    path.write_text(whole.replace("type\t", "synapses\t"))
    with pytest.raises(IngestError, match="DUPLICATE_COLUMN"):
        read_connectome(ConnectomeConfig(path=str(path), kind="chemical"))


def test_events_of_a_reader_need_onsets_only(tmp_path):
    from neuropipe.io.ingest import _whole_events

    events = xr.Dataset({"onset": ("event", [1.0, 2.0])})
    whole = _whole_events(events, tmp_path / "a.h5")
    assert np.isnan(whole["duration"].values).all()
    assert whole["label"].values.tolist() == ["", ""]
    with pytest.raises(IngestError, match="without onsets"):
        _whole_events(xr.Dataset({"label": ("event", ["a"])}), tmp_path / "a.h5")


def test_events_without_duration_go_into_nwb(tmp_path):
    _, tree = ingest(hdf5(tmp_path / "a.h5"), tmp_path / "o", HDF5)
    tree = tree.load()
    tree["events"] = xr.DataTree(xr.Dataset({"onset": ("event", [1.0, 2.0])}))
    to_nwb(tree, tmp_path / "a.nwb")
    assert (
        from_nwb(tmp_path / "a.nwb")["events"]
        .to_dataset()
        .identical(tree["events"].to_dataset(inherit=False))
    )


def test_texts_in_a_heap_without_end_do_not_hang(tmp_path):
    path = hdf5(tmp_path / "a.h5")
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL")
    assert ingest(path, tmp_path / "sound", HDF5)[0] == []
    data[at + 40 : at + 4096] = bytes(4056)  # what an interrupted copy leaves: zeros
    path.write_bytes(bytes(data))
    check_refused("NOT_THIS_FORMAT", "no end", path, tmp_path / "o", HDF5)
    with pytest.raises(IngestError, match="no end"):
        match(path, "calcium")


def test_phy_tables_without_their_column_or_not_there(tmp_path):
    path = tmp_path / "phy"
    write_phy_folder(simulate_spikes((5.0, 9.0), 5.0, trials=2), path)
    row = {"reader": "phy", "modality": "spikes"}
    (path / "cluster_KSLabel.tsv").unlink()
    assert ingest(path, tmp_path / "o", {"duration_s": 5}, **row)[0] == ["MISSING_SIDECAR"]
    (path / "cluster_group.tsv").write_text("cluster_id\tgrup\n0\tgood\n")
    check_refused("NOT_THIS_FORMAT", "no column group", path, tmp_path / "p", {}, **row)


def test_a_type_that_is_no_text_does_not_stop_the_search(tmp_path):
    path = tmp_path / "a.nwb"
    write_calcium_nwb(THREE_NEURONS, "01", path)
    with h5py.File(path, "r+") as file:
        file["processing/ophys"].attrs["neurodata_type"] = [1, 2, 3]
    check_refused("NOT_THIS_FORMAT", "pynwb", path, tmp_path / "o", {}, reader="nwb")


def test_tables_beside_a_data_set_are_told_when_they_may_be_cut(tmp_path):
    write_bids_root(tmp_path, {"01": ("31", "F", "human")})
    recording = simulate_seeg(2.0, rate_hz=200.0)
    path = write_bids_recording(tmp_path, recording, {"sub": "01", "task": "go"})
    events = path.with_name("sub-01_task-go_events.tsv")
    row = {"reader": "brainvision", "modality": "ieeg"}
    events.write_text(events.read_text().rstrip("\n"))
    assert "LAST_LINE_OPEN" in ingest(path, tmp_path / "o", {}, **row)[0]
    (tmp_path / "dataset_description.json").write_text("{")
    assert "NOT_THIS_FORMAT" in ingest(path, tmp_path / "p", {}, **row)[0]
    events.write_text("onset\tduration\tonset\n1\t0\t2\n")
    with pytest.raises(IngestError, match="DUPLICATE_COLUMN"):
        ingest(path, tmp_path / "q", {}, **row)


def test_a_broken_code_page_of_brainvision_is_named(tmp_path):
    path = tmp_path / "a.vhdr"
    write_brainvision(simulate_channels(3, 2.0, rate_hz=100.0, bad=()), path)
    path.write_bytes(path.read_bytes().replace(b"MarkerFile", b"\xcdarkerFile"))
    row = {"reader": "brainvision", "modality": "eeg"}
    check_refused("ENCODING", "Codepage", path, tmp_path / "o", {}, **row)


@pytest.fixture
def worm():
    values = np.random.default_rng(1).standard_normal((1, 4, N_TIMES))
    coords = {"subject": ["01"], "neuron": ["AVAL", "AVAR", "RID", "x"], "time": TIME}
    return xr.Dataset({"activity": (("subject", "neuron", "time"), values)}, coords)


@pytest.mark.parametrize("value", [np.nan, 0.5])
def test_components_of_caiman_are_whole_numbers(worm, tmp_path, value):
    path = tmp_path / "a.hdf5"
    settings = write_caiman_hdf5(worm, "01", path)
    with h5py.File(path, "r+") as file:
        del file["estimates/idx_components"]
        file["estimates/idx_components"] = np.array([0.0, value])
    check_refused("NOT_THIS_FORMAT", "expected whole numbers", path, tmp_path / "o", settings,
            reader="caiman")  # fmt: skip


CODES = np.array([82, 73, 68], "u2")


@pytest.mark.parametrize("cell", [CODES, {"a": 1.0}], ids=["codes", "struct"])
def test_names_of_matlab_are_text_or_one_number(tmp_path, cell):
    path = tmp_path / "a.mat"
    traces = np.random.default_rng(0).standard_normal((N_TIMES, 3))
    settings = {"datasets": {"traces": "f", "time": "t", "names": "n"}, "kind": "dff"}
    row = {"reader": "matlab"}
    savemat(path, {"f": traces, "t": TIME, "n": object_array(["AVAL", 7.0, ""])})
    _, tree = ingest(path, tmp_path / "o", settings, **row)
    assert list(tree["raw/label_source"].values) == ["AVAL", "7", ""]
    savemat(path, {"f": traces, "t": TIME, "n": object_array(["AVAL", cell, ""])})
    check_refused("NOT_THIS_FORMAT", "a cell holds", path, tmp_path / "p", settings, **row)


def test_a_missing_probability_of_cells_is_told(worm, tmp_path):
    settings = write_suite2p_folder(worm, "01", tmp_path / "plane0")
    path = tmp_path / "plane0" / "iscell.npy"
    np.save(path, np.load(path)[:, :1])
    report_codes, _ = ingest(tmp_path / "plane0", tmp_path / "o", settings, reader="suite2p")
    assert "MISSING_SIDECAR" in report_codes


def test_own_arrays_of_another_kind_are_refused(tmp_path):
    ingest(hdf5(tmp_path / "a.h5"), tmp_path / "o", HDF5)
    path = next((tmp_path / "o").glob("*.nwb"))
    with h5py.File(path, "r+") as file:
        table = file["processing/ophys/ImageSegmentation/PlaneSegmentation"]
        place = "id" if "roi" not in table else "roi"
        values = table[place][...]
        attrs = dict(table[place].attrs)
        del table[place]
        table[place] = np.full(values.shape, np.nan)
        table[place].attrs.update(attrs)
    with pytest.raises(DataError, match="dtype float64, expected int64"):
        from_nwb(path)


def test_observed_intervals_have_a_start_and_a_stop(tmp_path):
    path = tmp_path / "a.nwb"
    write_spike_nwb(simulate_spikes((5.0, 9.0), 5.0), path)
    with h5py.File(path, "r+") as file:
        edges = file["units/obs_intervals"]
        attrs, values = dict(edges.attrs), edges[:, 0]
        del file["units/obs_intervals"]
        file["units/obs_intervals"] = values
        file["units/obs_intervals"].attrs.update(attrs)
        file["units/obs_intervals_index"].attrs["target"] = file["units/obs_intervals"].ref
    check_refused("LENGTH_MISMATCH", "expected start and stop", path, tmp_path / "o", {},
            reader="nwb_units", modality="spikes")  # fmt: skip
