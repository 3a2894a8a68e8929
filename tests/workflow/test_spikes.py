"""A study of spike recordings: raw files, stores, quality figures and the page; no steps."""

from __future__ import annotations

import pytest

from neuropipe.plan import make_plan
from neuropipe.simulate.spike_files import (
    simulate_spikes,
    write_phy_folder,
    write_spike_nwb,
    write_spike_table,
)
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

NAMES = [f"sub-d{k}_spikes" for k in (1, 2, 3)]
FIGURES = ("raster", "rate", "intervals", "units")


@pytest.fixture(scope="module")
def spikes(tmp_path_factory, study_at):
    """Return a finished study of one recording per format."""
    path = tmp_path_factory.mktemp("spikes")
    data = simulate_spikes()
    write_spike_nwb(data, path / "raw/d1.nwb", subject="d1")
    write_phy_folder(data, path / "raw/d2")
    write_spike_table(data, path / "raw/d3.csv")
    (path / "config").mkdir()
    rows = ["subject\tmodality\tpath", "d1\tspikes\traw/d1.nwb", "d2\tspikes\traw/d2"]
    rows += ["d3\tspikes\traw/d3.csv", ""]
    (path / "config/recordings.tsv").write_text("\n".join(rows))
    (path / "config/config.yaml").write_text(
        "study: spikes\n"
        "ingest:\n  readers:\n    phy: {duration_s: 60}\n"
        "    spike_table: {time_unit: s, duration_s: 60}\n"
    )
    study = study_at(path)
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    return study


def test_jobs_are_those_without_preprocessing(spikes):
    plan = make_plan(load_study(spikes.path))
    expected = {f"ingest_recording/sub-d{k}/spikes/sub-d{k}_spikes" for k in (1, 2, 3)}
    expected |= {f"recording_figures/{name}" for name in NAMES}
    assert set(plan) == expected | {"ingest_index/all", "report_page/all"}
    inputs = plan["recording_figures/sub-d1_spikes"].inputs
    assert all(path.startswith("stores/") for path in inputs)


def test_figures_lie_beside_no_preprocessed_store(spikes):
    made = sorted(p.name for p in (spikes.path / "preprocessed").iterdir())
    assert made == NAMES
    for name in NAMES:
        cards = spikes.read(f"preprocessed/{name}/figures.json")["figures"]
        assert [card["slug"] for card in cards] == list(FIGURES)
        assert all("Good:" in card["caption"] and "Bad:" in card["caption"] for card in cards)


def test_the_page_shows_every_recording(spikes):
    page = (spikes.path / "report/index.html").read_text()
    for text in (*NAMES, "Raster of the middle stretch", "Intervals between spikes"):
        assert text in page


def test_nothing_is_left_to_do(spikes):
    assert spikes.would_run() == set()
    status = spikes.neuropipe("status").out
    assert "done" in status
    for word in ("stale", "missing", "failed"):
        assert f" {word}" not in status.replace("0 " + word, "")
