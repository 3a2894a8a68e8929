"""The GP-VAE latents: what they accept, what they refuse, what they return."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses import gp_vae
from neuropipe.analyses.gp_vae import stages
from neuropipe.analyses.gp_vae.methods import text
from neuropipe.analyses.gp_vae.prepare import prepare
from neuropipe.analyses.gp_vae.spec import ANALYSIS
from neuropipe.errors import ConfigError, DataError, issues_from_json
from neuropipe.simulate.spikes_and_frames import spikes_and_frames


def settings(**changes) -> gp_vae.Settings:
    return gp_vae.Settings(**{"latents": 2, "restarts": 1, **changes})


def codes(result: xr.Dataset) -> set[str]:
    return {issue.code for issue in issues_from_json(result.attrs["issues"])}


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    return spikes_and_frames(n_trials=16, n_bins=30, n_units=20, video=False)[0]


@pytest.fixture(scope="module")
def result(data: xr.Dataset) -> xr.Dataset:
    return gp_vae.fit(data, settings(), 0)


@pytest.fixture(scope="module")
def session(data: xr.Dataset) -> xr.Dataset:
    """Return counts with a signal of another clock that sees the same first latent."""
    truth = spikes_and_frames(n_trials=16, n_bins=30, n_units=20, video=False)[1]
    rng = np.random.default_rng(0)
    latent = truth["latent_value"].sel(latent="shared").values[:, ::3]
    signal = latent[..., None] * rng.choice([-1.0, 1.0], 6) + 0.2 * rng.normal(size=(16, 10, 6))
    signal[2] = np.nan  # a trial without the modality
    return data.assign(ieeg=(("trial", "time_ieeg", "unit_ieeg"), 10 + 3 * signal)).assign_coords(
        time_ieeg=data["time_spikes"].values[::3]
    )


def test_result_has_the_declared_variables(data, result):
    dims = {
        "latent_mean": ("trial", "time", "latent"),
        "latent_var": ("trial", "time", "latent"),
        "coef_mean": ("trial", "latent", "freq"),
        "length_scale_s": ("latent",),
        "latent_group": ("latent",),
        "latent_mask": ("modality", "latent"),
        "loading_spikes": ("unit_spikes", "latent"),
        "offset_spikes": ("unit_spikes",),
        "noise_spikes": ("unit_spikes",),
        "prediction_spikes": ("trial", "time_spikes", "unit_spikes"),
        "variance_explained": ("modality", "latent"),
        "elbo": ("restart", "epoch", "term"),
        "trial_split": ("trial",),
        "heldout_spikes": ("unit_spikes",),
        "score": ("metric", "modality", "split"),
    }
    for name, expected in dims.items():
        assert result[name].dims == expected, name
    assert result["heldout_spikes"].sum() == 5
    assert set(result["trial_split"].values) == {"train", "validation", "test"}
    np.testing.assert_allclose(result["time"], data["time_spikes"])


def test_latents_of_equal_length_scale_are_orthonormal_and_sorted(data):
    bounds = {"length_scale_s": [0.0999, 0.1]}
    found = gp_vae.fit(data, settings(prior=bounds), 0)
    loading = found["loading_spikes"].values
    gram = loading.T @ loading
    assert abs(gram[0, 1]) < 1e-6 * gram[0, 0]
    assert gram[0, 0] >= gram[1, 1]
    peaks = loading[np.abs(loading).argmax(axis=0), range(2)]
    assert (peaks > 0).all()


def test_silent_units_stay_in_the_outputs(data):
    silent = data.copy(deep=True)
    silent["spikes"][..., 3] = 0
    found = gp_vae.fit(silent, settings(), 0)
    assert "SILENT_UNITS" in codes(found)
    assert np.isnan(found["loading_spikes"].values[3]).all()
    assert (found["prediction_spikes"].values[..., 3] == 0).all()


def test_outside_a_trial_latents_are_missing(data):
    valid = np.ones(data["spikes"].shape[:2], bool)
    valid[0, 20:] = False
    found = gp_vae.fit(data.assign(valid_spikes=(("trial", "time_spikes"), valid)), settings(), 0)
    assert np.isnan(found["latent_mean"].values[0, 20:]).all()
    assert np.isfinite(found["latent_mean"].values[0, :20]).all()


def test_loaded_result_gives_the_same_predictions(data, result):
    loaded = gp_vae.load(result)
    prepared = prepare(data, settings(), 0)
    posterior = loaded.posterior(prepared.data)
    again, _ = loaded.predict("spikes", prepared.data["spikes"], posterior.moments["spikes"])
    # Stored as float32.
    np.testing.assert_allclose(again, result["prediction_spikes"].values, rtol=1e-6)


def test_modalities_keep_their_clocks_and_share_a_latent(session):
    found = gp_vae.fit(session, settings(latents={"shared": 1, "private": 1}), 0)
    assert found["prediction_ieeg"].shape == (16, 10, 6)
    assert found["prediction_spikes"].shape == (16, 30, 20)
    assert list(found["latent_group"].values) == ["shared", "private:spikes", "private:ieeg"]
    assert found["loading_ieeg"].values[:, 1].tolist() == [0.0] * 6
    assert found["latent_mask"].values.tolist() == [[True, True, False], [True, False, True]]
    scores = found["score"].sel(split="test")
    assert float(scores.sel(metric="r2", modality="ieeg")) > 0.5
    assert float(scores.sel(metric="from_spikes_r2", modality="ieeg")) > 0.3
    null = float(scores.sel(metric="null_from_spikes_r2", modality="ieeg"))
    assert null < 0  # latents of another trial
    assert np.isfinite(found["prediction_ieeg"].values[2]).all()  # predicted though never seen
    # In the units of the input, not z-scores.
    assert abs(float(found["prediction_ieeg"].mean()) - 10) < 2


def test_exact_is_chosen_for_signals_alone(session):
    alone = session.drop_vars("spikes")
    found = gp_vae.fit(alone, settings(latents=1), 0)
    assert found.attrs["inference"] == "exact"
    with pytest.raises(ConfigError, match="exact needs normal"):
        gp_vae.fit(session.drop_vars("ieeg"), settings(inference="exact"), 0)


def test_relevance_prunes_latents_that_are_not_there():
    data = spikes_and_frames(n_trials=20, n_bins=30, n_units=40, video=False)[0]
    found = gp_vae.fit(data, settings(latents="auto"), 0)
    assert 2 <= found.sizes["latent"] <= 3


@pytest.mark.parametrize(("shared", "found"), [(0.3, 1), (0.0, 0)], ids=["shared", "null"])
def test_relevance_finds_what_frames_share(shared, found):
    """Three latents could be shared: one is, or (independent modalities) none."""
    data = spikes_and_frames(
        n_trials=24, n_bins=30, n_units=40, **({} if shared else {"shared_variance": shared})
    )[0]
    result = gp_vae.fit(data, settings(latents="auto", max_epochs=4), 0)
    groups = result["latent_group"].values.tolist()
    assert groups.count("shared") == found
    assert 1 <= groups.count("private:spikes") <= 2  # few trials; as of spikes alone
    assert 1 <= groups.count("private:video") <= 2
    assert "PRUNED_LATENTS" in codes(result)
    seen = result["latent_mask"].sel(modality="video").values
    assert seen.tolist() == [one != "private:spikes" for one in groups]
    assert "Radhakrishnan" in text(settings(latents="auto"), result)
    loaded, prepared = gp_vae.load(result), prepare(data, settings(latents="auto"), 0)
    posterior = loaded.posterior(prepared.data)
    again, _ = loaded.predict("video", prepared.data["video"], posterior.moments["video"])
    np.testing.assert_allclose(again, result["prediction_video"].values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "family",
    [{}, {"inference": "svi"}, {"inference": "amortized", "refine": False, "max_epochs": 40}],
    ids=["exact", "svi", "encoders alone"],
)
def test_nuisance_regressors_leave_the_latents_alone(family):
    """A nuisance of three times the signal, given or not, in every posterior family."""
    rng = np.random.default_rng(0)
    times = 0.02 * np.arange(30)
    latent = np.sin(2 * np.pi * (times + rng.uniform(0, 1, (20, 1))) / 0.7)
    known = 100 + 40 * rng.normal(size=(20, 30, 1))
    values = latent[..., None] * rng.choice([-1.0, 1.0], 8) + 0.3 * rng.normal(size=(20, 30, 8))
    values += 0.05 * known * rng.normal(size=8)
    values[4] = np.nan  # a trial without the modality
    dims = ("trial", "time_ieeg", "unit_ieeg")
    data = xr.Dataset({"ieeg": (dims, values)}, {"time_ieeg": times})
    given = data.assign(regressor_ieeg=(("trial", "time_ieeg", "feature"), known))
    error = {}
    for name, one in (("given", given), ("left", data)):
        result = gp_vae.fit(one, settings(latents=1, **family), 0)
        seen = np.setdiff1d(np.flatnonzero(result["trial_split"] == "test"), [4])
        found = result["latent_mean"].values[seen][..., 0]
        error[name] = 1 - abs(np.corrcoef(found.ravel(), latent[seen].ravel())[0, 1])
    assert error["given"] < 0.02
    assert error["given"] < 0.5 * error["left"]


def test_number_of_latents_is_chosen_by_held_out_units():
    data = spikes_and_frames(n_trials=30, n_bins=30, n_units=40, video=False)[0]
    found = gp_vae.fit(data, settings(latents=[1, 2, 3], split=[0.6, 0.2, 0.2]), 0)
    assert found.attrs["latents_selected"] == 2
    assert "Radhakrishnan" not in text(settings(latents=[1, 2, 3]), found)
    assert found["selection_score"].shape == (3, 1)


def test_free_posteriors_and_encoders_fit_linear_models_too(data):
    for inference in ("svi", "amortized"):
        found = gp_vae.fit(data, settings(inference=inference, max_epochs=3), 0)
        assert found.attrs["inference"] == inference
        assert np.isfinite(found["latent_mean"].values).all()


def test_encoders_alone_can_give_the_posterior(data):
    found = gp_vae.fit(data, settings(inference="amortized", max_epochs=3, refine=False), 0)
    assert found.attrs["factorised"] == 1
    assert found.attrs["device"] in ("cpu", "cuda")
    assert np.isfinite(found["score"].sel(metric="bits_per_spike", split="test").values).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign(spikes=d["spikes"] - 1), "negative or not an integer"),
        (lambda d: d.assign(spikes=d["spikes"] + 0.5), "negative or not an integer"),
        (lambda d: d.assign(spikes=d["spikes"].astype(float) * np.inf), "infinite value"),
        (lambda d: d.assign_coords(time_spikes=d["time_spikes"].values[::-1]), "times must rise"),
        (lambda d: d.isel(trial=slice(0, 2)), "2 trials"),
        (lambda d: d.assign(spikes=d["spikes"] * 0), "silent or constant"),
        (lambda d: d.rename(spikes="wires"), "no modality"),
    ],
)
def test_wrong_input_is_refused_with_its_name(data, change, message):
    with pytest.raises(DataError, match=message):
        with np.errstate(invalid="ignore"):
            wrong = change(data)
        gp_vae.fit(wrong, settings(), 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": {"eeg": {"likelihood": "gaussian"}}}, "modalities.eeg"),
        ({"prior": {"length_scale_s": [0.5, 0.2]}}, "shortest must be below"),
    ],
)
def test_wrong_settings_are_refused(data, changes, message):
    with pytest.raises(ConfigError, match=message):
        gp_vae.fit(data, settings(**changes), 0)


def test_too_little_memory_is_told_with_an_estimate(data):
    with pytest.raises(DataError, match="GB, more than max_memory_gb"):
        gp_vae.fit(data, settings(max_memory_gb=1e-4), 0)


def test_plain_number_of_latents_needs_one_modality(session):
    with pytest.raises(ConfigError, match="shared: 1"):
        gp_vae.fit(session, settings(latents=2), 0)


def test_each_size_and_restart_is_a_job():
    jobs = ANALYSIS.scatter(settings(latents=[3, 2], restarts=2))["fit"]
    assert jobs == [{"latents": k, "restart": r} for k in (2, 3) for r in (0, 1)]
    assert ANALYSIS.for_stage(settings(), "fit").keys() == set(gp_vae.Settings.model_fields) - {
        "restarts"
    }


def test_pyro_model_draws_data_like_those_it_was_fitted_to(data, result):
    import pyro
    from pyro.infer import Predictive

    loaded, prepared = gp_vae.load(result), prepare(data, settings(), 0)
    pyro.set_rng_seed(0)
    model = gp_vae.pyro_model(loaded, prepared.data, observed=False)
    drawn = Predictive(model, num_samples=5)()["spikes"].numpy()
    assert drawn.shape == (5, *data["spikes"].shape)
    # Latents have unit variance under the prior only on average: a factor of two is a match.
    assert 0.5 < drawn.mean() / float(data["spikes"].mean()) < 2


def test_posterior_predictive_samples_lie_at_the_prediction(data, result):
    import pyro
    from pyro.infer import Predictive

    loaded, prepared = gp_vae.load(result), prepare(data, settings(), 0)
    pyro.set_rng_seed(0)
    drawn = Predictive(
        gp_vae.pyro_model(loaded, prepared.data, observed=False),
        guide=gp_vae.pyro_posterior(loaded, prepared.data), num_samples=200,
    )()["spikes"].numpy()  # fmt: skip
    expected = result["prediction_spikes"].values * 0.02  # of 20 ms bins
    # 200 draws of counts of about 1.5: a standard error of 0.1 each.
    assert abs(drawn.mean(axis=0) - expected).mean() < 0.12
    np.testing.assert_allclose(drawn.mean(), expected.mean(), rtol=0.02)


def test_loadings_have_their_prior_where_they_are_free(data, result):
    import pyro
    from pyro.infer import Predictive

    loaded, prepared = gp_vae.load(result), prepare(data, settings(), 0)
    pyro.set_rng_seed(0)
    model = gp_vae.pyro_model(loaded, prepared.data, observed=False, free_loadings=True)
    drawn = Predictive(model, num_samples=60)()["loading_spikes"].numpy()
    assert drawn.shape[-2:] == loaded.model.decoders["spikes"].loading.shape
    # A standard normal prior: 60 x 20 x 2 draws give its spread to 1.5 %.
    np.testing.assert_allclose(drawn.std(), 1.0, rtol=0.05)


def test_network_decoders_are_pyro_modules():
    import pyro
    from pyro.poutine import trace

    data = spikes_and_frames(n_trials=6, n_bins=12, n_units=8)[0]
    given = settings(latents={"shared": 1, "private": 1}, max_epochs=1)
    fitted, prepared = gp_vae.load(gp_vae.fit(data, given, 0)), prepare(data, given, 0)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    found = trace(gp_vae.pyro_model(fitted, prepared.data)).get_trace()
    names = [name for name, node in found.nodes.items() if node["type"] == "param"]
    assert any(name.startswith("decoder_video$$$layers") for name in names)
    assert np.isfinite(float(found.log_prob_sum().detach()))
    pyro.clear_param_store()


def test_part_of_a_fit_holds_what_the_summary_ranks(data):
    part = stages.fit(data, settings(), 0, {}, latents=2, restart=0)
    assert part.attrs["latents"] == 2
    assert np.isfinite(float(part["validation_elbo"]))


def joint_training(data, device):
    """Train networks for two epochs on a device; return the network and the history."""
    import torch

    from neuropipe.analyses.gp_vae.fitting import _groups
    from neuropipe.analyses.gp_vae.kernels.em import fit_linear
    from neuropipe.analyses.gp_vae.kernels.schedule import Plan, fit_amortized
    from neuropipe.analyses.gp_vae.kernels.start import initial_model

    prepared = prepare(data, settings(latents={"shared": 1, "private": 1}), 0)
    train, held = (prepared.take(prepared.trials(one)) for one in ("train", "validation"))
    linear = {name: train[name] for name in prepared.linear}
    groups = _groups({"shared": 1, "private:spikes": 1, "private:video": 1})
    start = initial_model(
        linear, prepared.circle, {"shared": np.arange(1), "private:spikes": np.arange(1, 2)},
        np.random.default_rng(0), length=0.2,
    )  # fmt: skip
    first = fit_linear(start, linear, bounds=prepared.bounds, iterations=3)
    with torch.random.fork_rng():
        return fit_amortized(
            first, train, held, groups, prepared.mlp, Plan(2, 2, 2), 0, device=device
        )


def with_frames():
    """Return frames with offsets and a regressor, so that all that is moved is there."""
    data = spikes_and_frames(n_trials=8, n_bins=12, n_units=8)[0]
    rng = np.random.default_rng(0)
    known = (("trial", "time_spikes", "feature"), rng.normal(size=(8, 12, 1)))
    return data.assign(regressor_spikes=known).assign_coords(
        sample_offset_video=("trial", rng.uniform(0, 0.02, 8))
    )


def test_what_moves_to_a_device_comes_back_the_same():
    """`cpu:0` takes the way of a GPU: network, batches, views and validation are moved."""
    data = with_frames()
    (here, rows), (there, others) = (joint_training(data, device) for device in ("cpu", "cpu:0"))
    assert rows == others
    for name, value in here.state_dict().items():
        assert value.equal(there.state_dict()[name]), name


def test_without_a_gpu_the_cpu_is_taken_and_told(data, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    given = {"inference": "amortized", "max_epochs": 1, "refine": False}
    found = {
        device: gp_vae.fit(data, settings(device=device, **given), 0) for device in ("auto", "cuda")
    }
    assert {one.attrs["device"] for one in found.values()} == {"cpu"}
    assert "NO_GPU" in codes(found["cuda"])
    np.testing.assert_array_equal(found["auto"]["latent_mean"], found["cuda"]["latent_mean"])


def test_gpu_and_cpu_agree():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU on this machine")
    data = with_frames()
    (_, rows), (_, others) = (joint_training(data, device) for device in ("cpu", "cuda"))
    # Single precision sums in another order.
    np.testing.assert_allclose(
        [row["total"] for row in rows], [row["total"] for row in others], rtol=1e-3
    )


class KilledError(Exception):
    """Stands for a job that is killed."""


@pytest.mark.parametrize("kind", ["spikes", "frames"])
def test_killed_training_goes_on_to_the_same_result(data, kind, tmp_path, monkeypatch):
    from neuropipe.analyses.gp_vae import checkpoint as module

    given = settings(inference="amortized", max_epochs=4)
    if kind == "frames":  # relevance, multi-layer decoder, views
        data, given = with_frames(), settings(latents="auto", max_epochs=4)
    whole = stages.fit(data, given, 0, {}, latents=2, restart=0)
    save, calls = module.Checkpoint.save, []

    def killing(self, state, **options):
        self.seconds = 0.0
        save(self, state, **options)
        calls.append(state["progress"]["epoch"])
        if calls[-1] == 2:
            raise KilledError

    monkeypatch.setattr(module.Checkpoint, "save", killing)
    with pytest.raises(KilledError):
        stages.fit(data, given, 0, {}, latents=2, restart=0, checkpoint=tmp_path)
    monkeypatch.setattr(module.Checkpoint, "save", save)
    again = stages.fit(data, given, 0, {}, latents=2, restart=0, checkpoint=tmp_path)
    assert calls == [1, 2]
    xr.testing.assert_identical(again, whole)
    other = stages.fit(data, given, 1, {}, latents=2, restart=0, checkpoint=tmp_path)
    assert not other["elbo"].equals(whole["elbo"])
