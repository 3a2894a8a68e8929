"""Figures and texts of HMM-GLM results: few units and many, with and without coupling or events."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses import hmm_glm
from neuropipe.analyses.hmm_glm.figures.annotations import row_order
from neuropipe.analyses.hmm_glm.figures.differences import differences
from neuropipe.analyses.hmm_glm.figures.events import around_events, events_of_trial
from neuropipe.analyses.hmm_glm.figures.weights import draw_weights
from neuropipe.analyses.hmm_glm.methods import text
from neuropipe.analyses.hmm_glm.spec import ANALYSIS
from neuropipe.analyses.hmm_glm.summary import headline, metrics, summary, visits
from neuropipe.analyses.methods_text import changed_settings
from neuropipe.plotting.save import save_figure

STEP = 0.02


def made(n_units=100, n_states=6, *, n_trials=12, n_bins=400, seed=0):
    """A result as the last stage writes it, from drawn parameters."""
    rng = np.random.default_rng(seed)
    path = np.repeat(rng.integers(0, n_states, (n_trials, n_bins // 40)), 40, axis=1)
    path[0, :5] = -1
    chance = rng.dirichlet(np.full(n_states, 0.3), path.shape)
    probability = 0.9 * np.eye(n_states)[path] + 0.1 * chance
    probability[path < 0] = np.nan
    weight = rng.normal(0, 0.2, (n_states, n_units, n_units, 1))
    weight *= rng.random(weight.shape) < 0.15
    classes = rng.dirichlet([0.1, 0.8, 0.1], (n_states, n_units, n_units))
    stay = 0.97 * np.eye(n_states) + 0.03 * rng.dirichlet(np.ones(n_states), n_states)
    share = rng.dirichlet(np.full(n_states, 5.0))
    levels = np.linspace(0, 1, 21)
    pair = ("receiver", "sender")
    variables = {
        "state_viterbi": (("trial", "time"), path),
        "state_probability": (("trial", "time", "state"), probability),
        "weight": (("state", *pair, "basis"), weight),
        "weight_se": (("state", *pair, "basis"), np.full(weight.shape, 0.05)),
        "weight_shared": ((*pair, "basis"), weight.mean(axis=0)),
        "connection_probability": (("state", *pair, "connection_type"), classes),
        "connection_probability_global": ((*pair, "connection_type"), classes.mean(axis=0)),
        "connection": (("state", *pair), classes.argmax(axis=-1) - 1),
        "transition_matrix": (("state", "state_to"), stay),
        "occupancy": ("state", np.sort(share)[::-1]),
        "n_visits": ("state", np.bincount(path[path >= 0], minlength=n_states)),
        "dwell_time_mean_s": ("state", rng.uniform(0.5, 2, n_states)),
        "dwell_time_expected_s": ("state", STEP / (1 - np.diagonal(stay))),
        "switch_rate_hz": (("trial", "state"), rng.uniform(0, 1, (n_trials, n_states))),
        "state_mean": (("state", "unit"), rng.gamma(2, 2, (n_states, n_units))),
        "transform": (("unit", "level"), levels + 0.1 * levels * (1 - levels) * rng.normal(
            size=(n_units, 1))),
        "transform_bins": ((), 5000),
        "log_likelihood_trace": (("restart", "iteration"), -1e5 / np.arange(1, 31) ** [[1], [0.9]]),
        "log_likelihood_train": (("n_states", "restart"), rng.normal(-1e4, 10, (3, 2))),
        "restart_agreement": (("n_states", "restart", "restart_2"), np.full((3, 2, 2), 0.95)),
        "held_out_log_likelihood": (("n_states", "fold"), rng.normal(-9, 0.1, (3, 5))),
        "bits_per_spike": (("n_states", "fold"), rng.normal(0.1, 0.01, (3, 5))),
        "bic": ("n_states", rng.normal(2e5, 100, 3)),
        "rare_states": ("n_states", [0, 0, 1]),
    }  # fmt: skip
    region = np.array(["CA1", "LP", "VISp", "MOs"], dtype=object)[rng.integers(0, 4, n_units)]
    return xr.Dataset(
        variables,
        coords={
            "trial": np.arange(n_trials), "time": STEP * (np.arange(n_bins) + 0.5),
            "unit": np.array([f"u{k}" for k in range(n_units)], dtype=object),
            "region": ("unit", region), "level": levels,
            "n_states": [n_states - 1, n_states, n_states + 1],
            "trial_label": ("trial", np.array(["go", "stay"] * (n_trials // 2), dtype=object)),
        },
        attrs={"n_states": n_states, "bin_width_s": STEP, "family": "poisson", "link": "softplus"},
    )  # fmt: skip


@functools.cache
def small(**changes):
    data = hmm_glm.simulate(0, n_units=4, n_states=2, n_bins=200, n_trials=2)[0]
    settings = hmm_glm.Settings(**{"states": 2, "restarts": 1, "max_iter": 4, **changes})
    return hmm_glm.fit(data, settings, seed=0)


@pytest.mark.parametrize(("n_units", "n_states"), [(100, 6), (5, 2), (30, 12)])
def test_every_figure_is_drawn_for_few_and_many(n_units, n_states, tmp_path):
    drawn = hmm_glm.figures(made(n_units, n_states))
    assert tuple(drawn) == ANALYSIS.figure_slugs
    for slug, figure in drawn.items():
        files = save_figure(figure, tmp_path, slug)
        assert all(path.stat().st_size for path in files)
        assert "Good:" in figure.caption, slug
        assert "Bad:" in figure.caption, slug
        assert 0 < len(figure.table) <= 5000
        assert figure.get_size_inches()[1] < 11, slug  # one page


@pytest.mark.parametrize("n_states", [2, 5])
def test_titles_of_weights_are_whole_and_clear_of_other_panels(n_states):
    figure = draw_weights(made(6, n_states).drop_vars("region"))
    figure.canvas.draw()
    panels = [axes for part in figure.subfigs for axes in part.axes if axes.get_title()]
    titles = [axes.title.get_window_extent() for axes in panels]
    assert len(panels) == 2 * (n_states + 1)
    assert max(box.y1 for box in titles) <= figure.bbox.y1
    upper = min(axes.get_tightbbox().y0 for axes in panels[: n_states + 1])
    assert max(box.y1 for box in titles[n_states + 1 :]) < upper


def test_dims_in_another_order_give_the_same_figures():
    result = made(6, 2)
    first = hmm_glm.figures(result)
    again = hmm_glm.figures(result.transpose(*reversed(list(result.dims))))
    for slug, figure in first.items():
        assert again[slug].table.equals(figure.table), slug


def test_states_without_coupling_say_so():
    result = small(history=hmm_glm.Settings(history={"bins": 0}).history)
    figures = hmm_glm.figures(result)
    for slug in ("weights", "differences"):
        assert "no coupling networks" in figures[slug].caption
    assert "no coupling" in text(hmm_glm.Settings(states=2, history={"bins": 0}), result)
    assert "connected" not in headline(result)


def test_one_state_and_no_folds_are_drawn():
    figures = hmm_glm.figures(small(states=1))
    assert "was given: 1" in figures["selection"].caption
    assert "No data were held out" in figures["selection"].caption
    assert len(figures["restarts"].table)


def test_rows_are_sorted_by_region():
    result = made(10, 2)
    order, regions = row_order(result)
    assert list(result["region"].values[order]) == sorted(result["region"].values)
    assert sum(last - first + 1 for _, first, last in regions) == 10
    order, regions = row_order(result.drop_vars("region"))
    assert regions == []
    np.testing.assert_array_equal(order, np.arange(10))


def test_differences_are_in_units_of_their_error():
    result = made(4, 2)
    weight = np.zeros((2, 4, 4, 1))
    weight[0, 1, 2] = 1.0
    found = differences(result.assign(weight=(result["weight"].dims, weight)))
    assert found.value[0, 1, 2] == 0.5
    # Half of each of two independent errors of 0.05.
    assert found.error[0, 1, 2] == pytest.approx(0.05 / np.sqrt(2))
    assert (found.score != 0).sum() == 2


def test_states_are_averaged_around_what_repeats():
    result = made(4, 2)
    labels = [(one.name, one.count) for one in around_events(result)]
    assert labels == [("go", 6), ("stay", 6)]
    on_clock = result.isel(trial=[1]).assign_attrs(trials_by="recording")
    assert around_events(on_clock) == []
    events = on_clock.assign(
        event_trial=("event", [0, 0, 0, 0]), event_time=("event", [1.0, 2.0, 3.0, 7.9]),
        event_label=("event", np.array(["lick", "lick", "lick", "end"], dtype=object)),
    )  # fmt: skip
    (lick,) = around_events(events)
    assert lick.count == 3
    assert lick.time[0] == pytest.approx(-2.0)
    middle = [int(np.argmin(np.abs(result["time"].values - t))) for t in (1, 2, 3)]
    expected = events["state_probability"].values[0, middle].mean(axis=0)
    np.testing.assert_allclose(lick.mean[100], expected)
    assert events_of_trial(events, 0)[-1] == ("end", 7.9)


def test_summary_and_metrics_agree_with_the_result():
    result = made(5, 3)
    table = summary(result)
    assert table["state"].tolist() == [1, 2, 3]
    lengths = visits(result)
    total = sum(length.sum() for length in lengths)
    assert total == pytest.approx(STEP * (12 * 400 - 5))
    values = {row["metric"]: row for row in metrics(result)}
    assert values["states"]["value"] == 3
    assert values["restart_agreement"]["value"] == 0.95
    assert values["bits_per_spike"]["n"] == 5
    assert [row["metric"] for row in metrics(small())] == list(values)
    assert {row["unit"] for row in metrics(small())} == {row["unit"] for row in values.values()}


@pytest.mark.parametrize(
    ("given", "words"),
    [({"prior": "none", "regularisation": {"l1": 2.0}}, "absolute penalty 2"),
     ({"prior": "onehot-gumbel"}, "Gumbel-Softmax"), ({"dale": True}, "Dale's principle"),
     ({"connection_types": "unsigned"}, "present or absent"), ({"drop_first": 7}, "first 7 bins"),
     ({"sticky": {"kappa": 50.0}}, "50 more on staying"), ({"bootstrap": 30}, "30 resamplings"),
     ({"cv_folds": 0}, "Bayes information criterion"), ({"bias": "shared"}, "common to the states"),
     ({"history": {"basis": "raised_cosine", "bins": 9}}, "4 raised cosines"),
     ({"init": "kmeans"}, "clusters of the smoothed activity")],
)  # fmt: skip
def test_methods_text_names_what_was_chosen(given, words):
    settings = hmm_glm.Settings(states=[1, 2], **given)
    written = text(settings, small())
    assert words in written
    for key in changed_settings(settings):
        assert f"{key} = " in written
