"""A study looked at from a notebook: names by tab, reprs that tell, figures in one line."""

from __future__ import annotations

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest

import neuropipe
from neuropipe.analyses import ntf
from neuropipe.errors import ConfigError, DataError, MissingInput
from neuropipe.simulate.calcium_files import write_calcium_nwb
from neuropipe.simulate.demo.worms import simulate_worms
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.store.provenance import write_dataset
from neuropipe.store.zarr import open_store

CONFIG = """\
study: small
recordings: config/recordings.tsv
analyses:
  ntf: {input: {recordings: {modality: calcium}}, rank: 2, restarts: 1}
"""
TABLE = (
    "subject\tmodality\tpath\n"
    "w01\tcalcium\traw/w01.nwb\n"
    "d01\tspikes\traw/d01.nwb\n"
    "d02\tspikes\traw/none.nwb\n"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Return a study of which two of three recordings are ingested and one analysis is done."""
    from neuropipe.config.models import IngestConfig
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.store import layout
    from neuropipe.study import load_study

    folder = tmp_path_factory.mktemp("study")
    (folder / "config").mkdir()
    (folder / "raw").mkdir()
    (folder / "config" / "config.yaml").write_text(CONFIG)
    (folder / "config" / "recordings.tsv").write_text(TABLE)
    data, _ = simulate_worms()
    write_calcium_nwb(data, "w01", folder / "raw" / "w01.nwb", fluorescence=False, events={})
    write_spike_nwb(simulate_spikes((2.0, 8.0), 40.0, trials=3, seed=1), folder / "raw/d01.nwb")
    for row in load_study(folder).recordings[:2]:
        output = folder / layout.store_file(row)
        output.parent.mkdir(parents=True)
        ingest_recording(row, row.source(folder), IngestConfig(), output)
    small_data, _ = ntf.simulate(seed=0, n_subjects=2, n_neurons=12)
    result = ntf.fit(small_data, ntf.Settings(rank=2, restarts=1), seed=0)
    target = folder / layout.result_file("cohort-all", "ntf")
    target.parent.mkdir(parents=True)
    write_dataset(result, target, {"analysis": "ntf", "seed": 0})
    (folder / "results" / "ntf").mkdir(parents=True)
    rows = ("collection\tmetric\tvalue\n", "cohort-all\tcomponents\t2\n", "cohort-all\tx\t1\n")
    (folder / "results" / "ntf" / "table.tsv").write_text("".join(rows))
    return folder


@pytest.fixture
def view(small):
    return neuropipe.open_study(small)


def test_a_tab_offers_what_is_meant_to_be_used():
    assert dir(neuropipe) == sorted(neuropipe.__all__)
    assert all(getattr(neuropipe, name) is not None for name in neuropipe.__all__)
    with pytest.raises(AttributeError, match="opne"):
        _ = neuropipe.opne


def test_names_complete_and_tell_the_closest(view):
    assert view.recordings._ipython_key_completions_() == ["sub-w01_calcium", "sub-d01_spikes"]
    assert list(view.results) == ["cohort-all/ntf"]
    assert list(view.preprocessed) == []
    assert "sub-w01_calcium" in view.recordings
    with pytest.raises(ConfigError, match="Did you mean 'sub-w01_calcium'"):
        view.recordings["sub-w1_calcium"]
    with pytest.raises(ConfigError, match="There is none yet"):
        view.preprocessed["sub-w01_calcium"]


def test_a_study_says_what_it_holds_and_what_is_missing(view):
    text = repr(view)
    lines = [line.split() for line in text.splitlines()[1:]]
    assert ["sub-w01_calcium", "calcium", "ingested"] in lines
    assert ["sub-d02_spikes", "spikes", "not", "ingested"] in lines
    assert ["cohort-all/ntf", "ntf", "done"] in lines
    assert "<td>cohort-all/ntf</td><td>ntf</td><td>done</td>" in view._repr_html_()
    assert repr(view.recordings) == "2 stores\n  sub-w01_calcium\n  sub-d01_spikes"
    assert repr(view.results) == "1 result\n  cohort-all/ntf"


def test_what_is_opened_is_xarray_with_its_own_repr(small, view):
    tree = view.recordings["sub-w01_calcium"]
    assert tree.identical(neuropipe.open("sub-w01_calcium", study=small))
    assert "xarray.DataTree" in repr(tree)
    assert "<div>" in tree._repr_html_()
    result = view.results["cohort-all/ntf"]
    assert result.identical(neuropipe.open_result("cohort-all", "ntf", study=small))


def test_results_are_one_table_that_can_be_narrowed(small, view):
    assert list(neuropipe.results(small)["metric"]) == ["components", "x"]
    assert list(neuropipe.results(small, metric="components", label=["ntf"])["value"]) == [2]
    assert view.table.equals(neuropipe.results(small))
    with pytest.raises(ConfigError, match="One of label, collection, metric, value"):
        neuropipe.results(small, metrics="components")


def test_a_result_is_drawn_in_one_line(view):
    result = view.results["cohort-all/ntf"]
    names = list(ntf.figures(result))
    figure = neuropipe.plot(result, names[1])
    assert figure.caption and figure.axes
    assert repr(figure).startswith("ReportFigure(")
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert neuropipe.plot(result).title == ntf.figures(result)[names[0]].title
    with pytest.raises(ConfigError, match=f"Did you mean '{names[1]}'"):
        neuropipe.plot(result, f"{names[1]}x")
    assert plt.get_fignums() == []


def test_a_store_is_drawn_in_one_line(view):
    traces = neuropipe.plot(view.recordings["sub-w01_calcium"], rows=[0, 3], span_s=(10, 12))
    (axes,) = traces.axes
    assert axes.get_xlim() == (10, 12)
    assert len(axes.get_yticks()) == 2
    tree = view.recordings["sub-d01_spikes"]
    (axes,) = neuropipe.plot(tree, span_s=(5.0, 9.0)).axes
    drawn = sum(len(collection.get_positions()) for collection in axes.collections)
    times = tree["raw/spike_time"].values
    assert drawn == np.count_nonzero((times >= 5.0) & (times < 9.0))


def test_what_can_not_be_drawn_is_told(small):
    data, _ = ntf.simulate(seed=0, n_subjects=2, n_neurons=12)
    with pytest.raises(DataError, match="neither a store nor a result"):
        neuropipe.plot(data)
    with pytest.raises(MissingInput):
        neuropipe.open_study(small / "raw")


def test_pynapple_is_reached_from_the_package(view):
    pytest.importorskip("pynapple", reason="pynapple is not installed")
    found = neuropipe.to_pynapple(view.recordings["sub-d01_spikes"])
    assert len(found["spikes"]) == 2
    assert inspect.getdoc(neuropipe.to_pynapple)
    store = open_store(small_path(view))
    assert set(neuropipe.to_pynapple(store)) == set(found)


def small_path(view):
    return view._path("sub-d01_spikes", False)
