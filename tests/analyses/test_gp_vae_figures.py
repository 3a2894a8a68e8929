"""Figures of the GP-VAE latents: which there are, and the numbers behind them."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.analyses import gp_vae
from neuropipe.analyses.gp_vae.spec import ANALYSIS


@pytest.fixture(scope="module")
def simulated():
    data, _ = gp_vae.simulate(n_trials=20, n_bins=30, n_units=30, video=False)
    return data, gp_vae.fit(data, gp_vae.Settings(latents=2, restarts=1), 0)


def windows(data, overlap):
    """Return the trials as windows of one recording that overlap in part."""
    step = float(np.diff(data["time_spikes"].values).mean())
    onset = (data.sizes["time_spikes"] - overlap) * step * np.arange(data.sizes["trial"])
    return data.assign_coords(trial_onset=("trial", onset)).assign_attrs(trials_by="blocks")


def test_every_declared_figure_is_drawn(simulated):
    drawn = gp_vae.figures(simulated[1])
    assert tuple(drawn) == ANALYSIS.figure_slugs
    for slug, figure in drawn.items():
        assert figure.caption.count("Good:") == 1, slug
        assert figure.caption.count("Bad:") == 1, slug
        assert len(figure.table), slug


def test_windows_of_a_recording_have_a_figure_of_their_own(simulated):
    data = windows(simulated[0], 10)
    result = gp_vae.fit(data, gp_vae.Settings(latents=2, restarts=1, max_epochs=5), 0)
    drawn = gp_vae.figures(result)
    assert tuple(drawn) == (*ANALYSIS.figure_slugs, *ANALYSIS.optional_slugs)
    figure = drawn["recording"]
    assert len(figure.axes) == 3  # two latents and the rates
    table = figure.table
    first = table[table["latent"] == 1]
    clock = result["recording_time"].values[: len(first)]
    np.testing.assert_allclose(first["time_s"], clock)
    np.testing.assert_allclose(
        first["mean"], result["recording_latent_mean"].values[: len(first), 0]
    )
    # The first twelve windows: the thick blend, and one thin line each.
    assert len(figure.axes[0].lines) == 13


def test_one_null_line_per_modality(simulated):
    figure = gp_vae.figures(simulated[1])["scores"]
    dotted = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    null = simulated[1]["score"].sel(metric="null_bits_per_spike", modality="spikes", split="test")
    assert [line.get_xdata()[0] for line in dotted] == [max(float(null), -0.5)]
