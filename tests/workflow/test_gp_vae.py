"""A study whose spikes go through assembly, fits and summary of `gp_vae` to the page."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.plan import make_plan
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.store.provenance import read_dataset
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

CONFIG = """study: latents
analyses:
  gp_vae:
    input:
      modalities: [spikes]
      bin_ms: 100
      trials: {by: blocks, block_s: 3}
    latents: 1
    restarts: 2
    max_epochs: 10
"""


@pytest.fixture(scope="module")
def latents(tmp_path_factory, study_at):
    """Return a finished study of one spike recording."""
    path = tmp_path_factory.mktemp("latents")
    rates = (4.0, 8.0, 20.0, 12.0, 6.0, 9.0)
    write_spike_nwb(simulate_spikes(rates), path / "raw/d1.nwb", subject="d1")
    (path / "config").mkdir()
    table = "subject\tmodality\tpath\nd1\tspikes\traw/d1.nwb\n"
    (path / "config/recordings.tsv").write_text(table)
    (path / "config/config.yaml").write_text(CONFIG)
    study = study_at(path)
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    return study


def test_one_job_per_size_and_restart_then_the_summary(latents):
    plan = make_plan(load_study(latents.path))
    jobs = {name for name in plan if name.startswith("gp_vae")}
    assert jobs == {
        "gp_vae_fit/sub-d1_gp_vae_latents-1_restart-0",
        "gp_vae_fit/sub-d1_gp_vae_latents-1_restart-1",
        "gp_vae_summary/sub-d1_gp_vae",
    }


def test_result_has_latents_of_every_block(latents):
    result = read_dataset(latents.path / "results/sub-d1/gp_vae/result.nc")
    assert result["latent_mean"].shape == (20, 30, 1)
    assert np.isfinite(result["latent_mean"].values).all()
    assert result.sizes["restart"] == 2


def test_fits_are_kept_and_nothing_is_left_to_do(latents):
    parts = latents.path / "work/sub-d1/gp_vae/fit"
    assert len(list(parts.glob("latents-1_restart-*.nc"))) == 2
    assert "Nothing to be done" in latents.snakemake("--dry-run").out


def test_page_shows_the_latents(latents):
    page = (latents.path / "report/index.html").read_text()
    assert "Latent trajectories" in page
    assert "Held-out prediction" in page
