"""Clocks of the GP-VAE latents: offsets of samples, steps, blocks that overlap."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses import gp_vae
from neuropipe.analyses.gp_vae.prepare import prepare
from neuropipe.errors import DataError, issues_from_json

STEP, BLOCK = 0.05, 60  # seconds, samples


def settings(**changes) -> gp_vae.Settings:
    return gp_vae.Settings(**{"latents": 1, "restarts": 1, **changes})


def codes(result: xr.Dataset) -> set[str]:
    return {issue.code for issue in issues_from_json(result.attrs["issues"])}


def wave(seconds: np.ndarray) -> np.ndarray:
    """Return a latent of unit size with periods of about 3 s."""
    phase = 2 * np.pi * seconds
    return np.sin(phase / 3.1) + np.sin(phase / 2.3 + 1)


def signal(seconds: np.ndarray, units: int, seed: int, noise: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    loading = rng.choice([-1.0, 1.0], units)
    return wave(seconds)[..., None] * loading + noise * rng.normal(size=(*seconds.shape, units))


def blocks(overlap: int, count: int = 16) -> xr.Dataset:
    """Cut one recording into blocks that share `overlap` samples."""
    onset = (BLOCK - overlap) * STEP * np.arange(count)
    times = STEP * np.arange(BLOCK)
    whole = signal(STEP * np.arange(2000), 6, 0)
    start = np.round(onset / STEP).astype(int)
    values = np.stack([whole[one : one + BLOCK] for one in start])
    return xr.Dataset(
        {"ieeg": (("trial", "time_ieeg", "unit_ieeg"), values, {"step_s": STEP})},
        coords={"time_ieeg": times, "trial_onset": ("trial", onset)},
        attrs={"trials_by": "blocks"},
    )


@pytest.fixture(scope="module")
def overlapping() -> xr.Dataset:
    bounds = {"length_scale_s": [0.1, 0.6]}
    return gp_vae.fit(blocks(20), settings(prior=bounds), 0)


def two_clocks() -> xr.Dataset:
    """Return two modalities whose samples lie up to half a second apart."""
    rng = np.random.default_rng(3)
    onset, times = 7.0 * np.arange(16), STEP * np.arange(BLOCK)
    slow = 0.5 * np.arange(6)
    late = rng.uniform(0, 0.5, 16)
    return xr.Dataset(
        {
            "ieeg": (("trial", "time_ieeg", "unit_ieeg"), signal(onset[:, None] + times, 8, 0)),
            "fmri": (
                ("trial", "time_fmri", "unit_fmri"),
                signal(onset[:, None] + slow + late[:, None], 6, 1),
                {"step_s": 0.5},
            ),
        },
        coords={
            "time_ieeg": times, "time_fmri": slow, "sample_offset_fmri": ("trial", late)
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    "inference",
    [{}, {"inference": "svi"}, {"inference": "amortized", "refine": False, "max_epochs": 60}],
    ids=["exact", "svi", "encoders alone"],
)
def test_offsets_of_samples_count_between_modalities(inference):
    """The signal follows its true times, whatever the posterior family."""
    data = two_clocks()
    given = settings(
        latents={"shared": 1, "private": 0}, modalities={"fmri": {"kernel": "delta"}}, **inference
    )
    found = {}
    for name, one in (("kept", data), ("left", data.drop_vars("sample_offset_fmri"))):
        scores = gp_vae.fit(one, given, 0)["score"].sel(split="test", modality="fmri")
        found[name] = float(scores.sel(metric="from_ieeg_r2"))
    assert found["kept"] > 0.85  # noise alone leaves 0.3^2 beside a signal of variance about 1
    assert found["kept"] > found["left"] + 0.1


def test_one_sample_per_trial_has_the_step_it_was_given():
    data = blocks(0)
    slow = np.random.default_rng(0).normal(size=(16, 1, 3))
    data = data.assign(
        fmri=(("trial", "time_fmri", "unit_fmri"), slow, {"step_s": 2.0})
    ).assign_coords(time_fmri=[0.5])
    assert prepare(data, settings(), 0).step == STEP
    result = gp_vae.fit(data, settings(latents={"shared": 1, "private": 0}), 0)
    assert result["prediction_fmri"].shape == (16, 1, 3)
    assert np.isfinite(result["prediction_fmri"].values).all()
    data["fmri"].attrs.clear()
    with pytest.raises(DataError, match="step_s"):
        prepare(data, settings(), 0)


def test_no_sample_is_both_fitted_and_scored():
    data = blocks(20)
    prepared = prepare(data, settings(), 0)
    place = np.round((data["trial_onset"].values[:, None] + data["time_ieeg"].values) / STEP)
    seen = {}
    for split in ("train", "validation", "test"):
        rows = prepared.trials(split)
        valid = prepared.take(rows)["ieeg"].valid.any(axis=2)
        seen[split] = set(place[rows][valid])
    assert len(seen["test"]) > 0
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]
    # What no other split holds stays.
    assert len(set().union(*seen.values())) == np.unique(place).size


def test_blocks_side_by_side_keep_every_sample():
    assert prepare(blocks(0), settings(), 0).later == {}


def test_latents_of_overlapping_blocks_are_blended(overlapping):
    time = overlapping["recording_time"].values
    np.testing.assert_allclose(np.diff(time), STEP)
    assert time[-1] == pytest.approx(15 * 40 * STEP + (BLOCK - 1) * STEP)
    latent = overlapping["recording_latent_mean"].values[:, 0]
    assert abs(np.corrcoef(latent, wave(time))[0, 1]) > 0.99
    assert (overlapping["recording_latent_var"].values > 0).all()
    # Where only one block lies, the blend is that block.
    block = overlapping["latent_mean"].sel(trial=0).values[:40, 0]
    np.testing.assert_allclose(latent[:40], block)
    # In the overlap it runs from one block to the next, within both.
    first = overlapping["latent_mean"].sel(trial=0).values[40:, 0]
    second = overlapping["latent_mean"].sel(trial=1).values[:20, 0]
    inside = latent[40:60]
    assert (inside >= np.minimum(first, second) - 1e-12).all()
    assert (inside <= np.maximum(first, second) + 1e-12).all()
    assert abs(inside[0] - first[0]) < abs(inside[0] - second[0]) + 1e-12


def test_predictions_of_overlapping_blocks_are_blended(overlapping):
    time = overlapping["recording_time_ieeg"].values
    np.testing.assert_allclose(time, overlapping["recording_time"].values)
    whole = overlapping["recording_prediction_ieeg"].values
    assert whole.shape == (time.size, 6)
    truth = signal(STEP * np.arange(2000), 6, 0, noise=0.0)[: time.size]
    assert np.corrcoef(whole.ravel(), truth.ravel())[0, 1] > 0.99
    blocks_of = overlapping["prediction_ieeg"].values
    np.testing.assert_allclose(whole[:40], blocks_of[0, :40], rtol=1e-6)
    # In the overlap each block counts by its distance from its own edge.
    far, near = np.arange(20, 0, -1.0)[:, None], np.arange(1, 21.0)[:, None]
    expected = (far * blocks_of[0, 40:] + near * blocks_of[1, :20]) / (far + near)
    np.testing.assert_allclose(whole[40:60], expected, rtol=1e-4, atol=1e-5)


def test_runs_are_blended_apart():
    data = blocks(20, count=8)
    run = np.repeat(["a", "b"], 4)
    onset = np.tile(data["trial_onset"].values[:4], 2)
    data = data.assign_coords(run=("trial", run), trial_onset=("trial", onset))
    found = gp_vae.fit(data, settings(max_epochs=5), 0)
    assert found["recording_run_ieeg"].values.tolist() == ["a"] * 180 + ["b"] * 180
    assert np.isfinite(found["recording_prediction_ieeg"].values).all()


def test_too_short_an_overlap_is_told(overlapping):
    lengths = float(overlapping["length_scale_s"].max())
    assert ("SHORT_OVERLAP" in codes(overlapping)) == (4 * lengths > 20 * STEP)
    short = gp_vae.fit(blocks(2), settings(), 0)
    assert "SHORT_OVERLAP" in codes(short)
    none = gp_vae.fit(blocks(0), settings(), 0)
    assert "recording_latent_mean" not in none


def test_pyro_model_knows_the_time_of_each_sample():
    """Given the coefficients it expects what the fitted model predicts at shifted times."""
    import pyro
    import torch
    from pyro.poutine import condition, trace

    data = blocks(0).assign_coords(
        sample_offset_ieeg=("trial", np.linspace(0, 0.04, 16)),
    )
    prepared = prepare(data, settings(), 0)
    fitted = gp_vae.load(gp_vae.fit(data, settings(), 0))
    posterior = fitted.posterior(prepared.data)
    expected, _ = fitted.predict("ieeg", prepared.data["ieeg"], posterior.moments["ieeg"])
    model = gp_vae.pyro_model(fitted, prepared.data, observed=False)
    pyro.set_rng_seed(0)
    u = torch.as_tensor(posterior.mean)
    drawn = trace(condition(model, data={"u": u})).get_trace().nodes["ieeg"]["fn"]
    np.testing.assert_allclose(drawn.mean.numpy(), expected, atol=1e-9)
