"""What the GP-VAE refuses and tells: the rows of sections 12 and 13 of its specification."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from neuropipe.analyses import gp_vae
from neuropipe.analyses.gp_vae.kernels.likelihoods import ETA_CAP
from neuropipe.errors import DataError, issues_from_json
from neuropipe.simulate.spikes_and_frames import spikes_and_frames


def settings(**changes) -> gp_vae.Settings:
    return gp_vae.Settings(**{"latents": 2, "restarts": 1, **changes})


def told(result: xr.Dataset) -> dict[str, str]:
    """Return the messages of a result by code."""
    return {one.code: one.message for one in issues_from_json(result.attrs["issues"])}


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    return spikes_and_frames(n_trials=16, n_bins=30, n_units=20, video=False)[0]


@pytest.fixture(scope="module")
def good(data) -> xr.Dataset:
    bounds = {"length_scale_s": [0.04, 0.35]}
    return gp_vae.fit(data, settings(prior=bounds), 0)


@pytest.fixture(scope="module")
def noise(data) -> xr.Dataset:
    """Return counts of units that share nothing."""
    values = np.random.default_rng(0).poisson(1.0, data["spikes"].shape)
    return data.assign(spikes=data["spikes"].copy(data=values))


def test_a_sound_fit_tells_nothing(good):
    assert told(good) == {}
    assert bool(good["restart_converged"].all())


def test_repeated_times_are_refused(data):
    times = data["time_spikes"].values.copy()
    times[4] = times[3]
    with pytest.raises(DataError, match="time_spikes: times must rise without repeats"):
        gp_vae.fit(data.assign_coords(time_spikes=times), settings(), 0)


def test_bad_values_are_named_with_their_trial(data):
    counts = data["spikes"].astype(float)
    for bad, message in ((-1.0, "spikes: a count in trial 5"), (np.inf, "spikes: .* trial 5")):
        wrong = counts.copy(deep=True)
        wrong[5, 2, 1] = bad
        with pytest.raises(DataError, match=message):
            gp_vae.fit(data.assign(spikes=wrong), settings(), 0)


def test_signals_given_as_counts_are_refused(data):
    rates = data["spikes"] / 0.02 + 0.3
    with pytest.raises(DataError, match="likelihood: gaussian"):
        gp_vae.fit(data.assign(spikes=rates), settings(), 0)


def test_modality_without_a_value_in_training_trials_is_refused(data):
    nothing = np.full((16, 10, 4), np.nan)
    wide = data.assign(ieeg=(("trial", "time_ieeg", "unit_ieeg"), nothing)).assign_coords(
        time_ieeg=0.06 * np.arange(10)
    )
    with pytest.raises(DataError, match="ieeg: no valid value in any training trial"):
        gp_vae.fit(wide, settings(latents={"shared": 1, "private": 0}), 0)


def test_groups_without_a_latent_are_refused():
    with pytest.raises(ValidationError, match="both 0"):
        settings(latents={"shared": 0, "private": 0})


def test_a_fit_that_was_cut_short_is_told(data):
    found = gp_vae.fit(data, settings(max_epochs=2), 0)
    assert "NOT_CONVERGED" in told(found)
    assert found.attrs["converged"] == 0
    assert not found["restart_converged"].values.any()


def test_length_scale_at_its_bound_is_told(data):
    found = gp_vae.fit(data, settings(prior={"length_scale_s": [0.02, 0.05]}), 0)
    assert "0.05 s" in told(found)["LENGTH_AT_BOUND"]


def test_latents_that_carry_nothing_are_told(data, monkeypatch):
    """A posterior like the prior: 0 nats per trial."""
    from neuropipe.analyses.gp_vae import stages

    read = stages.read_fitted

    def without_loadings(*given):
        fitted = read(*given)
        decoder = fitted.model.decoders["spikes"]
        decoders = {"spikes": replace(decoder, loading=decoder.loading * [1.0, 0.0])}
        return replace(fitted, model=replace(fitted.model, decoders=decoders))

    monkeypatch.setattr(stages, "read_fitted", without_loadings)
    found = gp_vae.fit(data, settings(max_epochs=3), 0)
    assert told(found)["COLLAPSED_LATENTS"] == "1 latents carry less than 0.1 nats per trial"


def test_prediction_worse_than_a_mean_is_told(noise):
    """Of the units that were held out, not of all."""
    found = gp_vae.fit(noise, settings(latents=2, max_epochs=10), 0)
    scores = found["co_smoothing_spikes"].values
    assert np.isfinite(scores).sum() == 5
    share = 100 * (scores[np.isfinite(scores)] < 0).mean()
    assert share > 20
    assert told(found)["NEGATIVE_CO_SMOOTHING"].startswith(f"{share:.0f} % of held-out units")


def test_little_padding_is_told(data):
    found = gp_vae.fit(data, settings(prior={"pad": 0.5, "length_scale_s": [0.04, 0.3]}), 0)
    assert "SHORT_PADDING" in told(found)


def test_rates_at_the_cap_are_told(data, good, monkeypatch):
    from neuropipe.analyses.gp_vae import outputs, stages

    read = stages.read_fitted

    def raised(*given):
        fitted = read(*given)
        decoder = fitted.model.decoders["spikes"]
        offset = decoder.offset.copy()
        offset[7] = ETA_CAP + 5.0
        decoders = {"spikes": replace(decoder, offset=offset)}
        return replace(fitted, model=replace(fitted.model, decoders=decoders))

    monkeypatch.setattr(stages, "read_fitted", raised)
    found = gp_vae.fit(data, settings(max_epochs=3), 0)
    assert told(found)["PREDICTOR_CAPPED"] == "log rates of 1 units end at the cap of 20"
    assert outputs.ETA_CAP == ETA_CAP
    assert "PREDICTOR_CAPPED" not in told(good)


def test_shared_latent_that_one_modality_does_not_need_is_told(data, monkeypatch):
    from neuropipe.analyses.gp_vae import stages

    read, signal = stages.read_fitted, np.random.default_rng(0).normal(size=(16, 10, 4))
    both = data.assign(ieeg=(("trial", "time_ieeg", "unit_ieeg"), signal)).assign_coords(
        time_ieeg=0.06 * np.arange(10)
    )
    given = settings(latents={"shared": 1, "private": 1}, max_epochs=3)

    def without_loadings(*args):
        fitted = read(*args)
        decoder = fitted.model.decoders["ieeg"]
        silent = replace(decoder, loading=decoder.loading * [0.0, 1.0, 1.0])
        decoders = {**fitted.model.decoders, "ieeg": silent}
        return replace(fitted, model=replace(fitted.model, decoders=decoders))

    monkeypatch.setattr(stages, "read_fitted", without_loadings)
    found = gp_vae.fit(both, given, 0)
    assert told(found)["LATENT_NOT_SHARED"] == "latent 0 explains less than 0.5 % of ieeg"
    monkeypatch.setattr(stages, "read_fitted", read)
    copied = both.assign(ieeg=both["ieeg"].copy(data=np.asarray(data["spikes"])[:, ::3, :4] * 1.0))
    assert "LATENT_NOT_SHARED" not in told(gp_vae.fit(copied, given, 0))
