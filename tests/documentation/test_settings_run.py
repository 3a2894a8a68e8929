"""Settings of the pages do what they say: tables are read, clocks found, analyses planned.

Analyses are put into a copy of the finished demo, which ``NEUROPIPE_DEMO`` names: `.ci/run` makes
one.
"""

from __future__ import annotations

import contextlib
import csv
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

import neuropipe
from neuropipe.cli.main import main
from neuropipe.simulate.bids_files import BidsRecording, write_bids_recording, write_bids_root
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.store.layout import input_file
from neuropipe.study import load_study

from .blocks import ROOT, blocks, documents

CLOCKS = ROOT / "docs" / "clocks_and_behavior.md"
SPIKES, CONTACTS = "sub-01_ses-a_spikes", "sub-01_ses-a_ieeg"
SCALE, OFFSET = 1.0002, -3.5
DURATION_S = 60.0
ANALYSES = [
    one for one in blocks("yaml") if any("analyses" in given for given in documents(one.text))
]


def clock_settings() -> list[dict]:
    """Return the settings of the page on clocks, those of a recording each."""
    return [given for one in blocks("yaml") if one.page == CLOCKS for given in documents(one.text)]


def write_columns(path, /, **columns):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_contacts(root, pulses):
    """Write depth electrodes in BIDS whose events are the pulses; return the path of the file."""
    rate = 250.0
    values = 30.0 * np.random.default_rng(2).normal(size=(round(DURATION_S * rate), 4))
    recording = BidsRecording(
        datatype="ieeg", names=("A1", "A2", "A3", "A4"), types=("SEEG",) * 4, bad=(), rate_hz=rate,
        microvolts=values, events=tuple((float(t), 0.1, "sync", 1) for t in pulses),
        position_mm={}, anat_label={},
    )  # fmt: skip
    write_bids_root(root, {"01": ("31", "F", "human")})
    return write_bids_recording(root, recording, {"sub": "01", "ses": "a", "task": "rest"})


