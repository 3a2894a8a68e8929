"""The bi-clustering through the workflow: chains as jobs, checkpoints, figures."""

from __future__ import annotations

import shutil

import pytest
import xarray as xr

from neuropipe import open_result
from neuropipe.plan import make_plan
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

CONFIG = """study: bouts
analyses:
  bicluster:
    input: {bin_ms: 500}
    model: {p: 1, n_states_max: 3}
    mcmc: {warmup: 10, draws: 20, thin: 2, latent_thin: 2, chains: 2, checkpoint_min: 0}
"""
WORK = "work/sub-d1_spikes/bicluster"
RESULT = "results/sub-d1_spikes/bicluster"
SLUGS = ("counts", "coclustering", "numbers", "trajectories", "dynamics", "regions", "checks",
         "diagnostics")  # fmt: skip


@pytest.fixture(scope="module")
def clusters(tmp_path_factory, study_at):
    """Return a finished study of one recording."""
    path = tmp_path_factory.mktemp("bicluster")
    write_spike_nwb(simulate_spikes(), path / "raw/d1.nwb", subject="d1")
    (path / "config").mkdir()
    (path / "config/recordings.tsv").write_text("subject\tmodality\tpath\nd1\tspikes\traw/d1.nwb\n")
    (path / "config/config.yaml").write_text(CONFIG)
    study = study_at(path)
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    return study


def test_every_chain_is_a_job_of_its_own(clusters):
    plan = make_plan(load_study(clusters.path))
    chains = {job for job in plan if job.startswith("bicluster_chain/")}
    assert len(chains) == 2
    assert all((clusters.path / f"{WORK}/chain/chain-{k}.nc").exists() for k in (0, 1))


def test_checkpoints_are_removed_when_chains_are_done(clusters):
    assert not list((clusters.path / WORK / "checkpoint").glob("*"))


def test_the_result_opens_with_its_draws(clusters):
    result = open_result("sub-d1_spikes", "bicluster", study=clusters.path)
    assert result["posterior/n_clusters"].shape == (2, 10)
    assert result.attrs["converged"] == 0


def test_figures_texts_and_page_are_written(clusters):
    for slug in SLUGS:
        assert (clusters.path / f"{RESULT}/fig-{slug}.svg").stat().st_size > 1000
    assert "Polya-Gamma" in (clusters.path / f"{RESULT}/methods.md").read_text()
    assert "NOT CONVERGED" in (clusters.path / "report/index.html").read_text()


def test_nothing_is_left_to_do(clusters):
    assert clusters.would_run() == set()


def test_one_process_and_four_draw_the_same_bits(clusters, tmp_path, study_at):
    shutil.copytree(clusters.path, tmp_path, dirs_exist_ok=True)
    again = study_at(tmp_path)
    paths = [f"{WORK}/chain/chain-{chain}.nc" for chain in (0, 1)]
    for cores in ("1", "4"):
        shutil.rmtree(tmp_path / WORK)
        answer = again.snakemake("--cores", cores, *paths)
        assert answer.code == 0, answer.out
        for path in paths:
            with (
                xr.open_dataset(clusters.path / path, engine="h5netcdf") as one,
                xr.open_dataset(tmp_path / path, engine="h5netcdf") as other,
            ):
                xr.testing.assert_equal(one, other)
