"""A connectome of the configuration reaches the result, and only what needs it reruns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from neuropipe.errors import ConfigError
from neuropipe.plan import make_plan
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow


def add_connectome(study, weight=3):
    """Add a table over the neurons of the demo, and let the analysis take it."""
    names = sorted({*_neurons(study)})
    a, b, c = names[:3]
    rows = [(a, b, "chemical", weight), (b, c, "electrical", 2), (a, "MUSCLE1", "chemical", 1)]
    text = "\n".join(
        "\t".join(map(str, row)) for row in [("pre", "post", "type", "synapses"), *rows]
    )
    (study.path / "tables").mkdir(exist_ok=True)
    (study.path / "tables" / "worm.tsv").write_text(text + "\n")
    study.edit(
        ingest={"connectomes": {"worm": {"path": "tables/worm.tsv"}}},
        analyses={"ntf": {"input": {"connectome": "worm"}}},
    )
    return a, b, c


def _neurons(study):
    with xr.open_dataset(study.path / "inputs/cohort-worm/ntf.nc", engine="h5netcdf") as ds:
        return ds["neuron"].values.tolist()


def test_weights_reach_the_result_through_the_workflow(study):
    a, b, c = add_connectome(study)
    assert {"ingest_connectome", "analysis_assemble", "ntf_communities"} <= study.would_run()
    assert "ingest_recording" not in study.would_run()
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    assert study.would_run() == set()
    with xr.open_dataset(study.path / "results/cohort-worm/ntf/result.nc", engine="h5netcdf") as ds:
        weight = ds["connectome_weight"].load()
    assert weight.sel(kind="chemical", neuron=a, neuron_2=b).item() == 3
    assert weight.sel(kind="chemical", neuron=b, neuron_2=a).item() == 0
    assert weight.sel(kind="gap", neuron=c, neuron_2=b).item() == 2
    assert int(np.isfinite(weight).sum()) == 2 * 9  # two kinds, three neurons measured
    record = study.read("results/cohort-worm/ntf/provenance.json")
    marker = "stores/connectome/worm.report.json"
    assert record["assembled_from"][marker] == study.read(marker)["content_sha256"]
    page = (study.path / "report/index.html").read_text()
    assert "worm: 3 neurons, 1 chemical, 1 gap connections" in page
    assert "worm" in study.neuropipe("status").out
    answer = study.neuropipe("validate", "stores/connectome/worm.zarr")
    assert answer.code == 0, answer.out
    _other_weight(study)


def _other_weight(study):
    """Another weight in the table makes the store stale, and what follows from it."""
    add_connectome(study, weight=4)
    told = study.neuropipe("status", "--jobs").out
    assert "stale: worm ingest_connectome: source tables/worm.tsv changed" in told
    assert "stale: cohort-worm ntf: follows from ingest_connectome/worm" in told
    assert "ingest_recording" not in told
    assert {"ingest_connectome", "analysis_assemble"} <= study.would_run()


def test_a_faulty_table_is_named_and_leaves_no_store(fresh):
    (fresh.path / "worm.tsv").write_text("pre\tpost\ttype\tsynapses\nAVAL\tRID\tNMJ\t1\n")
    fresh.edit(ingest={"connectomes": {"worm": {"path": "worm.tsv"}}})
    answer = fresh.neuropipe("run", "--only", "worm")
    assert answer.code == 1, answer.out
    assert "NMJ" in answer.out
    assert not (fresh.path / "stores/connectome/worm.zarr").exists()
    assert "NOT_THIS_FORMAT" in (fresh.path / "logs/ingest_connectome/worm.log").read_text()


def test_names_and_paths_are_checked_before_anything_runs(fresh):
    fresh.edit(
        ingest={"connectomes": {"white": {"path": "none.csv"}}},
        analyses={"ntf": {"input": {"connectome": "wihte"}}},
    )
    with pytest.raises(ConfigError, match=r"input\.connectome.*Did you mean 'white'"):
        load_study(fresh.path)
    fresh.edit(analyses={"ntf": {"input": {"connectome": "white"}}})
    answer = fresh.neuropipe("validate")
    assert answer.code == 2
    assert "ingest.connectomes.white: none.csv: the file does not exist" in answer.out
    plan = make_plan(load_study(fresh.path))
    job = plan["analysis_assemble/cohort-worm_ntf"]
    assert "stores/connectome/white.zarr" in job.inputs
    assert json.loads(job.settings_json)["input"]["connectome"] == "white"
