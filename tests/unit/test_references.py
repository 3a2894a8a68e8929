"""A clock that comes from another recording: that recording is ingested first."""

from __future__ import annotations

import pytest
import yaml

from neuropipe.errors import ConfigError
from neuropipe.plan import make_plan
from neuropipe.study import load_study

SPIKES, IEEG = "sub-d_ses-a_spikes", "sub-d_ses-a_ieeg"


def plan(tmp_path, overrides):
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "raw").mkdir(exist_ok=True)
    for name in ("i.nwb", "s.nwb", "ttl.csv", "gaze.csv"):
        (tmp_path / "raw" / name).write_text("x")
    rows = ["subject\tsession\tmodality\tpath", "d\ta\tspikes\traw/s.nwb", "d\ta\tieeg\traw/i.nwb"]
    (tmp_path / "config/recordings.tsv").write_text("\n".join([*rows, ""]))
    config = {"study": "x", "ingest": {"overrides": overrides}}
    (tmp_path / "config/config.yaml").write_text(yaml.safe_dump(config))
    return make_plan(load_study(tmp_path))


def clock(other):
    reference = {"recording": other, "label": "sync"}
    return {"clock": {"pulses": {"path": "ttl.csv"}, "reference": reference}}


def test_the_reference_is_an_input_and_comes_first(tmp_path):
    jobs = plan(tmp_path, {SPIKES: {**clock(IEEG), "behavior": {"gaze": {"path": "gaze.csv"}}}})
    names = [name for name in jobs if name.startswith("ingest_recording")]
    assert names == [
        f"ingest_recording/sub-d/ses-a/{m}/sub-d_ses-a_{m}" for m in ("ieeg", "spikes")
    ]
    job, store = jobs[names[1]], f"stores/sub-d/ses-a/ieeg/{IEEG}"
    assert set(job.inputs) == {
        "raw/s.nwb", "raw/ttl.csv", "raw/gaze.csv", f"{store}.zarr", f"{store}.report.json",
    }  # fmt: skip
    assert job.step[3:5] == ("--inputs", f"{store}.zarr")


def test_references_that_cannot_be_are_refused(tmp_path):
    for overrides, fragment in (
        ({SPIKES: clock("sub-d_ses-a_ieg")}, f"Did you mean '{IEEG}'"),
        ({SPIKES: clock(IEEG), IEEG: clock(SPIKES)}, "by itself"),
        ({SPIKES: clock(SPIKES)}, "by itself"),
    ):
        with pytest.raises(ConfigError, match=fragment):
            plan(tmp_path, overrides)
