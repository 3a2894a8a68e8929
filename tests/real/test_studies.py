"""Whole studies of real recordings: raw files to report through the command line."""

from __future__ import annotations

import json

import pytest
import yaml
from real_data import CALCIUM, DAG, FOUR, FOUR_WORMS, WORM_FOLDER, needs

pytestmark = [pytest.mark.workflow, needs(CALCIUM)]
ANIMALS = ("2022-07-26-31", "2022-07-26-38", "2022-07-27-31", "2022-07-27-38")
TWO = ("2022-08-02-31", "2022-08-02-38")


def label(name):
    return name.replace("-", "")


def write_study(folder):
    rows, overrides = [], {}
    for name in TWO:
        path = WORM_FOLDER / f"{name}-data.h5"
        rows.append((label(name), path, "dag", "hdf5", "Caenorhabditis elegans"))
        table = {"names_table": f"{name}-labels.csv",
                 "names_columns": {"index": "trace_index_1based"}}  # fmt: skip
        overrides[f"sub-{label(name)}_calcium"] = {**DAG, **table}
    for name in ANIMALS:
        rows.append((label(name), FOUR_WORMS, "nsm", "hdf5", "Caenorhabditis elegans"))
        overrides[f"sub-{label(name)}_calcium"] = {**FOUR, "group": name}
    plane = CALCIUM / "suite2p_pynapple" / "plane0"
    rows.append(("mouse", plane, "two", "suite2p", "Mus musculus"))
    overrides["sub-mouse_calcium"] = {"rate_hz": 30.0}
    lines = ["subject\tmodality\tpath\tcohort\treader\tspecies"]
    lines += [f"{s}\tcalcium\t{p}\t{c}\t{r}\t{o}" for s, p, c, r, o in rows]
    config = {
        "study": "real",
        "preset": "worm",
        "ingest": {"overrides": overrides},
        "analyses": {
            "ntf": {
                "input": {"recordings": {"cohort": ["dag", "nsm"]}},
                "rank": 2,
                "restarts": 2,
                "max_iter": 60,
                "communities": {"null_draws": 5, "restarts": 1},
            }
        },
    }
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "recordings.tsv").write_text("\n".join(lines) + "\n")
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def test_real_worms_go_from_raw_to_report(tmp_path, study_at):
    write_study(tmp_path / "real")
    study = study_at(tmp_path / "real")
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out

    labelled = {}
    for name in TWO:
        folder = f"stores/sub-{label(name)}/calcium/sub-{label(name)}_calcium.report.json"
        codes = [issue["code"] for issue in study.read(folder)["issues"]]
        from neuropipe.store.zarr import open_store

        tree = open_store(study.path / folder.replace(".report.json", ".zarr"))
        names = [str(text) for text in tree["raw"]["label"].values]
        labelled[name] = {text for text in names if text}, codes.count("AMBIGUOUS_LABEL")
    first, second = labelled[TWO[0]], labelled[TWO[1]]
    assert (len(first[0]), len(second[0])) == (101, 105)
    assert (first[1], second[1]) == (3, 5)
    exact = first[0] - {"VB2"}  # written VB02 in the source
    assert (len(exact & second[0]), len(exact | second[0])) == (84, 121)

    for cohort in ("dag", "nsm"):
        provenance = study.read(f"results/cohort-{cohort}/ntf/provenance.json")
        assert "TIME_NOT_ALIGNED" in [issue["code"] for issue in provenance["issues"]]
    page = (study.path / "report" / "index.html").read_text()
    assert "time is not aligned across animals" in page
    assert "sub-mouse_calcium" in page
    suite2p = study.read("stores/sub-mouse/calcium/sub-mouse_calcium.report.json")
    assert suite2p["sizes"] == {"time": 2000, "roi": 219}
    index = json.loads((study.path / "stores" / "dataset.json").read_text())
    assert len(index["recordings"]) == 7
