"""Every preset, from a folder of raw files to the report, with the commands that the README names.

Settings are those of the preset; fewer iterations, starts and folds, and fewer states or components
to choose from.
What a preset says in its comments to add is added, or planned where it needs another study.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import neuropipe
from neuropipe.config.load import presets
from neuropipe.simulate.bids_files import simulate_seeg, write_bids_recording, write_bids_root
from neuropipe.simulate.calcium_files import write_calcium_nwb
from neuropipe.simulate.channel_files import simulate_channels, write_fif
from neuropipe.simulate.fmri_files import simulate_fmri, write_atlas, write_bids_fmri
from neuropipe.simulate.planted_calcium import planted_calcium
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.store.atlas import load_atlas
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow


def write_worm(raw, study):
    """Write two worms with names for their neurons, as NWB."""
    atlas, subjects = load_atlas("celegans-300"), ("w1", "w2")
    data, _ = planted_calcium(0, n_neurons=24, n_subjects=2, duration=220.0, n_motifs=2)
    data = data.assign_coords(subject=list(subjects), neuron=list(atlas.names[:24]))
    for subject in subjects:
        write_calcium_nwb(data, subject, raw / f"{subject}.nwb", fluorescence=False)


def write_decision(raw, study):
    """Write two sessions of units with their trials, and the moments of `go`, as NWB."""
    from pynwb import NWBHDF5IO

    for seed, subject in enumerate(("m1", "m2")):
        spikes = simulate_spikes((4.0, 8.0, 15.0, 6.0), duration_s=60.0, trials=12, seed=seed)
        path = raw / f"{subject}.nwb"
        write_spike_nwb(spikes, path, subject=subject)
        with NWBHDF5IO(path, "a") as stream:
            nwb = stream.read()
            for start, _ in spikes.trials:
                nwb.add_epoch(float(start) + 1.0, float(start) + 1.1, ["go"])
            stream.write(nwb)


def write_ieeg(raw, study):
    """Write a patient with three shanks as BIDS."""
    write_bids_root(raw, {"p1": ("31", "F", "human")})
    write_bids_recording(raw, simulate_seeg(40.0), {"sub": "p1", "task": "rest"})


def write_fmri(raw, study):
    """Write a viewer as BIDS with confounds, and the atlas where the preset has it."""
    run = simulate_fmri(n_times=150)
    write_bids_fmri(run, raw, subject="v1")
    write_atlas(run, study / "config" / "atlas.nii.gz")


def write_meg(raw, study):
    """Write MEG with blinks beside an EOG and a trigger channel; no name of a subject."""
    made = simulate_channels(12, 60.0, kind="meg", bad=())
    time = np.arange(made.n_times) / made.rate_hz
    blinks = sum(np.exp(-(((time - t) / 0.1) ** 2)) for t in np.arange(2.0, 60.0, 3.7))
    scale = made.values.std(axis=0) * np.linspace(3.0, 0.5, 12)
    channels = replace(
        made,
        values=np.column_stack([made.values + blinks[:, None] * scale, 2e-4 * blinks]),
        names=(*made.names, "EOG 061"), types=(*made.types, "eog"), units=(*made.units, "V"),
        positions=np.vstack([made.positions, np.zeros(3)]),
    )  # fmt: skip
    write_fif(channels, raw / "monday_raw.fif")


FEWER = {"states": [1, 2], "restarts": 1, "max_iter": 20, "cv_folds": 2}


STATES = "Discrete states with coupling networks of their own (HMM-GLM)"
MOTIFS = "Dynamic functional connectomes (NTF)"


@dataclass(frozen=True)
class Try:
    """How one preset is tried.

    Attributes
    ----------
    write : callable
        Writes the folder of raw files, given it and the study's.
    rows : int
        Recordings that a scan finds.
    section : str
        Title of the analysis on the page.
    fewer : mapping
        Counts of the analysis that are made smaller.
    gaps : mapping
        What no name and no header tells: column of the table -> value.
    """

    write: Callable[[Path, Path], None]
    rows: int
    section: str = STATES
    fewer: Mapping[str, object] = field(default_factory=lambda: FEWER)
    gaps: Mapping[str, str] = field(default_factory=dict)


TRIES = {
    "worm": Try(write_worm, 2, MOTIFS, {"max_rank": 3, "restarts": 2, "max_iter": 50}),
    "decision": Try(write_decision, 2),
    "ieeg": Try(write_ieeg, 1),
    "fmri": Try(write_fmri, 1),
    "meg": Try(write_meg, 1, gaps={"subject": "01"}),
}
# Without its atlas the preset would keep every voxel.
NEEDS_COMMENTS = ("fmri",)


def suggested(preset):
    """Return the settings that the comments of a preset tell to add."""
    text = presets()[preset].read_text(encoding="utf-8")
    lines = re.findall(r"^#   (.*)$", text, re.MULTILINE)
    return yaml.safe_load("\n".join(lines)) or {}


def fill(table, gaps):
    """Fill the empty cells of a recordings table."""
    rows = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
    for column, value in gaps.items():
        assert (rows[column] == "").all(), rows
        rows[column] = value
    assert (rows["subject"] != "").all(), rows
    rows.to_csv(table, sep="\t", index=False)


def begin(preset, folder, study_at):
    """Write raw files, the study by its preset, and the table by a scan."""
    one, raw, study = TRIES[preset], folder / "raw", study_at(folder / "study")
    raw.mkdir()
    outside = study_at(folder)
    answer = outside.neuropipe("init", "study", "--preset", preset)
    assert answer.code == 0, answer.out
    one.write(raw, study.path)
    answer = study.neuropipe("scan", "../raw", "--output", "config/recordings.tsv")
    assert answer.code == 0, answer.out
    assert f"{one.rows} rows written" in answer.out
    fill(study.path / "config" / "recordings.tsv", one.gaps)
    return study


def test_every_preset_is_tried():
    assert set(TRIES) == set(presets())


@pytest.mark.parametrize("preset", TRIES)
def test_a_preset_leads_from_raw_files_to_the_report(preset, tmp_path, study_at):
    study, one = begin(preset, tmp_path, study_at), TRIES[preset]
    if preset in NEEDS_COMMENTS:
        study.edit(**suggested(preset))
    (label,) = (run.label for run in load_study(study.path).runs)
    study.edit(analyses={label: dict(one.fewer)})
    for words in (["validate"], ["run"]):
        answer = study.neuropipe(*words)
        assert answer.code == 0, answer.out
    loaded = load_study(study.path)
    assert study.would_run() == set()
    page = (study.path / "report" / "index.html").read_text()
    names = [row.name for row in loaded.recordings]
    assert [text for text in ("Data quality", one.section, *names) if text not in page] == []
    for collection in loaded.runs[0].collections:
        folder = f"results/{collection.name}/{label}"
        assert len(study.read(f"{folder}/figures.json")["figures"]) > 2
        assert (study.path / folder / "methods.md").read_text()
    if preset == "meg":
        cleaned = neuropipe.open(names[0], preprocessed=True, study=study.path)
        assert cleaned["ica_excluded"].values.sum() == 1  # the blinks


@pytest.mark.parametrize("preset", ["decision", "meg"])
def test_what_the_comments_of_a_preset_tell_to_add_is_valid_and_planned(preset, tmp_path, study_at):
    study = begin(preset, tmp_path, study_at)
    study.edit(**suggested(preset))
    for words in (["validate"], ["run", "-n"]):
        answer = study.neuropipe(*words)
        assert answer.code == 0, answer.out
    assert "hmm_glm_fit" in answer.out


def test_every_preset_with_comments_to_add_is_tried_with_them():
    assert {name for name in TRIES if suggested(name)} == {"decision", "meg", *NEEDS_COMMENTS}
