"""Every fault that a calcium source can have: its code, its message, and nothing left behind."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from ingests import START, THREE_NEURONS, ingest_source, refusal_check

from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.registry import match
from neuropipe.simulate.calcium_files import write_calcium_nwb, write_suite2p_folder
from neuropipe.store.zarr import open_store

N_TIMES, N_ROIS = 40, 3
HDF5 = {
    "datasets": {"traces": "f", "time": "t", "names": "n", "behavior": {"v": "v"}},
    "kind": "dff",
}


@pytest.fixture
def fields():
    rng = np.random.default_rng(0)
    return {
        "f": rng.standard_normal((N_TIMES, N_ROIS)),
        "t": 10 + np.arange(N_TIMES) * 0.5,
        "n": ["AVAL", "AVAR", "VB2"],
        "v": np.arange(N_TIMES) * 1.0,
    }


def write(path, fields):
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            file[name] = values
    return path


def run(source, out, settings=None, reader="hdf5", row=None, **block):
    row = {"reader": reader, "session_start": START, **(row or {})}
    readers = {reader: HDF5 if settings is None else settings}
    return ingest_source(source, out, "calcium", row=row, readers=readers, **block)[0]


check_refusal = refusal_check(run)


def test_sound_file_passes(tmp_path, fields):
    report = run(write(tmp_path / "a.h5", fields), tmp_path / "o")
    assert report["issues"] == []


def test_truncated_hdf5(tmp_path, fields):
    path = write(tmp_path / "a.h5", fields)
    path.write_bytes(path.read_bytes()[:-500])
    check_refusal("TRUNCATED", "truncated", path, tmp_path / "o")


def test_truncated_nwb(tmp_path):
    path = tmp_path / "a.nwb"
    write_calcium_nwb(THREE_NEURONS, "01", path)
    path.write_bytes(path.read_bytes()[:-5000])
    check_refusal("TRUNCATED", "truncated", path, tmp_path / "o", reader="nwb", settings={})


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML page"),
        (b"\n  <html lang='en'>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git-lfs pointer"),
        (b"/annex/objects/SHA256E-s1--00.h5\n", "git-annex pointer"),
        (b"../../.git/annex/objects/aa/bb/SHA256E-s1--00/SHA256E-s1--00.h5", "git-annex link"),
        (b"\x00\x01\x02\x03 something else", "does not recognise it"),
    ],
)
def test_not_this_format(tmp_path, content, fragment):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    check_refusal("NOT_THIS_FORMAT", fragment, path, tmp_path / "o")
    # The same without a reader named in the table.
    with pytest.raises(IngestError, match="NOT_THIS_FORMAT"):
        match(path, "calcium")


def test_annexed_link_without_its_data(tmp_path):
    path = tmp_path / "a.h5"
    path.symlink_to(".git/annex/objects/nothing.h5")
    check_refusal("NOT_THIS_FORMAT", "not here", path, tmp_path / "o")


def test_file_without_bytes(tmp_path):
    path = tmp_path / "a.h5"
    path.touch()
    check_refusal("EMPTY", "no bytes", path, tmp_path / "o")


def test_missing_rate_of_suite2p(tmp_path):
    write_suite2p_folder(THREE_NEURONS, "01", tmp_path / "plane0")
    check_refusal(
        "MISSING_SIDECAR", "rate is not known", tmp_path / "plane0", tmp_path / "o",
        reader="suite2p", settings={},
    )  # fmt: skip


def test_missing_names_table(tmp_path, fields):
    settings = {
        "datasets": {"traces": "f", "time": "t"}, "kind": "dff",
        "names_table": "absent.csv", "index_base": 0,
    }  # fmt: skip
    path = write(tmp_path / "a.h5", fields)
    check_refusal("MISSING_SIDECAR", "absent.csv", path, tmp_path / "o", settings=settings)


def test_missing_samples_are_kept_and_masked(tmp_path, fields):
    fields["f"][5, 1] = np.nan
    fields["f"][: N_TIMES // 2 + 1, 2] = np.inf
    report = run(write(tmp_path / "a.h5", fields), tmp_path / "o")
    assert [issue["code"] for issue in report["issues"]] == ["NAN_IN_DATA"]
    raw = open_store(tmp_path / "o/sub-01_calcium.zarr")["raw"].to_dataset().load()
    np.testing.assert_array_equal(raw["dff"].values, fields["f"])
    np.testing.assert_array_equal(raw["valid"].values, np.isfinite(fields["f"]))
    assert list(raw["roi_ok"].values) == [True, True, False]


def test_all_rows_missing(tmp_path, fields):
    fields["f"][: N_TIMES // 2 + 1] = np.nan
    check_refusal("NAN_IN_DATA", r"a\.h5", write(tmp_path / "a.h5", fields), tmp_path / "o")


@pytest.mark.parametrize(
    ("where", "value", "fragment"),
    [
        (7, np.nan, "the first at sample 7"),
        (7, 13.0, "repeats at sample 7"),
        (7, 12.0, "goes back at sample 7"),
        (slice(20, None), np.arange(20) * 0.5, "reset to zero"),
    ],
)
def test_bad_time(tmp_path, fields, where, value, fragment):
    fields["t"][where] = value
    check_refusal("BAD_TIME", fragment, write(tmp_path / "a.h5", fields), tmp_path / "o")


@pytest.mark.parametrize("field", ["t", "n", "v"])
def test_length_mismatch(tmp_path, fields, field):
    fields[field] = fields[field][:-2]
    check_refusal(
        "LENGTH_MISMATCH", "differ|shape", write(tmp_path / "a.h5", fields), tmp_path / "o"
    )


def test_one_sample_is_trimmed_on_request_only(tmp_path, fields):
    fields["t"] = np.append(fields["t"], 999.0)
    path = write(tmp_path / "a.h5", fields)
    check_refusal("LENGTH_MISMATCH", "trim: 1", path, tmp_path / "o")
    overrides = {"sub-01_calcium": {"trim": 1}}
    report = run(path, tmp_path / "o", overrides=overrides)
    assert report["sizes"]["time"] == N_TIMES
    assert [issue["code"] for issue in report["issues"]] == ["TRIMMED"]


@pytest.mark.parametrize(
    ("clock", "fragment"),
    [
        (10 + np.arange(N_TIMES) * 0.4, "80% of the recording"),
        (10 + 90_000 + np.arange(N_TIMES) * 0.5, "offset 90000.000 s"),
        (1e4 * (10 + np.arange(N_TIMES) * 0.5), "offset"),
    ],
)
def test_clock_mismatch(tmp_path, fields, clock, fragment):
    path = write(tmp_path / "a.h5", {**fields, "c": clock})
    behavior = {"v": {"path": "v", "time": "c"}}
    settings = {**HDF5, "datasets": {**HDF5["datasets"], "behavior": behavior}}
    check_refusal("CLOCK_MISMATCH", fragment, path, tmp_path / "o", settings=settings)


def test_bad_behaviour_clock(tmp_path, fields):
    clock = fields["t"].copy()
    clock[3] = clock[2]
    path = write(tmp_path / "a.h5", {**fields, "c": clock})
    behavior = {"v": {"path": "v", "time": "c"}}
    settings = {**HDF5, "datasets": {**HDF5["datasets"], "behavior": behavior}}
    check_refusal("BAD_TIME", r"behavior\.time_v", path, tmp_path / "o", settings=settings)


def test_duplicate_labels_are_an_issue(tmp_path, fields):
    fields["n"] = ["AVAL", "AVAL", "VB2"]
    report = run(write(tmp_path / "a.h5", fields), tmp_path / "o")
    assert [issue["code"] for issue in report["issues"]] == ["DUPLICATE_LABEL"]
    labels = open_store(tmp_path / "o/sub-01_calcium.zarr")["raw/label"].values
    assert list(labels) == ["", "", "VB2"]


@pytest.mark.parametrize("shape", [(0, 3), (N_TIMES, 0)])
def test_empty(tmp_path, fields, shape):
    fields.update(f=np.zeros(shape), t=fields["t"][: shape[0]], v=fields["v"][: shape[0]])
    settings = {
        "datasets": {"traces": "f", "time": "t"}, "kind": "dff", "orientation": "time_roi",
    }  # fmt: skip
    path = write(tmp_path / "a.h5", fields)
    check_refusal("EMPTY", "zero along", path, tmp_path / "o", settings=settings)


def test_table_without_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,AVAL\n")
    check_refusal("EMPTY", "'time'", path, tmp_path / "o", reader="table", settings={"kind": "dff"})


def test_encoding(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("time,Zelle ä\n0,1\n1,2\n".encode("latin-1"))
    check_refusal(
        "ENCODING", "UTF-8", path, tmp_path / "o", reader="table", settings={"kind": "dff"}
    )
    path.write_bytes("time,Zelle ä\n0,1\n1,n/a\n".encode("utf-8-sig"))
    run(path, tmp_path / "o", reader="table", settings={"kind": "dff"})
    raw = open_store(tmp_path / "o/sub-01_calcium.zarr")["raw"]
    assert list(raw["label_source"].values) == ["Zelle ä"]
    np.testing.assert_array_equal(raw["dff"].values, [[1.0], [np.nan]])


@pytest.mark.parametrize("link", ["external", "names"])
def test_unsafe(tmp_path, fields, link):
    folder = tmp_path / "data"
    folder.mkdir()
    write(tmp_path / "outside.h5", fields)
    (tmp_path / "names.csv").write_text("index,label\n0,AVAL\n")
    path = write(folder / "a.h5", fields)
    settings = {"datasets": {"traces": "f", "time": "t"}, "kind": "dff", "index_base": 0}
    if link == "external":
        with h5py.File(path, "r+") as file:
            del file["f"]
            file["f"] = h5py.ExternalLink("../outside.h5", "/f")
    else:
        settings["names_table"] = "../names.csv"
    check_refusal("UNSAFE", "outside|leads out", path, tmp_path / "o", settings=settings)


def test_pickled_traces_are_unsafe(tmp_path):
    folder = tmp_path / "plane0"
    folder.mkdir()
    np.save(folder / "F.npy", np.array([{"a": 1}], dtype=object))
    settings = {"rate_hz": 1.0}
    check_refusal("UNSAFE", "pickle", folder, tmp_path / "o", reader="suite2p", settings=settings)


def test_naive_session_start_is_an_error(tmp_path, fields):
    path = write(tmp_path / "a.h5", fields)
    row = {"session_start": "2024-01-01T00:00:00"}
    check_refusal("NAIVE_SESSION_START", "UTC offset", path, tmp_path / "o", row=row)
    row = {"session_start": "yesterday"}
    check_refusal("BAD_SESSION_START", "ISO 8601", path, tmp_path / "o", row=row)


def test_nwb_with_a_naive_session_start(tmp_path):
    path = tmp_path / "a.nwb"
    write_calcium_nwb(THREE_NEURONS, "01", path)
    with h5py.File(path, "r+") as file:
        del file["session_start_time"]
        file["session_start_time"] = "2024-03-05T14:00:00"
    check_refusal("NAIVE_SESSION_START", "UTC", path, tmp_path / "o", reader="nwb", settings={})


def test_absent_session_start_is_an_issue(tmp_path, fields):
    path = write(tmp_path / "a.h5", fields)
    report = run(path, tmp_path / "o", row={"session_start": ""})
    assert [issue["code"] for issue in report["issues"]] == ["NO_SESSION_START"]
    assert report["attrs"]["session_start"] == ""
    # NWB demands a date; it is read back as absent.
    run(tmp_path / "o/sub-01_calcium.nwb", tmp_path / "p", {}, "nwb", {"session_start": ""})
    assert open_store(tmp_path / "p/sub-01_calcium.zarr").attrs["session_start"] == ""


def test_strict_turns_warnings_into_errors(tmp_path, fields):
    path = write(tmp_path / "a.h5", {**fields, "n": ["AVAL", "junk", "AIM?"]})
    check_refusal("UNKNOWN_LABEL", "2 warnings", path, tmp_path / "o", strict=True)
    fields["f"][:30, 0] = np.nan
    path = write(tmp_path / "b.h5", fields)
    check_refusal("NAN_IN_DATA", "strict", path, tmp_path / "o", strict=True)


def test_unknown_key_leaves_nothing(tmp_path, fields):
    path = write(tmp_path / "a.h5", fields)
    with pytest.raises(ConfigError, match="Did you mean 'kind'"):
        run(path, tmp_path / "o", {**HDF5, "kinds": "dff"})
    assert not (tmp_path / "o").exists()


def test_failure_at_the_last_step_leaves_nothing(tmp_path, fields, monkeypatch):
    from neuropipe.io import ingest as module

    def fail(*_):
        raise OSError("disk full")

    path = write(tmp_path / "a.h5", fields)
    monkeypatch.setattr(module, "write_nwb", fail)
    with pytest.raises(OSError, match="disk full"):
        run(path, tmp_path / "o")
    assert list((tmp_path / "o").iterdir()) == []


def test_failure_leaves_an_older_store_as_it_was(tmp_path, fields):
    out = tmp_path / "o"
    report = run(write(tmp_path / "a.h5", fields), out)
    fields["t"][3] = np.nan
    with pytest.raises(IngestError, match="BAD_TIME"):
        run(write(tmp_path / "a.h5", fields), out)
    store = open_store(out / "sub-01_calcium.zarr")
    assert store.attrs["content_sha256"] == report["content_sha256"]
    assert len(list(out.iterdir())) == 3


@pytest.mark.parametrize(
    ("setup", "code"),
    [("truncate", 2), ("sound", 0)],
)
def test_exit_status_of_the_step(tmp_path, fields, setup, code):
    import json
    import subprocess
    import sys

    path = write(tmp_path / "a.h5", fields)
    if setup == "truncate":
        path.write_bytes(path.read_bytes()[:-500])
    row = {
        "name": "sub-01_calcium", "subject": "01", "modality": "calcium", "path": "a.h5",
        "reader": "hdf5",
    }  # fmt: skip
    settings = json.dumps({"recording": row, "ingest": {"readers": {"hdf5": HDF5}}})
    output = tmp_path / "o/sub-01_calcium.zarr"
    command = ["step", "ingest", "--source", str(path), "--output", str(output)]
    result = subprocess.run(
        [sys.executable, "-m", "neuropipe", *command, "--settings", settings],
        capture_output=True,
        text=True,
    )
    assert result.returncode == code, result.stderr
    assert output.exists() is (code == 0)
    if code:
        assert "TRUNCATED" in result.stderr
        assert "Traceback" not in result.stderr
