"""What the bi-clustering hands back: every output, remark and error of its specification."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.stats import beta as beta_law
from scipy.stats import gamma

from neuropipe.analyses import bicluster
from neuropipe.analyses.bicluster import methods, stages
from neuropipe.analyses.bicluster.baseline_model import gain_per_spike
from neuropipe.analyses.bicluster.calibration import geweke, simulation_ranks
from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.figures.chains import draw_diagnostics
from neuropipe.analyses.bicluster.joint import log_joint, sample_prior
from neuropipe.analyses.bicluster.predictive import log_rates
from neuropipe.analyses.bicluster.prepare import prepare, priors_of
from neuropipe.analyses.bicluster.report_numbers import summary
from neuropipe.errors import DataError
from neuropipe.stats.clustering_scores import adjusted_rand_score

SETTINGS = bicluster.Settings(
    model={"p": 1, "n_states_max": 2, "hyperpriors": {}},
    mcmc={"warmup": 10, "draws": 20, "thin": 1, "latent_thin": 1, "chains": 2},
)
TAME = Priors(m_d=-2.0, v_d=0.25, v_c=0.25, a_r=4.0, h_r=1.0, nu_extra=30.0, q0=0.1, rho=0.4)
SMALL = Scheme(p=1, n_states_max=3, n_inner=1, sm_every=1)
# Dims of the groups and of the root; "chain" and "draw" come first in the groups.
POSTERIOR = {
    "cluster_label": ("unit",),
    "state_label": ("time",),
    "baseline": ("unit",),
    "loading": ("unit", "latent"),
    "dispersion": ("unit",),
    "n_clusters": (),
    "n_states": (),
    "log_joint": (),
    "log_likelihood_total": (),
    "state_weight": ("state",),
    "transition_matrix": ("state", "state_to"),
    "row_concentration": (),
    "shared_concentration": (),
    "stickiness": (),
}
LATENT = {
    "trajectory": ("draw_cluster", "component", "time"),
    "dynamics_matrix": ("draw_cluster", "state", "component", "component_in"),
    "dynamics_offset": ("draw_cluster", "state", "component"),
    "noise_covariance": ("draw_cluster", "state", "component", "component_2"),
}
STATS = ("accept_label", "accept_trajectory", "accept_loading", "accept_split", "accept_merge")
CHECKS = {"fano": ("unit",), "isi0_fraction": ("unit",), "pop_var": (), "lag1_corr": ("unit",)}
ROOT = {
    "coclustering_unit": ("unit", "unit_2"),
    "coclustering_time": ("time", "time_2"),
    "unit_cluster": ("unit",),
    "time_state": ("time",),
    "unit_cluster_probability": ("unit",),
    "time_state_probability": ("time",),
    "pear_unit": (),
    "pear_time": (),
    "log_rate_mean": ("unit", "time"),
    "log_rate_low": ("unit", "time"),
    "log_rate_high": ("unit", "time"),
    "trajectory_mean": ("cluster", "component", "time"),
    "trajectory_low": ("cluster", "component", "time"),
    "trajectory_high": ("cluster", "component", "time"),
    "dwell_time_s": ("bout",),
    "region_by_cluster": ("region_name", "cluster"),
    "rhat": ("quantity",),
    "ess_bulk": ("quantity",),
    "ess_tail": ("quantity",),
}


def small_data(**changes) -> xr.Dataset:
    data, _ = bicluster.simulate(0, n_per=3, n_clusters=2, p=1, T=40)
    return data.assign(**changes)


def codes(result: xr.DataTree) -> set[str]:
    return {issue["code"] for issue in json.loads(result.attrs["issues"])}


@pytest.fixture(scope="module")
def masked() -> xr.Dataset:
    """Return data with an offset, a silent stretch of one unit and two trials."""
    data = small_data(offset=(("unit", "time"), np.tile(np.linspace(-0.3, 0.3, 40), (6, 1))))
    valid = data["valid"].copy()
    valid[1, 4:9] = False
    counts = data["counts"].where(valid, 0).astype(int)
    trial = ("time", np.repeat([0, 1], 20))
    return data.assign(valid=valid, counts=counts).assign_coords(trial=trial)


@pytest.fixture(scope="module")
def chains(masked) -> list[xr.Dataset]:
    return [stages.chain(masked, SETTINGS, 3, {}, chain=k) for k in (0, 1)]


@pytest.fixture(scope="module")
def result(masked, chains) -> xr.DataTree:
    return stages.summary(masked, SETTINGS, 3, {"chain": chains})


@pytest.mark.parametrize("group", ["posterior", "latent", "sample_stats", "posterior_predictive"])
def test_groups_hold_every_variable_with_its_dims(result, group):
    first = {"latent": "latent_draw", "posterior_predictive": "ppc_draw"}.get(group, "draw")
    expected = {
        "posterior": POSTERIOR,
        "latent": LATENT,
        "sample_stats": dict.fromkeys(STATS, ()),
        "posterior_predictive": CHECKS,
    }[group]
    for name, dims in expected.items():
        assert result[f"{group}/{name}"].dims == ("chain", first, *dims), name


def test_root_holds_every_variable_with_its_dims(result):
    assert {name: result[name].dims for name in ROOT} == ROOT
    assert result["log_likelihood/held_out"].dims == ("chain", "draw")
    assert result["log_likelihood/counts"].dims == ("chain", "unit", "time")
    assert len(result["sample_stats"].attrs["time_per_sweep_s"]) == 2
    assert {"converged", "issues", "bin_width_s"} <= set(result.attrs)


def test_unobserved_counts_are_missing_in_the_result_too(result):
    seen = result["observed_data/counts"].values
    assert np.isnan(seen[1, 4:9]).all()
    assert np.isnan(seen).sum() == 5


def test_chains_alone_give_the_summary_of_the_workflow(result, chains, masked):
    again = bicluster.summarize(chains, data=masked)
    for name in result.data_vars:
        xr.testing.assert_equal(again[name], result[name])
    bare = bicluster.summarize([one.drop_vars("unit") for one in chains], loss="binder")
    np.testing.assert_array_equal(bare["trial"].values, masked["trial"].values)
    assert bare.attrs["loss"] == "binder"


def test_chains_that_do_not_belong_together_are_refused(chains):
    with pytest.raises(DataError, match="none given"):
        bicluster.summarize([])
    other = chains[1].assign(counts=chains[1]["counts"] + 1)
    with pytest.raises(DataError, match="number 1 belongs to other counts"):
        bicluster.summarize([chains[0], other])
    with pytest.raises(DataError, match="number 1 has 5 draws"):
        bicluster.summarize([chains[0], chains[1].isel(draw=slice(5))])
    with pytest.raises(DataError, match="40 entries of time|39 entries of time"):
        bicluster.summarize(chains, data=small_data().isel(time=slice(39)))


def test_log_rates_of_draws_average_to_those_of_the_summary(result):
    draws = [log_rates(result, chain, draw) for chain in (0, 1) for draw in range(20)]
    # Latents and moments are kept in single precision.
    np.testing.assert_allclose(np.mean(draws, axis=0), result["log_rate_mean"], atol=1e-4)


def test_replicated_counts_follow_the_rates_and_miss_the_same_entries(result):
    found = bicluster.posterior_predictive(result, n=400, seed=1)
    assert found["fano"].shape == (400, 6)
    mean = np.exp(np.mean([log_rates(result, c, d) for c in (0, 1) for d in range(20)], axis=0))
    seen = result["observed_data/counts"].values
    assert (found["counts_mean"].values[np.isnan(seen)] == -1).all()
    # 400 draws of counts of about 1: a standard error of 0.05 to 0.1 per entry.
    kept = ~np.isnan(seen)
    assert np.corrcoef(found["counts_mean"].values[kept], mean[kept])[0, 1] > 0.8
    assert ((found["fano_tail"] >= 0) & (found["fano_tail"] <= 1)).all()


def test_counts_of_another_law_are_told_from_the_replicas(result):
    """Counts tripled have three times the Fano factor: nearly no replica reaches it."""
    tripled = 3 * np.nan_to_num(result["observed_data/counts"].values, nan=-1.0)
    found = bicluster.posterior_predictive(result, tripled, n=100)
    assert found["fano_tail"].median() < 0.2
    assert float(found["pop_var_tail"]) < 0.2
    with pytest.raises(DataError, match="expected units x bins"):
        bicluster.posterior_predictive(result, tripled[:2])
    with pytest.raises(DataError, match="n: 0"):
        bicluster.posterior_predictive(result, n=0)


def test_error_of_the_gain_takes_blocks_as_independent():
    rng = np.random.default_rng(0)
    gain = np.repeat(rng.normal(1.0, 1.0, (4, 100)), 5, axis=1)
    held = np.ones(gain.shape, bool)
    value, error = gain_per_spike(gain, held, 1000.0, 5)
    assert value == pytest.approx(gain.sum() / 1000 / np.log(2))
    single = gain_per_spike(gain, held, 1000.0, 1)[1]
    assert error == pytest.approx(np.sqrt(5) * single, rel=0.02)


def test_joint_density_of_strengths_is_that_of_scipy():
    hyper = (3.0, 0.4, 2.0, 0.5, 4.0, 2.0)
    problem, rng = Problem.of(np.ones((4, 10))), np.random.default_rng(0)
    state = sample_prior(problem, replace(TAME, hyper=hyper), SMALL, rng)
    alpha, shared, kappa = state.strength
    fixed = replace(TAME, alpha_h=alpha, gamma_h=shared, kappa=kappa)
    extra = gamma(3.0, scale=1 / 0.4).logpdf(alpha + kappa) + gamma(2.0, scale=2.0).logpdf(shared)
    extra += beta_law(4.0, 2.0).logpdf(kappa / (alpha + kappa))
    found = log_joint(problem, state, replace(TAME, hyper=hyper), SMALL)
    assert found == pytest.approx(log_joint(problem, state, fixed, SMALL) + extra)


def test_getting_it_right_with_sampled_strengths():
    """Geweke's joint test, short, with alpha, gamma and kappa drawn along."""
    priors = replace(TAME, hyper=(4.0, 0.5, 4.0, 1.0, 3.0, 2.0))
    problem = Problem.of(np.zeros((4, 8)))
    rng = np.random.default_rng(5)
    scores, exploded = geweke(problem, priors, SMALL, rng, chains=300, sweeps=4)
    assert exploded == 0
    known = scores[np.isfinite(scores)]
    assert np.abs(known).max() < 4
    assert np.mean(np.abs(known) > 2) <= 0.25