def write_tables(folder, pulses):
    """Write the tables that the page names, on the clock of the device unless it says otherwise."""
    rng = np.random.default_rng(1)
    write_columns(folder / "ttl.csv", time_ms=(pulses - OFFSET) / SCALE * 1e3)
    time = np.arange(0.0, DURATION_S, 0.05)
    zone = np.where(time < 30, "left", "right")
    write_columns(folder / "eye.csv", t=time * 1e3, x=np.sin(time), y=np.cos(time), zone=zone)
    flashes = np.sort(rng.uniform(1, DURATION_S - 1, 20))
    write_columns(folder / "led.csv", time_s=flashes + 7.0)
    pd.DataFrame({"time_s": time + 7.0, "speed": np.cos(time)}).to_parquet(folder / "track.parquet")
    onsets, labels = [*flashes, 30.0], ["led"] * len(flashes) + ["go"]
    order = np.argsort(onsets)
    write_columns(
        folder / "events.tsv",
        onset=np.array(onsets)[order], duration=np.full(len(order), 0.1),
        label=np.array(labels)[order], side=np.full(len(order), "left"),
    )  # fmt: skip
    start = np.arange(0.0, 50.0, 10.0)
    write_columns(folder / "trials.csv", start=start, stop=start + 8.0, go_time=start + 2.0)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Return a study of one session: electrodes with sync pulses, and spikes beside tables."""
    folder = tmp_path_factory.mktemp("session")
    raw = folder / "raw"
    raw.mkdir()
    pulses = np.cumsum(np.random.default_rng(0).uniform(0.5, 2.0, 40))
    contacts = write_contacts(folder / "bids", pulses)
    write_spike_nwb(simulate_spikes(duration_s=DURATION_S, trials=0), raw / "units.nwb")
    with h5py.File(raw / "units.nwb", "r+") as file:
        moment = file["session_start_time"]
        moment[()] = "2024-05-01T09:30:05+02:00"
    write_tables(raw, pulses)
    (folder / "config").mkdir()
    columns = {"subject": ["01"] * 2, "session": ["a"] * 2, "modality": ["spikes", "ieeg"],
               "path": ["raw/units.nwb", contacts.relative_to(folder).as_posix()]}  # fmt: skip
    write_columns(folder / "config" / "recordings.tsv", **columns)
    return folder


def ingest(folder, **override):
    """Ingest the spikes with an override, after the electrodes that it may point to."""
    given = {"study": "session", "ingest": {"overrides": {SPIKES: override}}}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(given))
    for name in (CONTACTS, SPIKES):
        with contextlib.chdir(folder):
            assert main(["run", "--only", name, "--here"]) == 0
    return neuropipe.open(SPIKES, study=folder)


# What each of the ways to state a clock makes of the devices of `session`: a and b.
PAIRS = {"a": (1.00002, -3.5), "pulses": (SCALE, OFFSET), "session_start": (1.0, 5.0)}


@pytest.mark.parametrize("way", PAIRS)
def test_each_way_to_state_a_clock_finds_it(session, way):
    (given,) = [one for one in clock_settings() if way in one.get("clock", {})]
    store = ingest(session, **given)
    # Pulses were written with microseconds.
    found = (store.attrs["clock_scale"], store.attrs["clock_offset"])
    assert found == pytest.approx(PAIRS[way], abs=1e-5)


def test_every_way_of_the_page_is_tried():
    clocks = [one["clock"] for one in clock_settings() if "clock" in one]
    assert len(clocks) == len(PAIRS)
    assert all(any(way in clock for way in PAIRS) for clock in clocks)


def test_tables_of_behaviour_events_and_trials_are_read(session):
    (given,) = [one for one in clock_settings() if "behavior" in one]
    store = ingest(session, **given)
    behavior = store["behavior"]
    assert {"x", "y", "zone", "speed"} <= set(behavior.data_vars)
    assert behavior["x"].attrs["units"] == "deg"
    # The camera runs 7 s behind the device: its clock was found by the flashes.
    assert behavior["time_camera"].values[0] == pytest.approx(0.0, abs=1e-3)
    assert "x_side" in store["events"]
    assert store["trials"].sizes["trial"] == 5
    assert "go_time" in store["trials"]


def analyses_of_pages() -> dict[str, dict]:
    """Return the analyses of all blocks, each under a label that names its line."""
    return {
        f"{block.page.stem.lower()}_{block.line}_{label}": {"use": label} | section
        for block in ANALYSES
        for label, section in yaml.safe_load(block.text)["analyses"].items()
    }


def write_events(demo):
    """Write the events that the pages speak of: go, face, house, cat and shoe."""
    go = np.arange(2.0, 90.0, 4.0)
    write_columns(demo / "raw" / "go.csv", onset=go, duration=0 * go, label=["go"] * len(go))
    write_columns(demo / "raw" / "trials.csv", start=go, stop=go + 2.0)
    words = {"tool": "cat", "fruit": "shoe"}
    for path in demo.glob("bids/sub-f01/func/*_events.tsv"):
        table = pd.read_csv(path, sep="\t")
        kind = table["trial_type"].str.rstrip("123")
        table.assign(trial_type=kind.replace(words)).to_csv(path, sep="\t", index=False)
    file = demo / "config" / "config.yaml"
    given = yaml.safe_load(file.read_text())
    for name in ("sub-d01_ses-a_spikes", "sub-d01_ses-a_eeg"):
        tables = {"events": {"path": "go.csv"}, "trials": {"path": "trials.csv"}}
        for table in tables.values():
            table["time_unit"] = "s"
        given["ingest"]["overrides"][name] |= tables
    file.write_text(yaml.safe_dump(given | {"analyses": analyses_of_pages()}))


def test_analyses_of_the_pages_are_valid_planned_and_assembled(beside_demo, tmp_path, capfd):
    demo = tmp_path / "demo"
    shutil.copytree(beside_demo / "demo", demo, symlinks=True)
    write_events(demo)
    study = ["--directory", str(demo)]
    assert main(["validate", *study]) == 0, capfd.readouterr().out
    assert main(["run", "-n", *study]) == 0
    told = capfd.readouterr().out
    assert [label for label in analyses_of_pages() if f" {label}: " not in told] == []
    inputs = {
        run.label: [input_file(collection.name, run.label) for collection in run.collections]
        for run in load_study(demo).runs
    }
    assert set(inputs) == set(analyses_of_pages())
    assert all(inputs.values())
    files = [path for paths in inputs.values() for path in paths]
    assert main(["run", *study, "--", *files]) == 0, capfd.readouterr()
    assert [path for path in files if not (demo / path).exists()] == []
