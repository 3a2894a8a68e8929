"""Published connectome tables: every number is recomputed from the file by other means."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from real_data import ROOT, needs

from neuropipe.config.models import ConnectomeConfig, LabelConfig
from neuropipe.errors import IngestError
from neuropipe.io.connectome.ingest import ingest_connectome, read_connectome
from neuropipe.store.atlas import load_atlas
from neuropipe.store.connectome import open_connectome
from neuropipe.store.labels import canonical_name
from neuropipe.store.validate import validate_store

FOLDER = ROOT / "connectome"
WHITE = FOLDER / "aconnectome_white_1986_whole.csv"
WITVLIET = FOLDER / "aconnectome_witvliet_2020_8.csv"
COOK = FOLDER / "cook_jarrell_2019_h.json"
pytestmark = needs(FOLDER)


def frame(path):
    if path.suffix == ".json":
        rows = json.loads(path.read_text())
        table = pd.DataFrame(rows)
        table["synapses"] = [sum(sizes) for sizes in table["syn"]]
        table["type"] = table["typ"].map({0: "chemical", 2: "electrical"})
    else:
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
    atlas = load_atlas()
    for side in ("pre", "post"):
        table[side] = [canonical_name(name, atlas) or name for name in table[side]]
    return table


def read(*paths, **labels):
    config = ConnectomeConfig(paths=[str(path) for path in paths])
    return read_connectome(config, LabelConfig(**labels))


@pytest.mark.parametrize(
    ("path", "gap_rows", "alone", "own"),
    [(WHITE, 575, 569, 6), (WITVLIET, 310, 302, 8), (COOK, 2883, 0, 17)],
    ids=["white", "witvliet", "cook"],
)
def test_weights_are_those_of_the_table(path, gap_rows, alone, own, tmp_path):
    ds, table = read(path), frame(path)
    summary = json.loads(ds.attrs["tables"])[0]
    found = [summary[k] for k in ("gap_rows", "gap_rows_without_mirror", "gap_self_rows")]
    assert found == [gap_rows, alone, own]
    assert summary["gap_conflicts"] == summary["duplicate_rows"] == 0
    neurons = set(load_atlas().names)
    n_other = 0
    for kind, word in (("chemical", "chemical"), ("gap", "electrical")):
        dense = ds["weight"].sel(kind=kind)
        expected = pd.DataFrame(0.0, index=list(dense["pre"].values), columns=dense["post"].values)
        rows = table[table["type"] == word]
        outside = set()
        for pre, post, size in zip(rows["pre"], rows["post"], rows["synapses"], strict=True):
            if {pre, post} <= neurons:
                expected.loc[pre, post] = size
                if kind == "gap":
                    expected.loc[post, pre] = size
            else:
                outside.add((pre, post) if kind == "chemical" else frozenset((pre, post)))
        n_other += len(outside)
        named = sorted((set(table["pre"]) | set(table["post"])) & neurons)
        part = dense.sel(pre=named, post=named)
        np.testing.assert_array_equal(part.values, expected.loc[named, named].values)
        assert int(np.isfinite(dense).sum()) == len(named) ** 2
    assert ds.sizes["other"] == n_other == summary["other_edges"]
    report = ingest_connectome(ConnectomeConfig(path=str(path)), tmp_path / "real.zarr")
    assert validate_store(tmp_path / "real.zarr") == []
    assert report["sizes"]["neuron"] == 300
    np.testing.assert_array_equal(open_connectome(tmp_path / "real.zarr")["weight"], ds["weight"])


def test_consensus_of_two_animals():
    ds, (one, two) = read(WHITE, WITVLIET), (read(WHITE), read(WITVLIET))
    both = one["present"] & two["present"]
    np.testing.assert_array_equal(ds["n_tables"], one["present"].astype(int) + two["present"])
    np.testing.assert_allclose(
        ds["weight"].where(both), ((one["weight"] + two["weight"]) / 2).where(both)
    )
    only = one["present"] & ~two["present"]
    np.testing.assert_array_equal(ds["weight"].where(only), one["weight"].where(only))
    # Two values differ from their mean by half their difference.
    spread = (abs(one["weight"] - two["weight"]) / 2).where(both)
    np.testing.assert_allclose(ds["weight_std"].where(both), spread, rtol=1e-6)


def test_can_neurons_move_from_the_other_table_into_the_matrix():
    without, with_can = read(COOK), read(COOK, include_can=True)
    assert with_can.sizes["pre"] == 302
    assert with_can.sizes["other"] < without.sizes["other"]


def test_the_neuron_table_agrees_with_the_atlas_and_is_no_connectome():
    path = FOLDER / "connectome_neurons.csv"
    with pytest.raises(IngestError, match="neither columns pre and post nor a matrix"):
        read(path)
    atlas = load_atlas(include_can=True)
    table = pd.read_csv(path, keep_default_na=False)
    names = [canonical_name(name, atlas) for name in table["name"]]
    classes = dict(zip(names, table["class"], strict=True))
    assert [classes[name] for name in atlas.names] == list(atlas.classes)