def test_ranks_of_the_truth_are_counted_among_the_draws():
    problem, rng = Problem.of(np.zeros((4, 12))), np.random.default_rng(0)
    ranks, lag = simulation_ranks(
        problem, replace(TAME, m_d=0.5), SMALL, rng, sweeps=20, kept=9, largest=50.0
    )
    assert ((ranks >= 0) & (ranks <= 9)).all()
    assert ranks.shape == lag.shape == (13,)
    with pytest.raises(ValueError, match="counts over"):
        simulation_ranks(problem, replace(TAME, m_d=9.0), SMALL, rng, sweeps=2, kept=2, largest=1.0)


def test_more_factors_than_units_are_refused():
    with pytest.raises(DataError, match=r"model\.p is 7, but there are 6 units"):
        prepare(small_data(), bicluster.Settings(model={"p": 7}), 0)


def test_counts_of_a_bin_too_wide_are_remarked():
    counts = small_data()["counts"].copy()
    counts[2, 5] = 20_000
    ready = prepare(small_data(counts=counts), SETTINGS, 0)
    assert [issue.code for issue in ready.issues] == ["LARGE_COUNTS"]
    assert "u002" in ready.issues[0].message
    assert "bin 5" in ready.issues[0].message


def test_bins_that_no_unit_saw_are_predicted():
    counts = small_data()["counts"].astype(float)
    counts[:, 7:9] = np.nan
    result = bicluster.fit(small_data(counts=counts), SETTINGS, 0)
    assert np.isfinite(result["log_rate_mean"].values[:, 7:9]).all()
    assert np.isfinite(result["time_state_probability"].values).all()


