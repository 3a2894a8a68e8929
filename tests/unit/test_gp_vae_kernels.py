"""Kernels of `gp_vae` against closed forms, dense linear algebra and numerical integration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from neuropipe.analyses.gp_vae.kernels.em import elbo, fit_linear
from neuropipe.analyses.gp_vae.kernels.fourier import (
    SPECTRA,
    basis,
    make_circle,
    prior_covariance,
    spectrum,
    transfer_of,
)
from neuropipe.analyses.gp_vae.kernels.likelihoods import LIKELIHOODS, STUDENT_DOF, Noise
from neuropipe.analyses.gp_vae.kernels.linear_model import Decoder, LinearModel, Modality
from neuropipe.analyses.gp_vae.kernels.maximise import update_decay, update_decoder, update_lengths
from neuropipe.analyses.gp_vae.kernels.posterior import infer, linear_predictor
from neuropipe.analyses.gp_vae.kernels.temporal import RESPONSES

BINS = 60
TIMES = np.arange(BINS, dtype=float)


def rbf(times, length):
    return np.exp(-0.5 * (np.subtract.outer(times, times) / length) ** 2)


@pytest.fixture(scope="module")
def circle():
    return make_circle(BINS, (2.0, 30.0), nyquist=np.pi)


@pytest.mark.parametrize("length", [5, 10, 20, 30])
def test_padded_series_reproduces_the_rbf_kernel(circle, length):
    # 1e-3 is the demand; wrap-around at pad 4 is exp(-8) of the variance, 3.4e-4.
    assert np.abs(prior_covariance(TIMES, circle, length) - rbf(TIMES, length)).max() < 1e-3


def test_little_padding_correlates_the_ends_of_a_trial():
    tight = make_circle(1.2 * BINS - 4 * 30, (2.0, 30.0))
    assert prior_covariance(TIMES, tight, 30)[0, -1] > 0.8
    assert rbf(TIMES, 30)[0, -1] < 0.15


@pytest.mark.parametrize("name", list(SPECTRA))
def test_every_spectral_density_has_unit_variance(name):
    wide = make_circle(400.0, (0.5, 20.0))
    variance = (basis(np.array([7.0]), wide)[:, 0] ** 2) @ spectrum(
        wide.omega, np.array([5.0]), name, centre=1.0
    )[0]
    # Matern spectra have heavy tails: what lies above the last frequency is missing.
    assert variance == pytest.approx(1.0, abs=2e-3)


def test_matern_spectrum_gives_the_matern_kernel():
    wide = make_circle(400.0, (0.25, 20.0))
    times = np.linspace(0, 20, 30)
    distance = np.sqrt(3) * np.abs(np.subtract.outer(times, times)) / 5.0
    expected = (1 + distance) * np.exp(-distance)
    assert np.abs(prior_covariance(times, wide, 5.0, "matern32") - expected).max() < 2e-3


def test_bounds_of_length_scales_must_rise():
    with pytest.raises(ValueError, match="shortest < longest"):
        make_circle(60.0, (5.0, 5.0))


@pytest.mark.parametrize("kernel", ["calcium", "hrf"])
def test_filtered_basis_is_the_convolution(kernel):
    circle = make_circle(60.0, (3.0, 10.0))
    decay, dt = 1.5, 0.002
    lags = np.arange(0, 60, dt) + dt / 2
    if kernel == "calcium":
        response = np.exp(-lags / decay) / decay
    else:
        response = (stats.gamma.pdf(lags, 6) - stats.gamma.pdf(lags, 16) / 6) / (1 - 1 / 6)
    times = np.array([3.0, 21.0])
    plain = np.stack([basis(t - lags, circle) @ response * dt for t in times], axis=1)
    transfer = transfer_of(circle, lambda omega: RESPONSES[kernel](omega, decay))
    np.testing.assert_allclose(basis(times, circle, transfer), plain, atol=1e-5)


LOGPMF = {
    "poisson": lambda y, eta, noise: stats.poisson.logpmf(y, noise.bin_width * np.exp(eta)),
    "negbin": lambda y, eta, noise: stats.nbinom.logpmf(
        y, noise.scale, noise.scale / (noise.scale + noise.bin_width * np.exp(eta))
    ),
    "gaussian": lambda y, eta, noise: stats.norm.logpdf(y, eta, np.sqrt(noise.scale)),
    "bernoulli": lambda y, eta, noise: stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-eta))),
    "student_t": lambda y, eta, noise: stats.t.logpdf(
        y, STUDENT_DOF, loc=eta, scale=np.sqrt(noise.scale)
    ),
}


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_expected_loglik_is_the_integral(name):
    noise, y, mean, var = Noise(np.array([2.5]), 0.5), 1.0, 0.4, 0.3
    model = LIKELIHOODS[name]

    def integrand(eta):
        return LOGPMF[name](y, eta, noise).item() * stats.norm.pdf(eta, mean, np.sqrt(var))

    expected = integrate.quad(integrand, mean - 6, mean + 6)[0]
    one = np.array([y]), np.array([mean]), np.array([var])
    found = (model.expect(*one, noise).value + model.constant(one[0])).item()
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_slopes_and_weights_are_derivatives(name):
    noise, y, var = Noise(np.array([2.5]), 0.5), np.array([1.0]), np.array([0.3])
    step, mean = 1e-4, 0.4
    low, here, high = (
        LIKELIHOODS[name].expect(y, np.array([mean + s]), var, noise) for s in (-step, 0, step)
    )
    assert here.slope.item() == pytest.approx(
        (high.value - low.value).item() / (2 * step), rel=1e-5
    )
    bend = -(high.slope - low.slope).item() / (2 * step)
    if name == "student_t":  # the weight of the scale mixture bounds the curvature from above
        assert here.weight.item() >= bend
    else:
        assert here.weight.item() == pytest.approx(bend, rel=1e-4)


def _gaussian_problem(rng, circle, *, trials=5, units=6, times=None):
    times = np.arange(40.0) if times is None else times
    loading, offset = rng.normal(size=(units, 2)), rng.normal(size=units)
    values = rng.normal(size=(trials, times.size, units)) * 1.5
    valid = np.ones(values.shape, bool)
    valid[1, 5:12] = False
    valid[2, :, 3] = False
    valid[3, 25:] = False  # a shorter trial
    decoder = Decoder(
        loading, offset, np.ones(2, bool), rng.uniform(0.3, 2, units), np.zeros((units, 0))
    )
    model = LinearModel(circle, np.array([6.0, 12.0]), {"signal": decoder})
    return model, {"signal": Modality(values, valid, times, "gaussian")}


def _dense_loglik(model, modality, trial):
    decoder, cov = model.decoders["signal"], 0.0
    for k, length in enumerate(model.lengths):
        column = decoder.loading[:, k]
        cov = cov + np.kron(rbf(modality.times, length), np.outer(column, column))
    cov = cov + np.kron(np.eye(modality.times.size), np.diag(decoder.scale))
    kept = modality.valid[trial].ravel()
    mean = np.tile(decoder.offset, modality.times.size)[kept]
    return stats.multivariate_normal.logpdf(
        modality.values[trial].ravel()[kept], mean, cov[np.ix_(kept, kept)]
    )


def test_exact_elbo_is_the_dense_marginal_likelihood(circle):
    model, data = _gaussian_problem(np.random.default_rng(0), circle)
    found, _ = elbo(model, data, infer(model, data))
    for trial, value in enumerate(found):
        # 1e-3 is the demand; the truncated prior itself is off by 3e-4.
        assert value == pytest.approx(_dense_loglik(model, data["signal"], trial), rel=1e-3)


def test_posterior_of_normal_data_is_that_of_regression(circle):
    model, data = _gaussian_problem(np.random.default_rng(1), circle)
    found = infer(model, data).moments["signal"]
    times, decoder = data["signal"].times, model.decoders["signal"]
    prior = [rbf(times, length) for length in model.lengths]
    trial = 1
    kept = data["signal"].valid[trial].ravel()
    cross = np.concatenate(
        [np.kron(prior[k], decoder.loading[:, k][None]) for k in range(2)], axis=0
    )[:, kept]
    cov = sum(
        np.kron(prior[k], np.outer(decoder.loading[:, k], decoder.loading[:, k])) for k in range(2)
    ) + np.kron(np.eye(times.size), np.diag(decoder.scale))
    residual = (data["signal"].values[trial] - decoder.offset).ravel()[kept]
    expected = (cross @ np.linalg.solve(cov[np.ix_(kept, kept)], residual)).reshape(2, -1).T
    np.testing.assert_allclose(found.mean[trial], expected, atol=3e-3)


def test_trial_with_nothing_observed_keeps_the_prior(circle):
    model, data = _gaussian_problem(np.random.default_rng(2), circle)
    found = infer(model, {"signal": data["signal"].drop()})
    assert np.abs(found.mean).max() == 0
    np.testing.assert_allclose(found.moments["signal"].cov[0, 3], np.eye(2), atol=1e-3)
    np.testing.assert_allclose(found.kl, 0, atol=1e-9)


def test_values_that_are_not_valid_do_not_matter(circle):
    model, data = _gaussian_problem(np.random.default_rng(3), circle)
    one = data["signal"]
    other = replace(one, values=np.where(one.valid, one.values, 1e3))
    first, second = infer(model, data), infer(model, {"signal": other})
    np.testing.assert_allclose(first.mean, second.mean)


def _poisson_problem(rng, circle, *, trials=12, units=15, dtype="poisson"):
    loading, offset = rng.uniform(-1, 1, (units, 2)), rng.uniform(-0.5, 0.5, units)
    root = np.linalg.cholesky(rbf(TIMES, 10.0) + 1e-6 * np.eye(BINS))
    latents = np.einsum("ts,rsk->rtk", root, rng.standard_normal((trials, BINS, 2)))
    values = rng.poisson(np.exp(latents @ loading.T + offset)).astype(float)
    decoder = Decoder(loading, offset, np.ones(2, bool), np.full(units, 3.0), np.zeros((units, 0)))
    model = LinearModel(circle, np.array([10.0, 10.0]), {"spikes": decoder})
    modality = Modality(values, np.ones(values.shape, bool), TIMES, dtype)
    return model, {"spikes": modality}, latents


def test_newton_finds_the_mode(circle):
    model, data, _ = _poisson_problem(np.random.default_rng(0), circle, trials=3)
    found = infer(model, data, tol=1e-9)
    moved = infer(model, data, start=found, steps=1)
    np.testing.assert_allclose(moved.mean, found.mean, atol=1e-7)


@pytest.mark.parametrize("likelihood", ["poisson", "negbin"])
def test_variational_posterior_has_the_higher_bound(circle, likelihood):
    rng = np.random.default_rng(1)
    model, data, _ = _poisson_problem(rng, circle, trials=3, dtype=likelihood)
    laplace, _ = elbo(model, data, infer(model, data))
    best, _ = elbo(model, data, infer(model, data, averaged=True))
    assert (best >= laplace - 1e-6).all()


@pytest.mark.parametrize("likelihood", list(LIKELIHOODS))
def test_decoder_update_raises_the_bound_and_ends_where_it_is_flat(circle, likelihood):
    rng = np.random.default_rng(2)
    model, data, _ = _poisson_problem(rng, circle, trials=6, dtype=likelihood)
    if likelihood == "bernoulli":
        one = data["spikes"]
        data = {"spikes": replace(one, values=np.minimum(one.values, 1))}
    posterior = infer(model, data, averaged=True)
    start = elbo(model, data, posterior)[0].sum()
    decoder, _ = update_decoder(model, "spikes", data["spikes"], posterior, steps=30)
    best = replace(model, decoders={"spikes": decoder})
    top = elbo(best, data, posterior)[0].sum()
    assert top > start
    for field in ("loading", "offset"):
        for sign in (-1, 1):
            moved = replace(decoder, **{field: getattr(decoder, field) + sign * 0.02})
            value = elbo(replace(model, decoders={"spikes": moved}), data, posterior)[0].sum()
            assert value < top


def test_length_scales_meet_from_both_sides(circle):
    rng = np.random.default_rng(3)
    model, data, _ = _poisson_problem(rng, circle, trials=20, units=25)
    ends = []
    for start in (4.0, 30.0):
        fit = fit_linear(replace(model, lengths=np.full(2, start)), data, bounds=(2.0, 30.0))
        assert fit.converged
        ends.append(fit.model.lengths)
    # Within 5 % of each other and 20 % of the truth, the demands.
    np.testing.assert_allclose(ends[0], ends[1], rtol=0.05)
    np.testing.assert_allclose(ends[0], 10.0, rtol=0.2)


def test_coefficients_without_data_do_not_hold_length_scales(circle):
    model, data, _ = _poisson_problem(np.random.default_rng(4), circle, trials=3)
    nothing = infer(model, {"spikes": data["spikes"].drop()})
    np.testing.assert_allclose(update_lengths(model, nothing, (2.0, 30.0)), model.lengths)


def test_regressor_takes_what_it_explains(circle):
    rng = np.random.default_rng(5)
    model, data, _ = _poisson_problem(rng, circle)
    regressor = rng.standard_normal((12, BINS, 1))
    weight = rng.uniform(-0.5, 0.5, (15, 1))
    mean, _ = linear_predictor(
        model, "spikes", data["spikes"], infer(model, data).moments["spikes"]
    )
    counts = rng.poisson(np.exp(mean + regressor @ weight.T)).astype(float)
    one = replace(data["spikes"], values=counts, regressor=regressor)
    decoder = replace(model.decoders["spikes"], weight=np.zeros((15, 1)))
    fit = fit_linear(
        replace(model, decoders={"spikes": decoder}), {"spikes": one}, bounds=(2.0, 30.0)
    )
    found = fit.model.decoders["spikes"].weight
    assert np.corrcoef(found[:, 0], weight[:, 0])[0, 1] > 0.95


def _late_problem(circle, likelihood):
    """Return two modalities; the samples of one lie behind its times, by trial."""
    rng = np.random.default_rng(7)
    model, data = _gaussian_problem(rng, circle)
    second = replace(data["signal"], times=np.arange(40.0)[::4] + 0.5, kernel="calcium",
                     values=rng.poisson(2, (5, 10, 6)) * 1.0, valid=np.ones((5, 10, 6), bool),
                     likelihood=likelihood, shift=rng.uniform(0, 4, 5))  # fmt: skip
    decoders = {**model.decoders, "late": model.decoders["signal"]}
    return replace(model, decoders=decoders), {**data, "late": second}


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_offset_of_samples_is_their_time(circle, likelihood):
    model, data = _late_problem(circle, likelihood)
    found = infer(model, data, keep_cov=True, tol=1e-10)
    for trial in range(5):
        one = {name: part.take(slice(trial, trial + 1)) for name, part in data.items()}
        late = one["late"]
        one["late"] = replace(late, times=late.times + late.shift, shift=None)
        alone = infer(model, one, keep_cov=True, tol=1e-10)
        np.testing.assert_allclose(found.mean[trial], alone.mean[0], atol=1e-7)
        np.testing.assert_allclose(found.cov[trial], alone.cov[0], atol=1e-7)
        np.testing.assert_allclose(found.kl[trial], alone.kl[0], rtol=1e-7)
        for name in data:
            for part in ("mean", "cov"):
                here, there = (getattr(p.moments[name], part) for p in (found, alone))
                np.testing.assert_allclose(here[trial], there[0], atol=1e-7)


def test_decay_is_updated_at_the_time_of_samples(circle):
    model, data = _late_problem(circle, "gaussian")
    shift = np.full(5, 1.5)
    late = replace(data["late"], shift=shift)
    moved = replace(late, times=late.times + 1.5, shift=None)
    found = [
        update_decay(model, "late", one, infer(model, {**data, "late": one}))
        for one in (late, moved)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert found[0] != model.decoders["late"].decay
