"""Connectome tables become weights that can be recomputed by hand."""

from __future__ import annotations

import json

import numpy as np
import openpyxl
import pytest
import xarray as xr
import zarr

from neuropipe.config.models import ConnectomeConfig
from neuropipe.errors import ConfigError, DataError, IngestError, MissingInput
from neuropipe.io.connectome.ingest import ingest_connectome, read_connectome
from neuropipe.store.connectome import open_connectome
from neuropipe.store.validate import validate_store

HEADER = ("pre", "post", "type", "synapses")
ROWS = [
    ("AVAL", "AVAR", "chemical", 2),
    ("AVAL", "AVAR", "chemical", 3),  # repeats the pair
    ("AVAR", "AVAL", "chemical", 1),
    ("AVAL", "VB02", "electrical", 4),  # listed once
    ("AVAL", "RID", "electrical", 2),  # listed twice, the same
    ("RID", "AVAL", "electrical", 2),
    ("RID", "AVAR", "electrical", 1),  # listed twice, differently
    ("AVAR", "RID", "electrical", 4),
    ("RID", "RID", "electrical", 5),  # with itself
    ("VB02", "MUSCLE1", "chemical", 7),
    ("AVAL", "MUSCLE1", "electrical", 1),
]


def write(path, rows=ROWS, header=HEADER, delimiter="\t", mark=""):
    lines = [delimiter.join(map(str, row)) for row in (header, *rows)]
    path.write_text(mark + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def read(path, **keys) -> xr.Dataset:
    return read_connectome(ConnectomeConfig(path=str(path), **keys))


def value(ds, kind, pre, post, name="weight"):
    return ds[name].sel(kind=kind, pre=pre, post=post).item()


def summary(ds, table=0):
    return json.loads(ds.attrs["tables"])[table]


def codes(ds):
    return [issue["code"] for issue in json.loads(ds.attrs["issues"])]


@pytest.fixture
def table(tmp_path):
    return write(tmp_path / "worm.tsv")


def test_repeated_chemical_rows_are_summed_and_counted(table):
    ds = read(table)
    assert value(ds, "chemical", "AVAL", "AVAR") == 5
    assert value(ds, "chemical", "AVAR", "AVAL") == 1
    assert summary(ds)["duplicate_rows"] == 1
    assert "DUPLICATE_EDGES" in codes(ds)


def test_a_gap_junction_counts_once_in_both_directions(table):
    ds = read(table)
    for pre, post, expected in (("AVAL", "VB2", 4), ("AVAL", "RID", 2), ("RID", "RID", 5)):
        assert value(ds, "gap", pre, post) == value(ds, "gap", post, pre) == expected
    gap = ds["weight"].sel(kind="gap").values
    np.testing.assert_array_equal(gap, gap.T)
    found = summary(ds)
    # AVAL - VB02 and AVAL - MUSCLE1; a row of a neuron with itself is its own mirror.
    assert (found["gap_rows"], found["gap_rows_without_mirror"]) == (7, 2)
    assert found["gap_self_rows"] == 1
    assert found["connections"] == {"chemical": 2, "gap": 4}


@pytest.mark.parametrize(("rule", "expected"), [("mean", 2.5), ("max", 4), ("sum", 5)])
def test_two_weights_of_a_gap_junction_are_settled_by_the_rule(table, rule, expected):
    ds = read(table, gap_conflict=rule)
    assert value(ds, "gap", "RID", "AVAR") == value(ds, "gap", "AVAR", "RID") == expected
    assert value(ds, "gap", "AVAL", "RID") == 2  # equal weights are no conflict
    assert summary(ds)["gap_conflicts"] == 1
    assert "GAP_CONFLICT" in codes(ds)


def test_two_weights_of_a_gap_junction_may_be_an_error(table):
    with pytest.raises(IngestError, match=r"GAP_CONFLICT.*1 gap junctions.*(RID|AVAR)"):
        read(table, gap_conflict="error")


def test_the_order_of_rows_does_not_matter(table, tmp_path):
    turned = write(tmp_path / "turned.tsv", ROWS[::-1])
    one, two = read(table), read(turned)
    xr.testing.assert_equal(one[["weight", "present"]], two[["weight", "present"]])


def test_zero_is_not_the_same_as_not_measured(table):
    ds = read(table)
    assert value(ds, "chemical", "RID", "VB2") == 0
    assert value(ds, "chemical", "RID", "VB2", "present")
    assert np.isnan(value(ds, "chemical", "RID", "AWCL"))
    assert not value(ds, "chemical", "RID", "AWCL", "present")
    assert int(ds["present"].sel(kind="gap").sum()) == 4 * 4
    assert value(ds, "chemical", "RID", "AWCL", "n_tables") == 0


def test_targets_that_are_no_neurons_are_kept_apart(table):
    ds = read(table)
    rows = list(
        zip(*(ds[f"other_{c}"].values.tolist() for c in ("pre", "post", "kind", "weight")),
            strict=True)
    )  # fmt: skip
    assert rows == [("VB2", "MUSCLE1", "chemical", 7.0), ("AVAL", "MUSCLE1", "gap", 1.0)]
    assert "MUSCLE1" not in ds["post"].values
    assert ds["neuron_class"].sel(neuron="VB2").item() == "VB"
    assert ds["neuron_type"].sel(neuron="VB2").item() == "motor"


def test_every_format_gives_the_same_weights(table, tmp_path):
    expected = read(table)
    typ = {"chemical": 0, "electrical": 2}
    rows = [{"pre": a, "post": b, "typ": typ[kind], "syn": [1] * n} for a, b, kind, n in ROWS]
    (tmp_path / "worm.json").write_text(json.dumps(rows), encoding="utf-8")
    files = [
        write(tmp_path / "comma.csv", delimiter=",", mark="\ufeff"),
        write(tmp_path / "plain.csv", delimiter=",", header=("Source", "Target", "Type", "Weight")),
        tmp_path / "worm.json",
    ]
    for file in files:
        found = read(file)
        for name in ("weight", "present", "other_weight", "other_post"):
            xr.testing.assert_equal(found[name].variable, expected[name].variable)


MATRIX = [
    ["", "AVAL", "AVAR", "MUSCLE1"],
    ["AVAL", 0, 3, 1],
    ["AVAR", "n/a", None, 0],
    ["RID", 2, "", 0],
]


def spreadsheet(path, sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_a_spreadsheet_holds_a_matrix_per_kind(tmp_path):
    path = spreadsheet(
        tmp_path / "worm.xlsx",
        {"notes": [["read me"]], "herm chem": MATRIX, "herm gap": [["", "RID"], ["AVAL", 2]]},
    )
    ds = read(path, sheets={"chemical": "herm chem", "gap": "herm gap"})
    assert value(ds, "chemical", "AVAL", "AVAR") == 3
    assert value(ds, "chemical", "RID", "AVAR") == 0  # an empty cell
    assert np.isnan(value(ds, "chemical", "AVAR", "AVAL"))  # n/a
    assert not value(ds, "chemical", "AVAR", "RID", "present")  # RID is no column
    assert value(ds, "gap", "RID", "AVAL") == value(ds, "gap", "AVAL", "RID") == 2
    assert ds["other_post"].values.tolist() == ["MUSCLE1"]
    assert "BLANK_CELLS" in codes(ds)
    with pytest.raises(ConfigError, match="notes, herm chem, herm gap"):
        read(path, sheets={"chemical": "chem"})
    with pytest.raises(ConfigError, match="sheets"):
        read(path)


def test_a_matrix_of_text_needs_its_kind_and_empty_functional_cells_are_missing(tmp_path):
    path = write(tmp_path / "m.csv", [["AVAL", "0.5", "-1"], ["RID", "", "n/a"]],
                 ["", "AVAL", "RID"], ",")  # fmt: skip
    ds = read(path, kind="functional")
    assert value(ds, "functional", "AVAL", "RID") == -1
    assert np.isnan(value(ds, "functional", "RID", "AVAL"))
    assert value(read(path, kind="functional", blank="zero"), "functional", "RID", "AVAL") == 0
    with pytest.raises(ConfigError, match="kind: functional"):
        read(path)
    with pytest.raises(IngestError, match=r"BAD_WEIGHT.*-1"):
        read(path, kind="chemical")


def test_a_consensus_is_the_mean_over_tables_that_measured_both_neurons(tmp_path):
    one = write(tmp_path / "1.tsv", [("AVAL", "AVAR", "chemical", 2), ("AVAL", "RID", "gap", 1)])
    two = write(tmp_path / "2.tsv", [("AVAL", "AVAR", "chemical", 6), ("RID", "AVAL", "gap", 1)])
    three = write(tmp_path / "3.tsv", [("AVAL", "VB2", "chemical", 4)])
    four = write(tmp_path / "4.tsv", [("AVAL", "AVAR", "functional", -0.5)])
    five = write(tmp_path / "5.tsv", [("AVAR", "AVAL", "chemical", 1)])
    ds = read_connectome(ConnectomeConfig(paths=[str(p) for p in (one, two, three, four, five)]))
    # The fifth has both neurons and no such edge: a measured zero. The third lacks AVAR.
    assert value(ds, "chemical", "AVAL", "AVAR", "n_tables") == 3
    assert value(ds, "chemical", "AVAL", "AVAR") == pytest.approx(8 / 3)
    assert value(ds, "chemical", "AVAL", "AVAR", "weight_std") == pytest.approx(np.std([2, 6, 0]))
    assert value(ds, "chemical", "AVAL", "VB2", "n_tables") == 1
    assert value(ds, "gap", "AVAL", "RID") == 1  # equal values count separately
    assert value(ds, "gap", "AVAL", "RID", "n_tables") == 2
    assert value(ds, "functional", "AVAL", "AVAR") == -0.5
    assert value(ds, "functional", "AVAL", "AVAR", "n_tables") == 1
    assert ds["kind"].values.tolist() == ["chemical", "gap", "functional"]
    assert np.isnan(value(ds, "functional", "AVAL", "RID"))


FAULTS = {
    "unknown type": ([("AVAL", "RID", "NMJ", 1)], HEADER, "NOT_THIS_FORMAT", "NMJ"),
    "negative": ([("AVAL", "RID", "chemical", -1)], HEADER, "BAD_WEIGHT", "line 2"),
    "no number": ([("AVAL", "RID", "chemical", "few")], HEADER, "BAD_WEIGHT", "few"),
    "no name": ([("AVAL", "", "chemical", 1)], HEADER, "NOT_THIS_FORMAT", "without name"),
    "short row": ([("AVAL", "RID", "chemical")], HEADER, "LENGTH_MISMATCH", "line 2"),
    "no weight": ([("AVAL", "RID", "chemical")], HEADER[:3], "NOT_THIS_FORMAT", "synapses"),
    "no rows": ([], HEADER, "EMPTY", "no rows"),
    "no neurons": ([("BWM1", "BWM2", "gap", 1)], HEADER, "EMPTY", "atlas"),
    "twice": ([("RID", "AVAL", "functional", 1)] * 2, HEADER, "DUPLICATE_EDGES", "cannot be sum"),
    "a table of neurons": ([("ADAL", "ADA", "inter")], ("name", "class", "type"),
                           "NOT_THIS_FORMAT", "neither columns pre and post"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_table_is_refused_and_leaves_no_store(name, tmp_path):
    rows, header, code, text = FAULTS[name]
    path = write(tmp_path / "bad.tsv", rows, header)
    with pytest.raises(IngestError, match=text) as caught:
        ingest_connectome(ConnectomeConfig(path=str(path)), tmp_path / "out" / "bad.zarr")
    assert caught.value.code == code
    assert not list(tmp_path.glob("out/*"))


def test_a_table_that_is_absent_or_unclear_is_named(tmp_path):
    with pytest.raises(MissingInput, match=r"ingest\.connectomes"):
        read(tmp_path / "none.csv")
    path = write(tmp_path / "plain.csv", [("AVAL", "RID", 1)], ("pre", "post", "weight"), ",")
    with pytest.raises(ConfigError, match="column `type`"):
        read(path)
    assert value(read(path, kind="gap"), "gap", "RID", "AVAL") == 1
    (tmp_path / "bad.json").write_text('[{"pre": "AVAL"}]')
    with pytest.raises(IngestError, match="'post'"):
        read(tmp_path / "bad.json")
    (tmp_path / "bad.xlsx").write_text("no spreadsheet")
    with pytest.raises(IngestError, match="NOT_THIS_FORMAT"):
        read(tmp_path / "bad.xlsx", kind="gap")
    for keys in ({}, {"path": "a", "paths": ["b"]}, {"paths": ["a", "a"]}):
        with pytest.raises(ValueError, match="path"):
            ConnectomeConfig(**keys)


def test_warnings_are_errors_under_strict(table, tmp_path):
    with pytest.raises(IngestError, match="GAP_CONFLICT"):
        ingest_connectome(ConnectomeConfig(path=str(table)), tmp_path / "a.zarr", strict=True)


# --- the store -------------------------------------------------------------------------------


@pytest.fixture
def store(table, tmp_path):
    path = tmp_path / "stores" / "worm.zarr"
    report = ingest_connectome(ConnectomeConfig(path=str(table)), path)
    assert json.loads(path.with_name("worm.report.json").read_text()) == report
    return path


def test_the_store_gives_back_what_was_read(store, table):
    back, ds = open_connectome(store), read(table)
    xr.testing.assert_equal(back, ds)
    assert back.attrs["gap_conflict"] == "mean"
    assert back["weight"].dtype == np.float32
    edges = zarr.open_group(store, mode="r")["edges"]
    assert set(edges) == {"pre", "post", "kind", "weight", "weight_std"}
    assert edges["weight"].shape == (2 + 7,)  # sparse: 3 gap junctions in both directions, 1 own
    assert validate_store(store) == []


def test_equal_tables_give_equal_content(store, table, tmp_path):
    config = ConnectomeConfig(path=str(table))
    again = ingest_connectome(config, tmp_path / "b.zarr")
    first = json.loads(store.with_name("worm.report.json").read_text())
    assert again["content_sha256"] == first["content_sha256"]
    ingest_connectome(config, store)  # the same content may be written again
    write(table, ROWS[:3])
    with pytest.raises(IngestError, match="EXISTS"):
        ingest_connectome(config, store)
    ingest_connectome(config, store, overwrite=True)


def test_validation_finds_a_changed_weight(store):
    edges = zarr.open_group(store, mode="r+")["edges"]
    edges["weight"][0] += 1
    assert {issue.code for issue in validate_store(store)} >= {"CONTENT_HASH"}


def test_another_store_is_no_connectome(tmp_path):
    from neuropipe.store.zarr import write_tree

    write_tree(xr.DataTree(xr.Dataset(attrs={"schema": "neuropipe.calcium"})), tmp_path / "a.zarr")
    with pytest.raises(DataError, match="no connectome"):
        open_connectome(tmp_path / "a.zarr")