def test_one_state_and_small_clusters_are_remarks_not_errors():
    settings = SETTINGS.model_copy(
        update={"model": bicluster.Settings(model={"p": 3, "n_states_max": 1}).model}
    )
    result = bicluster.fit(small_data(), settings, 0)
    assert "ONE_STATE" in codes(result)
    assert (np.bincount(result["unit_cluster"].values).min() < 3) == (
        "SMALL_CLUSTERS" in codes(result)
    )


def test_states_that_are_all_in_use_are_remarked(result):
    share = (result["posterior/n_states"].values == 2).mean()
    assert ("ALL_STATES_USED" in codes(result)) == (share > 0.05)


def test_strengths_and_baselines_reach_the_model():
    model = {"hyperpriors": {"rows": (2.0, 0.1)}, "m_d": "empirical"}
    priors = priors_of(bicluster.Settings(model=model))
    assert priors.hyper == (2.0, 0.1, 1.0, 0.01, 10.0, 1.0)
    assert np.isnan(priors.m_d)
    with pytest.raises(ValueError, match="begin above 0"):
        bicluster.Settings(model={"kappa": 0, "hyperpriors": {}})


def test_the_model_steps_without_touching_the_state_given():
    model = bicluster.BiclusterModel(p=1, n_states_max=2, priors=TAME)
    rng = np.random.default_rng(0)
    state = model.sample_prior(4, 12, rng)
    counts = model.sample_counts(state, rng)
    before = state.copy()
    after = model.step(state, counts, rng)
    for name, array in before.arrays().items():
        np.testing.assert_array_equal(getattr(state, name), array)
    assert not np.array_equal(after.coefficients, state.coefficients)
    assert np.isfinite([model.log_joint(one, counts) for one in (state, after)]).all()


