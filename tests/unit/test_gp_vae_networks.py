"""Networks of `gp_vae`: potentials against dense algebra, likelihoods against the NumPy ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neuropipe.analyses.gp_vae.kernels.fourier import make_circle, shifted
from neuropipe.analyses.gp_vae.kernels.fusion import Pseudo, fuse
from neuropipe.analyses.gp_vae.kernels.image_stage import Rotation, first_rotation
from neuropipe.analyses.gp_vae.kernels.likelihoods import LIKELIHOODS, Noise
from neuropipe.analyses.gp_vae.kernels.linear_model import Decoder, LinearModel, Modality
from neuropipe.analyses.gp_vae.kernels.networks import Moment, Network, Potential, turned
from neuropipe.analyses.gp_vae.kernels.posterior import infer
from neuropipe.analyses.gp_vae.kernels.relevance import private_shares, shared_directions
from neuropipe.analyses.gp_vae.kernels.schedule import candidates_of, network_of
from neuropipe.analyses.gp_vae.kernels.torch_likelihoods import TORCH_LIKELIHOODS
from neuropipe.analyses.gp_vae.kernels.training import (
    Schedule,
    elbo_terms,
    evaluate,
    tensors,
    train,
)

TIMES = np.arange(20, dtype=float)


@pytest.fixture(scope="module")
def circle():
    return make_circle(20.0, (2.0, 8.0), nyquist=np.pi)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (6, 20, 5)).astype(float)
    frames = rng.normal(size=(6, 20, 9))
    every = np.ones
    return {
        "spikes": Modality(counts, every(counts.shape, bool), TIMES, "poisson", 0.5),
        "video": Modality(frames, every(frames.shape, bool), TIMES, "gaussian"),
    }


@pytest.fixture
def network(data, circle):
    torch.manual_seed(0)
    masks = {"spikes": np.array([True, True, False]), "video": np.array([True, False, True])}
    functions = np.arange(circle.omega.size)
    return Network(data, circle, functions, np.array([4.0, 3.0, 5.0]), masks, ["video"])


def test_potentials_give_the_posterior_of_normal_pseudo_observations(network, circle):
    rng = np.random.default_rng(1)
    centre, precision = rng.normal(size=(3, 20, 3)), rng.uniform(0, 2, (3, 20, 3))
    potential = Potential(torch.as_tensor(centre).float(), torch.as_tensor(precision).float())
    sites = network.posterior({"spikes": potential})
    identity = Decoder(np.eye(3), np.zeros(3), np.ones(3, bool), np.ones(3), np.zeros((3, 0)))
    model = LinearModel(circle, np.array([4.0, 3.0, 5.0]), {"pseudo": identity}, cond=1e12)
    pseudo = Modality(centre, precision, TIMES, "gaussian")
    dense = infer(model, {"pseudo": pseudo})
    found = network.moment(sites, "spikes")
    # float32 with a jitter of 1e-5 against float64
    np.testing.assert_allclose(found.mean.detach(), dense.moments["pseudo"].mean, atol=2e-3)
    variance = np.diagonal(dense.moments["pseudo"].cov, axis1=2, axis2=3)
    np.testing.assert_allclose(found.var.detach(), variance, atol=2e-3)
    np.testing.assert_allclose(sites.kl.detach(), dense.kl, rtol=2e-3)


def late_pair(rng):
    """Return normal signals, their shifts, and a regressor, with 4 trials of 20 samples."""
    values, late = rng.normal(size=(4, 20, 3)), np.array([0.0, 0.3, -0.2, 0.45])
    known = rng.normal(size=(4, 20, 2))
    return Modality(values, np.ones(values.shape, bool), TIMES, "gaussian", 1.0, "delta", known,
                    late)  # fmt: skip


def late_network(one, circle, mlp=()):
    torch.manual_seed(1)
    functions = np.arange(circle.omega.size)
    return Network({"ieeg": one}, circle, functions, np.array([4.0, 3.0]),
                   {"ieeg": np.ones(2, bool)}, mlp)  # fmt: skip


def test_turned_coefficients_are_those_of_the_numpy_kernel(circle):
    rng = np.random.default_rng(0)
    values, late = rng.normal(size=(3, 2, circle.omega.size)), np.array([0.1, -0.4, 0.0])
    omega, seconds = torch.as_tensor(circle.omega), torch.as_tensor(late)
    ours = turned(torch.as_tensor(values), omega, seconds, 2)
    expected = shifted(values, circle, np.arange(circle.omega.size), late, 2)
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)
    back = turned(ours, omega, seconds, 2, sign=-1)
    np.testing.assert_allclose(back.numpy(), values, atol=1e-12)


def test_potentials_and_moments_lie_at_the_time_of_the_samples(circle):
    """Against the dense posterior of the same pseudo-observations at shifted times."""
    rng = np.random.default_rng(1)
    one = late_pair(rng)
    centre, precision = rng.normal(size=(4, 20, 2)), rng.uniform(0, 2, (4, 20, 2))
    network, late = late_network(one, circle), torch.as_tensor(one.shift).float()
    potential = Potential(torch.as_tensor(centre).float(), torch.as_tensor(precision).float(), late)
    sites = network.posterior({"ieeg": potential})
    moment = network.moment(sites, "ieeg", late)
    identity = Decoder(np.eye(2), np.zeros(2), np.ones(2, bool), np.ones(2), np.zeros((2, 0)))
    model = LinearModel(circle, np.array([4.0, 3.0]), {"pseudo": identity}, cond=1e12)
    pseudo = Modality(centre, precision, TIMES, "gaussian", shift=one.shift)
    found = infer(model, {"pseudo": pseudo})
    # Single precision and a jitter of 1e-5 against double.
    np.testing.assert_allclose(moment.mean.detach(), found.moments["pseudo"].mean, atol=2e-3)
    var = np.diagonal(found.moments["pseudo"].cov, axis1=2, axis2=3)
    np.testing.assert_allclose(moment.var.detach(), var, atol=2e-3)
    np.testing.assert_allclose(sites.kl.detach(), found.kl, rtol=2e-3)
    # Draws have the moments of the samples' own times.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([network.sample(sites, "ieeg", generator, late) for _ in range(400)])
    error = (drawn.mean(dim=0) - moment.mean).detach().numpy() / np.sqrt(var / 400)
    assert np.abs(error).mean() < 1.0  # of a standard normal 0.8


@pytest.mark.parametrize("mlp", [(), ("ieeg",)], ids=["linear", "multi-layer"])
def test_regressors_add_to_the_predictor(circle, mlp):
    one = late_pair(np.random.default_rng(2))
    network, batch = late_network(one, circle, mlp), tensors({"ieeg": one})
    decoder = network.decoder("ieeg")
    weight = torch.as_tensor([[1.0, 0.0], [0.0, 2.0], [0.5, -1.0]])
    zero = torch.zeros(4, 20, 2)
    start = Moment(zero, zero) if not mlp else zero

    def predictor(view):
        found = decoder(start, view.regressor)
        return (found if mlp else found[0]).detach()

    before = predictor(batch.view("ieeg"))
    with torch.no_grad():
        decoder.weight.copy_(weight)
    after = predictor(batch.view("ieeg"))
    expected = torch.as_tensor(one.regressor).float() @ weight.T
    np.testing.assert_allclose(after - before, expected, atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    terms = train(network, batch, Schedule(3, 5e-2), generator)
    assert np.isfinite([row["total"] for row in terms]).all()
    assert not torch.equal(decoder.weight, weight)  # learned with the rest


def test_modality_that_is_missing_leaves_the_prior(network, data):
    batch = tensors({name: one.drop() for name, one in data.items()})
    sites = network.posterior(network.encode(batch.values, batch.masks))
    assert float(sites.mean.detach().abs().max()) == 0
    assert float(sites.kl.detach().abs().max()) < 1e-3


def test_hidden_values_do_not_reach_the_encoder(network, data):
    one = data["spikes"].hide(np.array([True, False, False, False, False]))
    batch = tensors({"spikes": one})
    changed = tensors({"spikes": one})
    changed.values["spikes"][..., 0] = 99.0
    first, second = (
        network.encode_one("spikes", part.values["spikes"], part.masks["spikes"])
        for part in (batch, changed)
    )
    assert torch.equal(first.centre, second.centre)


@pytest.mark.parametrize("name", list(LIKELIHOODS))
def test_torch_likelihoods_equal_the_numpy_ones(name):
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, (4, 3)).astype(float)
    mean, var = rng.normal(size=(4, 3)), rng.uniform(0.1, 0.5, (4, 3))
    scale = np.array([0.5, 1.0, 3.0])
    model = LIKELIHOODS[name]
    expected = model.expect(y, mean, var, Noise(scale, 0.7)).value + model.constant(y)
    arguments = [torch.as_tensor(a) for a in (y, mean, var, scale)]
    found = TORCH_LIKELIHOODS[name](*arguments, 0.7)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_terms_of_the_bound_have_one_value_per_trial(network, data):
    batch = tensors(data)
    kl, terms = elbo_terms(
        network, batch, batch.masks, torch.Generator().manual_seed(0), network.names
    )
    assert kl.shape == (6,)
    assert all(term.shape == (6,) for term in terms.values())


def test_training_raises_the_bound_and_repeats_bit_for_bit(data, circle):
    masks = {"spikes": np.array([True, True, False]), "video": np.array([True, False, True])}
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        net = Network(data, circle, np.arange(circle.omega.size), np.full(3, 4.0), masks, ["video"])
        batch = tensors(data)
        before = evaluate(net, batch, torch.Generator().manual_seed(1))["total"]
        schedule = Schedule(15, 5e-3, 3, channel_dropout=0.2, modality_dropout=0.3)
        train(net, batch, schedule, torch.Generator().manual_seed(0))
        after = evaluate(net, batch, torch.Generator().manual_seed(1))["total"]
        assert after > before
        ends.append(net.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_confident_but_wrong_encoder_does_not_move_what_spikes_know(circle):
    rng = np.random.default_rng(3)
    loading = rng.normal(size=(40, 1))
    z = np.sin(TIMES / 3)[None, :, None] * np.ones((2, 1, 1))
    counts = rng.poisson(np.exp(z @ loading.T)).astype(float)
    decoder = Decoder(loading, np.zeros(40), np.ones(1, bool), np.ones(40), np.zeros((40, 0)))
    model = LinearModel(circle, np.array([4.0]), {"spikes": decoder})
    data = {"spikes": Modality(counts, np.ones(counts.shape, bool), TIMES, "poisson", 1.0)}
    alone = infer(model, data).moments["spikes"].mean
    wrong = Pseudo(z + 5.0, np.full(z.shape, 30.0), TIMES, np.ones(1, bool))
    right = Pseudo(z, np.full(z.shape, 30.0), TIMES, np.ones(1, bool))
    misled = fuse(model, data, {"video": wrong}).moments["spikes"].mean
    helped = fuse(model, data, {"video": right}).moments["spikes"].mean
    assert np.abs(misled - z).mean() < 1.5 * np.abs(alone - z).mean() + 0.02
    assert np.abs(helped - z).mean() < np.abs(alone - z).mean()
    trusted = Pseudo(wrong.centre, wrong.precision, TIMES, np.zeros(1, bool))
    pulled = np.abs(fuse(model, data, {"video": trusted}).moments["spikes"].mean - z).mean()
    assert pulled > 5 * np.abs(alone - z).mean()


def test_rotation_finds_the_latent_that_drives_the_frames():
    rng = np.random.default_rng(4)
    latents = rng.normal(size=(600, 2))
    angle = 0.6
    direction = np.array([np.cos(angle), np.sin(angle)])
    frames = np.sin(np.outer(latents @ direction, np.arange(1, 4)) / 2)
    found, private = first_rotation(latents, frames, 1, 1, rng)
    # Candidates lie 7.5 degrees apart.
    assert abs(found[0] @ direction) > 0.99
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-12)
    assert private.shape == (600, 1)


def test_cayley_rotation_stays_orthonormal():
    rotation = Rotation(np.eye(3))
    with torch.no_grad():
        rotation.skew.copy_(torch.randn(3, 3))
    matrix = rotation()
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3), atol=1e-5, rtol=0)


def frames_of(latents, rng, count=12):
    """Return frames that change along the first of some latents only, not linearly."""
    centres = np.linspace(-2, 2, count)
    frames = np.exp(-((latents[:, [0]] - centres) ** 2))
    return frames + 0.1 * rng.normal(size=frames.shape)


def test_directions_that_matter_are_found_and_counted():
    rng = np.random.default_rng(0)
    latents, trial = rng.normal(size=(900, 3)), np.repeat(np.arange(30), 30)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    found = shared_directions(latents @ turn, frames_of(latents, rng), trial, 0)
    assert found.needed(0.005) == 1
    # The direction is the planted one, up to its sign.
    assert abs(found.rotation[0] @ turn[0]) > 0.99
    np.testing.assert_allclose(found.rotation @ found.rotation.T, np.eye(3), atol=1e-10)


def test_frames_that_no_latent_explains_share_none():
    rng = np.random.default_rng(1)
    latents, trial = rng.normal(size=(900, 2)), np.repeat(np.arange(30), 30)
    found = shared_directions(latents, frames_of(rng.normal(size=(900, 1)), rng), trial, 0)
    assert found.needed(0.005) == 0


def test_private_latent_that_the_decoder_ignores_explains_nothing(network, data):
    with torch.no_grad():
        network.decoder("video").layers[0].weight[:, 1] = 0  # its private latent
    batch, zero = tensors(data), torch.zeros(6, 20, 1)
    share = private_shares(network, "video", batch, Moment(zero, zero), ([0], [2]))
    assert share.tolist() == [0.0]
    with torch.no_grad():
        network.decoder("video").layers[0].weight[:, 1] = 1.0
    assert private_shares(network, "video", batch, Moment(zero, zero), ([0], [2]))[0] > 0.1


def test_network_sees_what_pruning_left(circle):
    """A latent of two among three linear modalities stays hidden from the third."""
    rng = np.random.default_rng(0)
    data, decoders = {}, {}
    for name, seen in (("spikes", [1, 1]), ("ieeg", [1, 0]), ("eeg", [0, 1])):
        values = rng.normal(size=(4, 20, 3))
        data[name] = Modality(values, np.ones(values.shape, bool), TIMES, "gaussian")
        mask = np.array(seen, bool)
        decoders[name] = Decoder(
            rng.normal(size=(3, 2)) * mask, np.zeros(3), mask, np.ones(3), np.zeros((3, 0))
        )
    model = LinearModel(circle, np.array([4.0, 3.0]), decoders)
    network = network_of(model, data, {"shared": np.arange(2)}, [], model.lengths)
    assert network.places["ieeg"].tolist() == [0]
    assert network.places["eeg"].tolist() == [1]
    assert network.decoder("ieeg").seen.tolist() == [1, 0]


def test_only_shared_latents_turn_where_several_linear_modalities_fix_the_others(circle):
    decoders = {
        name: Decoder(np.zeros((3, 3)), np.zeros(3), np.array(seen, bool), np.ones(3),
                      np.zeros((3, 0)))
        for name, seen in (("spikes", [1, 1, 0]), ("ieeg", [1, 0, 1]))
    }  # fmt: skip
    groups = {"shared": np.array([0]), "private:spikes": np.array([1])}
    both = LinearModel(circle, np.array([4.0, 3.0, 2.0]), decoders)
    assert candidates_of(both, groups).tolist() == [0]
    alone = replace(both, decoders={"spikes": decoders["spikes"]})
    assert candidates_of(alone, groups).tolist() == [0, 1, 2]
