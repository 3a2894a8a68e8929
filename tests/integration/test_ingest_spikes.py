"""Spike recordings from their source files to the stores, and every fault on the way."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from ingests import START, codes, ingest_source, refusal_check

from neuropipe.errors import ConfigError, DataError
from neuropipe.io.registry import match
from neuropipe.io.scan import scan
from neuropipe.simulate.spike_files import (
    simulate_spikes,
    write_phy_folder,
    write_spike_nwb,
    write_spike_table,
)
from neuropipe.store.nwb import from_nwb
from neuropipe.store.schema import check_tree
from neuropipe.store.spikes import BY_TIME, spikes_of
from neuropipe.store.validate import validate_store

NAME = "sub-01_spikes"
SPIKES = simulate_spikes()
TABLE = {"spike_table": {"time_unit": "s", "duration_s": 60}}


def ingest(source, out, readers=None, reader="", **override):
    row = {"reader": reader, "session_start": START}
    return ingest_source(source, out, "spikes", override=override, row=row, readers=readers or {})


check_refusal = refusal_check(ingest)


def write_csv(path, rows, header="unit,time"):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header, *(",".join(str(cell) for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def one_unit(times, path):
    return write_csv(path, [("a", repr(float(t))) for t in times])


def test_nwb_units_come_in_as_they_are(tmp_path):
    write_spike_nwb(SPIKES, tmp_path / "a.nwb")
    report, tree = ingest(tmp_path / "a.nwb", tmp_path / "o")
    assert check_tree(tree) == []
    assert codes(report) == []
    assert report["sizes"] == {"unit": 4, "spike": sum(len(t) for t in SPIKES.times)}
    assert report["duration_s"] == 60
    assert json.loads((tmp_path / f"o/{NAME}.report.json").read_text()) == report
    raw = tree["raw"].to_dataset()
    for k, times in enumerate(SPIKES.times):
        np.testing.assert_array_equal(spikes_of(tree, k), times)
    assert list(raw["unit"].values) == [10, 11, 12, 13]
    assert list(raw["quality"].values) == SPIKES.quality
    assert list(raw["region"].values) == SPIKES.region
    assert raw["n_spikes"].values[3] == 0
    np.testing.assert_array_equal(raw["obs_stop"].values, [[60.0] * 4])
    np.testing.assert_array_equal(tree["trials/start"].values, SPIKES.trials[:, 0])
    assert list(tree["trials/choice"].values[:2]) == ["left", "right"]
    assert tree.attrs["species"] == "Mus musculus"
    again = from_nwb(tmp_path / f"o/{NAME}.nwb")
    assert again.identical(tree.drop_nodes(BY_TIME))
    for suffix in (".zarr", ".nwb"):
        assert validate_store(tmp_path / f"o/{NAME}{suffix}") == []


def test_our_own_nwb_gives_the_same_content(tmp_path):
    write_spike_nwb(SPIKES, tmp_path / "a.nwb", intervals=False)
    report, _ = ingest(tmp_path / "a.nwb", tmp_path / "o")
    assert codes(report) == ["OBSERVED_INFERRED"]
    again, _ = ingest(tmp_path / f"o/{NAME}.nwb", tmp_path / "p")
    assert again["content_sha256"] == report["content_sha256"]


def test_phy_folder(tmp_path):
    write_phy_folder(SPIKES, tmp_path / "phy")
    report, tree = ingest(tmp_path / "phy", tmp_path / "o", {"phy": {"duration_s": 60}})
    raw = tree["raw"].to_dataset()
    assert check_tree(tree) == []
    # The unit without spikes leaves no trace in the arrays of Phy.
    assert list(raw["unit"].values) == [0, 3, 6]
    assert list(raw["quality"].values) == ["noise", "mua", "good"]
    for k in range(3):
        np.testing.assert_array_equal(spikes_of(tree, k), SPIKES.times[k])
    assert raw.attrs["sample_rate"] == 30_000
    assert codes(report) == []
    assert validate_store(tmp_path / f"o/{NAME}.nwb") == []


def test_phy_depth_and_shank_come_from_cluster_info(tmp_path):
    write_phy_folder(SPIKES, tmp_path / "phy")
    info = tmp_path / "phy/cluster_info.tsv"
    info.write_text("cluster_id\tdepth\tsh\tgroup\n0\t40.0\t1\tgood\n3\t\t2\t\n")
    _, tree = ingest(tmp_path / "phy", tmp_path / "o", {"phy": {"duration_s": 60}})
    raw = tree["raw"].to_dataset()
    np.testing.assert_allclose(raw["depth"].values, [4e-5, np.nan, np.nan])
    assert list(raw["group"].values) == ["1", "2", ""]
    assert raw["quality"].values[0] == "noise"
    info.write_text("cluster_id\tdepth\n0\tdeep\n")
    check_refusal("NOT_THIS_FORMAT", "deep", tmp_path / "phy", tmp_path / "p")


def test_phy_duration_comes_from_the_raw_file(tmp_path):
    write_phy_folder(SPIKES, tmp_path / "phy")
    with (tmp_path / "phy/raw.dat").open("wb") as file:
        file.truncate(30_000 * 70 * 4 * 2)
    _, tree = ingest(tmp_path / "phy", tmp_path / "o")
    np.testing.assert_array_equal(tree["raw/observed"].values, [[0.0, 70.0]])


@pytest.mark.parametrize("unit", ["s", "ms", "samples"])
def test_table_in_any_unit(tmp_path, unit):
    write_spike_table(SPIKES, tmp_path / "a.csv", unit=unit)
    settings = {"time_unit": unit, "sample_rate_hz": 30_000, "duration_s": 60}
    report, tree = ingest(tmp_path / "a.csv", tmp_path / "o", {"spike_table": settings})
    assert codes(report) == []
    assert list(tree["raw/unit"].values) == ["u0", "u1", "u2"]
    assert list(tree["raw/region"].values) == SPIKES.region[:3]
    for k in range(3):
        tolerance = 1e-14 if unit == "ms" else 0
        np.testing.assert_allclose(spikes_of(tree, k), SPIKES.times[k], rtol=tolerance)


def test_parquet_holds_what_csv_holds(tmp_path):
    import pandas as pd

    write_spike_table(SPIKES, tmp_path / "a.csv")
    pd.read_csv(tmp_path / "a.csv", converters={"time": float}).to_parquet(tmp_path / "a.parquet")
    text, _ = ingest(tmp_path / "a.csv", tmp_path / "o", TABLE)
    binary, _ = ingest(tmp_path / "a.parquet", tmp_path / "p", TABLE)
    assert binary["content_sha256"] == text["content_sha256"]


def test_each_format_has_one_reader(tmp_path, calcium_case):
    write_spike_nwb(SPIKES, tmp_path / "sub-1.nwb")
    write_phy_folder(SPIKES, tmp_path / "sub-2")
    write_spike_table(SPIKES, tmp_path / "sub-3.csv")
    found = scan([tmp_path])
    assert [(row["reader"], row["modality"]) for row in found.rows] == [
        ("nwb_units", "spikes"),
        ("phy", "spikes"),
        ("spike_table", "spikes"),
    ]
    assert found.issues == []
    for path in ("sub-1.nwb", "sub-2", "sub-3.csv"):
        match(tmp_path / path)


def test_a_file_with_both_kinds_has_two_readers(tmp_path):
    write_spike_nwb(SPIKES, tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        file.require_group("processing/ophys/f").attrs["neurodata_type"] = "RoiResponseSeries"
    with pytest.raises(DataError, match="'nwb' and 'nwb_units' both match"):
        match(tmp_path / "a.nwb")
    assert match(tmp_path / "a.nwb", "spikes")[0].name == "nwb_units"


def test_own_nwb_of_another_modality_is_refused(tmp_path, calcium_case):
    from neuropipe.store.nwb import to_nwb

    to_nwb(calcium_case().store(tmp_path), tmp_path / "a.nwb")
    check_refusal("NOT_THIS_FORMAT", "no reader", tmp_path / "a.nwb", tmp_path / "o")


def test_wide_tables_stay_with_calcium(tmp_path):
    path = write_csv(tmp_path / "a.csv", [(0, 1, 2), (1, 2, 3)], "time,unit1,unit2")
    assert match(path)[0].name == "table"


def test_times_far_beyond_the_duration_are_another_unit(tmp_path):
    write_spike_table(SPIKES, tmp_path / "a.csv", unit="ms")
    check_refusal("UNITS", "milliseconds", tmp_path / "a.csv", tmp_path / "o", readers=TABLE)
    write_spike_table(SPIKES, tmp_path / "b.csv", unit="samples")
    check_refusal("UNITS", "samples", tmp_path / "b.csv", tmp_path / "o", readers=TABLE)


@pytest.mark.parametrize(
    ("times", "fragment"),
    [
        ([1.0, float("nan"), 2.0], "not finite"),
        ([1.0, float("inf")], "not finite"),
        ([-0.5, 1.0], "negative"),
        ([1.0, 3.0, 2.0], "repair: sort"),
    ],
)
def test_bad_times(tmp_path, times, fragment):
    source = one_unit(times, tmp_path / "a.csv")
    check_refusal("BAD_TIME", fragment, source, tmp_path / "o", readers=TABLE)


def test_order_alone_can_be_repaired(tmp_path):
    times = np.random.default_rng(0).permutation(np.arange(1, 50) / 7)
    source = one_unit(times, tmp_path / "a.csv")
    report, tree = ingest(source, tmp_path / "o", TABLE, repair="sort")
    np.testing.assert_array_equal(spikes_of(tree, 0), np.sort(times))
    assert codes(report) == ["BAD_TIME"]


def test_a_reset_is_never_sorted(tmp_path):
    times = [*np.arange(1, 20) / 2, *np.arange(1, 20) / 2.1]
    source = one_unit(times, tmp_path / "a.csv")
    check_refusal("BAD_TIME", "reset", source, tmp_path / "o", readers=TABLE, repair="sort")


def test_repeated_spikes_are_kept_and_told(tmp_path):
    source = one_unit([1.0, 1.0, 2.5], tmp_path / "a.csv")
    report, tree = ingest(source, tmp_path / "o", TABLE)
    assert codes(report) == ["DUPLICATE_SPIKE"]
    assert tree["raw"].sizes["spike"] == 3


def test_no_spikes_at_all(tmp_path):
    silent = simulate_spikes((0.0, 0.0))
    write_spike_nwb(silent, tmp_path / "a.nwb")
    check_refusal("EMPTY", "no spikes", tmp_path / "a.nwb", tmp_path / "o", reader="nwb_units")


def test_unit_of_times_must_be_stated(tmp_path):
    write_spike_table(SPIKES, tmp_path / "a.csv")
    check_refusal("MISSING_SIDECAR", "time_unit", tmp_path / "a.csv", tmp_path / "o")
    settings = {"spike_table": {"time_unit": "samples"}}
    check_refusal("MISSING_SIDECAR", "sample", tmp_path / "a.csv", tmp_path / "o", readers=settings)


def test_phy_without_a_rate(tmp_path):
    write_phy_folder(SPIKES, tmp_path / "phy")
    (tmp_path / "phy/params.py").unlink()
    check_refusal("MISSING_SIDECAR", "sample_rate", tmp_path / "phy", tmp_path / "o")
    settings = {"phy": {"sample_rate_hz": 30_000}}
    _, tree = ingest(tmp_path / "phy", tmp_path / "p", settings)
    np.testing.assert_array_equal(spikes_of(tree, 0), SPIKES.times[0])


def test_params_are_never_executed(tmp_path):
    write_phy_folder(SPIKES, tmp_path / "phy")
    trap = f"import pathlib\npathlib.Path({str(tmp_path / 'trap')!r}).touch()\n"
    params = tmp_path / "phy/params.py"
    params.write_text(trap + params.read_text())
    report, _ = ingest(tmp_path / "phy", tmp_path / "o", {"phy": {"duration_s": 60}})
    assert codes(report) == ["UNSAFE"]
    params.write_text(trap + "sample_rate = float('30000')\n")
    check_refusal("UNSAFE", "computed by code", tmp_path / "phy", tmp_path / "p")
    params.write_text("sample_rate = \n")
    check_refusal("NOT_THIS_FORMAT", "parsed", tmp_path / "phy", tmp_path / "p")
    assert not (tmp_path / "trap").exists()


def test_phy_arrays_of_objects_are_refused(tmp_path):
    write_phy_folder(SPIKES, tmp_path / "phy")
    np.save(tmp_path / "phy/spike_clusters.npy", np.array([1, "a"], dtype=object))
    check_refusal("UNSAFE", "pickle", tmp_path / "phy", tmp_path / "o")


def test_phy_arrays_of_other_lengths(tmp_path):
    write_phy_folder(SPIKES, tmp_path / "phy")
    np.save(tmp_path / "phy/spike_clusters.npy", np.zeros(3, dtype=np.int32))
    check_refusal("LENGTH_MISMATCH", "spike_clusters 3", tmp_path / "phy", tmp_path / "o")
    np.save(tmp_path / "phy/spike_clusters.npy", np.zeros((3, 2), dtype=np.int32))
    check_refusal("LENGTH_MISMATCH", "shape", tmp_path / "phy", tmp_path / "o")


def test_phy_times_in_seconds(tmp_path):
    write_phy_folder(SPIKES, tmp_path / "phy")
    np.save(tmp_path / "phy/spike_times.npy", np.concatenate(SPIKES.times))
    check_refusal("UNITS", "whole samples", tmp_path / "phy", tmp_path / "o")


def test_truncated_files(tmp_path):
    write_spike_nwb(SPIKES, tmp_path / "a.nwb")
    whole = (tmp_path / "a.nwb").read_bytes()
    (tmp_path / "a.nwb").write_bytes(whole[:-5000])
    check_refusal("TRUNCATED", "truncated", tmp_path / "a.nwb", tmp_path / "o")
    check_refusal("TRUNCATED", "truncated", tmp_path / "a.nwb", tmp_path / "o", reader="nwb_units")
    write_phy_folder(SPIKES, tmp_path / "phy")
    times = tmp_path / "phy/spike_times.npy"
    times.write_bytes(times.read_bytes()[:-100])
    check_refusal("TRUNCATED", "bytes of samples", tmp_path / "phy", tmp_path / "o")
    source = write_csv(tmp_path / "a.csv", [(1, 0.5), (2, "")])
    check_refusal("TRUNCATED", "the last", source, tmp_path / "o", readers=TABLE)


def test_byte_order_mark_and_tabs(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes("\ufeffunit\ttime_s\n海\t0.25\n海\t0.5\n".encode())
    _, tree = ingest(path, tmp_path / "o", {"spike_table": {"duration_s": 1}})
    assert list(tree["raw/unit"].values) == ["海"]


@pytest.mark.parametrize("kind", ["nwb", "phy", "csv"])
def test_blocks_of_units_and_stretches_of_time_change_nothing(tmp_path, monkeypatch, kind):
    from neuropipe.io.spikes import parts, phy
    from neuropipe.store import spikes as store_spikes

    source = tmp_path / {"nwb": "a.nwb", "phy": "phy", "csv": "a.csv"}[kind]
    write = {"nwb": write_spike_nwb, "phy": write_phy_folder, "csv": write_spike_table}[kind]
    write(SPIKES, source)
    readers = {**TABLE, "phy": {"duration_s": 60}}
    _, whole = ingest(source, tmp_path / "o", readers)
    whole = whole.load()
    monkeypatch.setattr(parts, "PART_SPIKES", 50)
    monkeypatch.setattr(phy, "BLOCK_ROWS", 13)
    monkeypatch.setattr(store_spikes, "STRETCH_SPIKES", 40)
    _, pieces = ingest(source, tmp_path / "p", readers)
    assert pieces.identical(whole)
    by_time = pieces[BY_TIME].to_dataset()
    times, units = whole["raw/spike_time"].values, whole["raw/spike_unit"].values
    order = np.lexsort([units, times])
    np.testing.assert_array_equal(by_time["spike_time"].values, times[order])
    np.testing.assert_array_equal(by_time["spike_unit"].values, units[order])
    assert not [path for path in (tmp_path / "p").iterdir() if "tmp" in path.name]


def test_the_order_is_repaired_block_by_block(tmp_path, monkeypatch):
    from neuropipe.io.spikes import parts

    monkeypatch.setattr(parts, "PART_SPIKES", 5)
    rng = np.random.default_rng(1)
    times = {unit: rng.permutation(np.arange(1, 9) / 7) for unit in "abc"}
    rows = [(unit, repr(float(t))) for unit, values in times.items() for t in values]
    source = write_csv(tmp_path / "a.csv", rows)
    report, tree = ingest(source, tmp_path / "o", TABLE, repair="sort")
    for k, unit in enumerate("abc"):
        np.testing.assert_array_equal(spikes_of(tree, k), np.sort(times[unit]))
    (issue,) = report["issues"]
    assert "3 of 3 units" in issue["message"]


def test_whole_numbers_of_seconds_are_another_unit(tmp_path):
    write_spike_table(SPIKES, tmp_path / "a.csv", unit="samples")
    settings = {"spike_table": {"time_unit": "s"}}
    check_refusal("UNITS", "whole numbers", tmp_path / "a.csv", tmp_path / "o", readers=settings)
    few = one_unit([1.0, 2.0, 5.0], tmp_path / "b.csv")
    report, _ = ingest(few, tmp_path / "o", settings)
    assert codes(report) == ["OBSERVED_INFERRED"]


def test_observed_time_may_begin_anywhere(tmp_path):
    source = one_unit([2282.7, 2283.5], tmp_path / "a.csv")
    settings = {"time_unit": "s", "observed_s": [2282.6, 2285.8]}
    report, tree = ingest(source, tmp_path / "o", {"spike_table": settings})
    np.testing.assert_array_equal(tree["raw/observed"].values, [[2282.6, 2285.8]])
    assert report["duration_s"] == pytest.approx(3.2)
    for wrong in ({"observed_s": [3.0, 2.0]}, {"observed_s": [0.0, 2.0], "duration_s": 3}):
        with pytest.raises(ConfigError, match="observed_s"):
            ingest(source, tmp_path / "p", {"spike_table": {"time_unit": "s", **wrong}})