def relabelled(state: ChainState, units: np.ndarray, states: np.ndarray) -> ChainState:
    """Return the state with neurons in another order and states under other numbers."""
    back = np.argsort(states)
    return replace(
        state.copy(), label=state.label[units], coefficients=state.coefficients[units],
        dispersion=state.dispersion[units], states=states[state.states], A=state.A[:, back],
        b=state.b[:, back], Q=state.Q[:, back], beta=state.beta[back],
        transition=state.transition[np.ix_(back, back)],
    )  # fmt: skip


def test_order_of_neurons_and_numbers_of_states_do_not_change_the_density():
    model = bicluster.BiclusterModel(p=1, n_states_max=3, priors=TAME)
    rng = np.random.default_rng(1)
    state = model.sample_prior(5, 12, rng)
    counts = model.sample_counts(state, rng)
    units, states = rng.permutation(5), np.array([2, 0, 1])
    other = relabelled(state, units, states)
    assert model.log_joint(other, counts[units]) == pytest.approx(model.log_joint(state, counts))


@pytest.mark.recovery
def test_permuted_neurons_have_the_same_clusters():
    """Rates of several spikes per bin: each of two chains finds both clusters exactly."""
    data, truth = bicluster.simulate(0, n_per=5, n_clusters=2, p=1, T=150, sd_delta=0.2)
    rate = np.exp(1.5 + truth["log_rate"].values)
    data = data.assign(counts=(("unit", "time"), np.random.default_rng(0).poisson(rate)))
    settings = bicluster.Settings(
        model={"p": 1, "n_states_max": 2},
        mcmc={"warmup": 200, "draws": 100, "thin": 1, "chains": 1},
    )
    order = np.random.default_rng(0).permutation(10)
    found = [bicluster.fit(one, settings, 4) for one in (data, data.isel(unit=order))]
    straight = found[1]["unit_cluster"].sel(unit=data["unit"].values).values
    assert adjusted_rand_score(found[0]["unit_cluster"].values, truth["unit_cluster"]) == 1.0
    assert adjusted_rand_score(straight, found[0]["unit_cluster"].values) == 1.0


def test_widths_of_bins_are_compared():
    mcmc = {"warmup": 4, "draws": 8, "thin": 2, "latent_thin": 2, "chains": 1}
    settings = bicluster.Settings(model={"p": 1, "n_states_max": 2}, mcmc=mcmc)
    data = small_data(offset=(("unit", "time"), np.zeros((6, 40))))
    found = bicluster.rebin_check(data.isel(time=slice(0, 39)), settings, halved=data)
    assert set(found) == {"doubled", "halved"}
    assert all(-1.0 <= value <= 1.0 for value in found.values())


@pytest.mark.parametrize("family", ["negbin", "poisson"])
def test_only_models_with_dispersions_are_told_with_them(result, family):
    told = result.copy()
    told.attrs["family"] = family
    model = SETTINGS.model.model_copy(update={"family": family})
    paragraph = methods.text(SETTINGS.model_copy(update={"model": model}), told)
    figure, has = draw_diagnostics(told), family == "negbin"
    assert ("slice sampling of dispersions" in paragraph) is has
    assert ("Metropolis-Hastings, conjugate" in paragraph) is not has
    assert ("dispersion" in summary(told)) is has
    assert ("dispersion" in figure.caption) is has
    assert ("dispersion_mean" in set(figure.table["quantity"])) is has
    assert "1 latent factor of" in paragraph
