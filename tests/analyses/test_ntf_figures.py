from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuropipe.analyses.ntf.figures import DRAW, figures
from neuropipe.analyses.ntf.figures import affinity as affinity_figure
from neuropipe.analyses.ntf.figures.affinity import draw_affinity, shown_pair
from neuropipe.analyses.ntf.figures.annotations import shared_epochs, subject_epochs
from neuropipe.analyses.ntf.figures.communities import draw_communities
from neuropipe.analyses.ntf.figures.connectome import draw_connectome
from neuropipe.analyses.ntf.kernels.communities import detect_communities
from neuropipe.analyses.ntf.kernels.community_result import stack_communities
from neuropipe.analyses.ntf.methods import text
from neuropipe.analyses.ntf.motifs import community_name, list_motifs, match_groups, ordered_dims
from neuropipe.analyses.ntf.spec import ANALYSIS, Settings
from neuropipe.analyses.ntf.summary import headline, metrics, summary, tables, wiring_table
from neuropipe.plotting.save import save_figure
from neuropipe.plotting.style import apply_style

CLASSES = ("interneuron", "motor", "sensory", "")
BIN_S, RATE_HZ = 1.0, 3.0


def graphs(rng, n_neurons, n_components, planted):
    """Graphs with two planted groups each, the last one without any."""
    found, labels = [], []
    for component in range(n_components):
        label = np.full(n_neurons, -1)
        if planted and (component < n_components - 1 or n_components == 1):
            size = max(3, n_neurons // 8)
            for group in range(2):
                label[rng.choice(np.flatnonzero(label < 0), size, replace=False)] = group
        same = (label[:, None] == label) & (label[:, None] >= 0)
        graph = np.triu(np.where(same, 1.0, 0.12) * rng.gamma(2.0, 0.5, same.shape), 1) * 0.1
        found.append(graph + graph.T)
        labels.append(label)
    return np.array(found), np.array(labels)


def selection(rng, n_components, selected):
    ranks = np.arange(1, n_components + 3) if selected else np.array([n_components])
    error = (
        0.75 + 0.02 * np.abs(ranks - n_components)[:, None] + rng.normal(0, 0.01, (ranks.size, 4))
    )
    similarity = np.clip(rng.normal(0.92, 0.05, (ranks.size, 4, 4)), 0, 1)
    return ranks, error if selected else np.full_like(error, np.nan), similarity


def traces(rng, labels, course, n_subjects, n_times):
    activity = rng.normal(size=(n_subjects, labels.shape[1], n_times)) * 0.3
    step = n_times // course.shape[1]
    for label, shape in zip(labels, course, strict=True):
        for group in range(2):
            drive = np.repeat(shape, step) * rng.gamma(1.0, 2.0, n_times)
            activity[:, label == group] += drive
    return activity


def planted_result(
    n_neurons=40,
    n_components=4,
    n_subjects=4,
    *,
    n_bins=180,
    planted=True,
    epochs=("odour", "light", "odour"),
    classes=True,
    selected=True,
    null_draws=20,
    seed=0,
):
    """A result as the last stage writes it, from planted factors."""
    rng = np.random.default_rng(seed)
    time_bin = (np.arange(n_bins) + 0.5) * BIN_S
    centers = np.linspace(0.1, 0.9, n_components) * n_bins
    course = np.exp(-0.5 * ((np.arange(n_bins) - centers[:, None]) / (0.03 * n_bins)) ** 2)
    intervals = np.full((n_components, 2, 2), np.nan)
    intervals[:, 0] = np.stack([centers - 0.04 * n_bins, centers + 0.04 * n_bins], axis=1)
    adjacency, labels = graphs(rng, n_neurons, n_components, planted)
    activity = traces(rng, labels, course, n_subjects, int(n_bins * RATE_HZ))
    activity[rng.random((n_subjects, n_neurons)) < 0.15] = np.nan
    found = stack_communities(
        [detect_communities(graph, null_draws=null_draws, rng=rng) for graph in adjacency]
    )
    ranks, error, similarity = selection(rng, n_components, selected)
    subject_factor = rng.random((n_components, n_subjects))
    weight = np.linspace(30, 10, n_components)
    history = 0.5 + np.exp(-np.arange(40) / 6.0) + rng.random((4, 1)) * 0.02
    history[1, 25:] = np.nan
    names = np.array([f"N{i:03d}" for i in range(n_neurons)], dtype=object)
    by_id = ("component", "level", "community_id")
    result = xr.Dataset(
        {
            "component_weight": ("component", weight),
            "time_factor": (("component", "time_bin"), course),
            "subject_factor": (("component", "subject"), subject_factor),
            "component_adjacency": (("component", "neuron", "neuron_2"), adjacency),
            "community": (("component", "level", "neuron"), found["community"]),
            "community_strength": (by_id, found["strength"]),
            "community_pvalue": (by_id, found["pvalue"]),
            "active_interval": (("component", "interval", "bound"), intervals),
            "dynamic_strength": (
                ("time_bin", "subject", "component"),
                np.einsum("r,rt,ra->tar", weight, course, subject_factor),
            ),
            "loss_history": (("restart", "iteration"), history),
            "cv_error": (("rank", "fold"), error),
            "fms_restart": (("rank", "restart", "restart_2"), similarity),
            "explained_variance": ((), 0.42),
            "reconstruction_error": ("subject", np.full(n_subjects, 0.76)),
            "activity": (("subject", "neuron", "time"), activity.astype(np.float32)),
        },
        coords={
            "time_bin": time_bin,
            "time": np.arange(activity.shape[2]) / RATE_HZ,
            "neuron": names,
            "neuron_2": names,
            "subject": np.array([f"w{i + 1:02d}" for i in range(n_subjects)], dtype=object),
            "rank": ranks,
            "bound": np.array(["start", "stop"], dtype=object),
        },
        attrs={
            "converged": 1,
            "issues": "[]",
            "versions": json.dumps({"neuropipe": "0.1.0", "numpy": "2.4.6", "scipy": "1.17.1"}),
            "affinity_mode": "excess",
            "align": "absolute",
        },
    )
    if epochs:
        start = np.linspace(0.1, 0.7, len(epochs)) * n_bins
        result["epoch_name"] = ("epoch", np.array(epochs, dtype=object))
        result["epoch_start"] = ("epoch", start)
        result["epoch_stop"] = ("epoch", start + 0.1 * n_bins)
        result["epoch_subject"] = ("epoch", np.array(["*"] * len(epochs), dtype=object))
    if classes:
        kinds = np.array([CLASSES[i % 4] for i in range(n_neurons)], dtype=object)
        result["neuron_class"] = ("neuron", kinds)
    return result


@pytest.fixture(scope="module")
def result():
    return planted_result()


CASES = {
    "usual": {},
    "one subject": {"n_subjects": 1},
    "one component": {"n_components": 1},
    "no community": {"planted": False},
    "no epochs, no classes": {"epochs": (), "classes": False},
    "rank given": {"selected": False},
    "four neurons": {"n_neurons": 4, "planted": False},
}


@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_drawn_and_saved(case, tmp_path):
    drawn = figures(planted_result(null_draws=5, **CASES[case]))
    assert tuple(drawn) == ANALYSIS.figure_slugs
    for slug, figure in drawn.items():
        assert figure.title
        assert "Good:" in figure.caption
        assert "Bad:" in figure.caption
        assert isinstance(figure.table, pd.DataFrame)
        svg = save_figure(figure, tmp_path, slug)[0].read_text(encoding="utf-8")
        assert len(svg) < 2_000_000


def test_121_neurons_and_12_components_fit_on_pages(tmp_path):
    drawn = figures(planted_result(121, 12, 7, null_draws=3))
    for figure in drawn.values():
        assert figure.get_size_inches()[1] * 25.4 < 480
    for slug in ("traces", "communities"):
        svg, _, table = save_figure(drawn[slug], tmp_path, slug)
        assert svg.stat().st_size < 2_500_000
        assert table.stat().st_size < 4_000_000


def test_captions_state_the_numbers(result):
    drawn = figures(result)
    assert "n = 4 subjects, 40 neurons" in drawn["components"].caption
    assert "mean ± one standard error over 4 folds" in drawn["rank"].caption
    given = figures(planted_result(selected=False, null_draws=3))["rank"]
    assert "nothing was selected" in given.caption
    assert "Loss of the restarts" in given.axes[0].get_title(loc="left")


def test_drawing_does_not_change_the_result(result):
    before = result.copy(deep=True)
    figures(result)
    text(Settings(), result)
    summary(result)
    xr.testing.assert_identical(before, result)


def test_order_of_the_dims_does_not_matter(result):
    turned = result.transpose(*reversed(list(ordered_dims(result).dims)))
    one, two = figures(result), figures(turned)
    for slug in one:
        pd.testing.assert_frame_equal(one[slug].table, two[slug].table)
    pd.testing.assert_frame_equal(summary(result), summary(turned))


def test_all_slugs_have_a_figure():
    assert tuple(DRAW) == ANALYSIS.figure_slugs


def wired(result, kinds=("chemical", "gap"), seed=0):
    """The result with a made-up comparison to a connectome."""
    rng = np.random.default_rng(seed)
    shape = (result.sizes["component"], result["community_strength"].shape[2], len(kinds))
    dims = ("component", "community_id", "kind")
    names = ("weight", "expected", "pvalue", "pvalue_family")
    made = {f"wiring_{name}": (dims, rng.random(shape)) for name in names}
    made |= {f"wiring_{n}": (dims, rng.integers(3, 60, shape)) for n in ("neurons", "pairs")}
    null = np.sort(rng.standard_normal((*shape, 3)), axis=-1)
    made["wiring_null"] = ((*dims, "wiring_quantile"), null)
    out = result.assign(made).assign_coords(
        kind=list(kinds), community_id=np.arange(shape[1]), wiring_quantile=[0.05, 0.5, 0.95]
    )
    return out.assign_attrs(wiring_draws=2000)


@pytest.mark.parametrize("case", ["usual", "one component", "no community"])
@pytest.mark.parametrize("kinds", [("chemical", "gap"), ("chemical", "gap", "functional")])
def test_a_connectome_adds_a_figure_and_its_table(case, kinds, tmp_path):
    made = wired(planted_result(null_draws=3, **CASES[case]), kinds)
    with apply_style():
        figure = draw_connectome(ordered_dims(made))
    svg, _, table = save_figure(figure, tmp_path, "connectome")
    assert svg.stat().st_size < 1_000_000
    communities = sum(len(motif.communities) for motif in list_motifs(made))
    assert len(pd.read_csv(table, sep="\t")) == communities * len(kinds)
    assert "2000 random sets" in figure.caption.replace("\n", " ")
    assert "Good:" in figure.caption
    assert "Westfall" in text(Settings(), made)


def test_the_connectome_figure_shows_what_the_table_says(result):
    made = wired(result)
    made["wiring_pvalue"][0, 0, 1] = np.nan
    table = wiring_table(made)
    row = table[(table["community"] == "2a") & (table["kind"] == "gap")].iloc[0]
    motif = list_motifs(made)[1]
    one = made.isel(component=1).sel(kind="gap", community_id=motif.communities[0].label)
    assert row["weight"] == float(one["wiring_weight"])
    assert row["excess"] == pytest.approx(float(one["wiring_weight"] - one["wiring_expected"]))
    assert row["matched_high"] == float(one["wiring_null"][2])
    figure = draw_connectome(made)
    written = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert written.count("not measured") == 1
    assert {axes.get_title(loc="left") for axes in figure.axes} | {
        axes.get_title() for axes in figure.axes
    } >= {"Chemical synapses", "Gap junctions"}
    assert tuple(figures(made)) == (*ANALYSIS.figure_slugs, *ANALYSIS.optional_slugs)


def test_the_pair_of_the_affinity_figure_is_the_strongest_of_its_community(result):
    motif, subject, pair = shown_pair(result)
    assert motif.number == 1
    members = motif.communities[0].members
    assert set(pair) <= set(members.tolist())
    graph = result["component_adjacency"].values[0]
    seen = np.isfinite(result["activity"].values[subject]).any(axis=1)
    there = members[seen[members]]
    assert graph[pair] == np.nanmax(graph[np.ix_(there, there)])


def test_the_affinity_figure_holds_the_affinity_that_entered_the_tensor():
    from neuropipe.analyses import ntf

    data, _ = ntf.simulate(seed=1, n_neurons=24, n_subjects=2, duration=80, n_motifs=1)
    for mode in ("excess", "differential", "abs_corr", "abs_dcorr"):
        settings = Settings(
            rank=2,
            restarts=1,
            affinity={"mode": mode, "window_s": 12.5},
            communities={"null_draws": 2},
            significance="none",
        )
        fitted = ntf.fit(data, settings, 0)
        shown = affinity_figure._shown(fitted)
        tensor = ntf.affinity_tensor(data, settings.affinity)
        row = (tensor["neuron_i"] == shown.names[0]) & (tensor["neuron_j"] == shown.names[1])
        expected = tensor["affinity"].values[row.values][0]
        expected = expected[:, list(tensor["subject"].values).index(shown.subject)]
        np.testing.assert_allclose(shown.binned, expected, atol=1e-5)
        assert mode in draw_affinity(fitted).caption


def test_the_motif_table_has_one_row_per_motif(result):
    (table,) = tables(result).values()
    assert tuple(tables(result)) == ANALYSIS.table_files
    assert list(table["motif"]) == [1, 2, 3, 4]
    assert table["weight_share"].sum() == pytest.approx(1.0)
    motif = list_motifs(result)[1]
    row = table.iloc[1]
    assert row["communities"] == len(motif.communities)
    assert row["neurons"] == sum(one.members.size for one in motif.communities)
    assert row["active_s"] == pytest.approx(motif.active_s)
    assert row["strongest_community"] == "2a"
    assert row["smallest_pvalue"] == min(one.pvalue for one in motif.communities)
    expected = result["component_weight"].values[1] * result["subject_factor"].values[1]
    found = [row[f"weight_{name}"] for name in result["subject"].values]
    np.testing.assert_allclose(found, expected)
    assert row["top_subject"] == result["subject"].values[np.argmax(expected)]


def test_members_are_named_in_the_community_figure(result):
    figure = figures(result)["communities"]
    written = {text.get_text() for axes in figure.axes for text in axes.texts}
    for motif in list_motifs(result):
        for one in motif.communities:
            assert one.name in written
            assert {str(result["neuron"].values[i]) for i in one.members} <= written


def test_epochs_at_different_times_are_not_drawn_for_all():
    result = planted_result(epochs=("a", "b", "b"), null_draws=1)
    result["epoch_subject"] = ("epoch", np.array(["*", "w01", "w02"], dtype=object))
    shared, apart = shared_epochs(result)
    assert [epoch.name for epoch in shared] == ["a"]
    assert apart == 2
    assert [epoch.name for epoch in subject_epochs(result, "w01")] == ["a", "b"]


def test_epochs_of_every_subject_at_one_time_are_shared():
    result = planted_result(epochs=("a",) * 4, null_draws=1)
    result["epoch_start"][:] = 5.0
    result["epoch_stop"][:] = 9.0
    result["epoch_subject"][:] = result["subject"].values
    assert [epoch.start for epoch in shared_epochs(result)[0]] == [5.0]


def test_community_names_count_in_letters():
    names = [community_name(2, k) for k in (0, 1, 25, 26, 27)]
    assert names == ["2a", "2b", "2z", "2aa", "2ab"]


def test_same_neurons_keep_their_group_between_motifs(result):
    same = result.isel(component=[0, 0, 1]).assign_coords(component=[0, 1, 2])
    groups = match_groups(list_motifs(same))
    assert groups["1a"] == groups["2a"]
    assert groups["1b"] == groups["2b"]
    assert groups["1a"] != groups["1b"]


def test_summary_has_one_row_per_member(result):
    table = summary(result)
    labels = result["community"].values[:, 0]
    assert (table["neuron"] != "").sum() == (labels >= 0).sum()
    assert set(table["component"]) == {1, 2, 3, 4}
    row = table.iloc[0]
    assert row["stop_s"] > row["start_s"]
    assert len(row["top_subjects"].split(", ")) == 3
    position = int(np.flatnonzero(result["neuron"].values == row["neuron"])[0])
    label = labels[0, position]
    assert row["strength"] == result["community_strength"].values[0, 0, label]


def test_summary_lists_motifs_without_community():
    table = summary(planted_result(planted=False, null_draws=1))
    assert set(table["component"]) == {1, 2, 3, 4}


def test_headline_holds_numbers(result):
    sentence = headline(result)
    assert sentence.startswith("4 components from 40 neurons in 4 subjects explain 42 %")
    assert sentence.endswith("at p < 0.05.")
    single = headline(planted_result(n_subjects=1, n_components=1, null_draws=1))
    assert single.startswith("1 component from 40 neurons in 1 subject explain")


def test_texts_say_what_a_small_p_speaks_against(result):
    permuted = result.assign_attrs(significance="permute")
    assert headline(permuted).endswith("permuted weights (no test of interaction) at p < 0.05.")
    assert "unequal activity" in draw_communities(ordered_dims(permuted)).caption
    shifted = result.assign_attrs(significance="circular_shift")
    assert "unlike independent neurons of the same activity" in headline(shifted)
    assert "shifted in time" in draw_communities(ordered_dims(shifted)).caption


def test_metrics_are_complete_and_unique(result):
    rows = metrics(result)
    assert all(set(row) == {"metric", "value", "unit", "low", "high", "n"} for row in rows)
    values = {row["metric"]: row["value"] for row in rows}
    assert len(values) == len(rows)
    assert values["components"] == 4
    assert values["explained_variance"] == pytest.approx(0.42)
    assert values["active_time"] == pytest.approx(0.08 * 180)
    assert values["communities"] >= values["significant_communities"] > 0


def test_metrics_name_the_same_rows_without_communities(result):
    names = [row["metric"] for row in metrics(result)]
    empty = metrics(planted_result(planted=False, selected=False, null_draws=1, seed=3))
    assert [row["metric"] for row in empty] == names


def test_methods_hold_numbers_versions_and_references(result):
    paragraph = text(Settings(), result)
    for word in ("Dyballa", "40 neurons", "4 subjects", "0.1.0", "42 %", "arXiv:2402.14102"):
        assert word in paragraph
    assert "{" not in paragraph


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"affinity": {"mode": "differential"}}, ["constant sign", "affinity.mode = differential"]),
        ({"affinity": {"deriv_window_s": 3.25}}, ["3.25"]),
        ({"affinity": {"scale_quantile": 0.91}}, ["0.91"]),
        ({"affinity": {"window_s": 17.5}}, ["17.5"]),
        ({"affinity": {"bin_s": 2.5}}, ["2.5 s"]),
        ({"affinity": {"max_gap_s": 0.75}}, ["0.75"]),
        ({"rank": [3, 4, 7]}, ["3, 4, 7"]),
        ({"rank": 4}, ["rank = 4"]),
        ({"max_rank": 9}, ["1 to 9"]),
        ({"cv_folds": 7}, ["7 folds"]),
        ({"restarts": 23}, ["23"]),
        ({"max_iter": 777}, ["777"]),
        ({"inner": 5}, ["5"]),
        ({"tol": 3e-6}, ["3e-06"]),
        ({"ridge": 0.037}, ["0.037"]),
        ({"bootstrap": 55}, ["55"]),
        ({"communities": {"weights": "normal"}}, ["normal"]),
        ({"communities": {"k_max": 14}}, ["14"]),
        ({"communities": {"restarts": 19}}, ["19"]),
        ({"communities": {"min_size": 5}}, ["5 neurons"]),
        ({"communities": {"null_draws": 333}}, ["333"]),
        ({"communities": {"samples": 4321}}, ["4321 partitions", "Dahl 2005"]),
        ({"communities": {"backend": "leiden"}}, ["Leiden", "Traag VA"]),
        (
            {"communities": {"backend": "leiden", "resolution": 1.7}},
            ["resolution 1.7", "communities.resolution = 1.7"],
        ),
        ({"communities": {"backend": "spectral"}}, ["spectral clustering", "von Luxburg U"]),
        ({"communities": {"backend": "graph_tool"}}, ["graph-tool", "nested"]),
        ({"significance": "none"}, ["not tested"]),
        ({"significance": "circular_shift"}, ["circular"]),
    ],
)
def test_methods_mention_every_setting_that_is_not_the_default(settings, words, result):
    changed = Settings.model_validate(settings)
    paragraph = text(changed, result)
    for word in words:
        assert word in paragraph
    assert paragraph != text(Settings(), result)


def test_result_of_a_fit_is_drawn_and_described():
    from neuropipe.analyses import ntf

    data, _ = ntf.simulate(seed=0, n_neurons=24, n_subjects=2, duration=120, n_motifs=2)
    settings = Settings(rank=[2, 3], restarts=2, cv_folds=2, communities={"null_draws": 5})
    fitted = ntf.fit(data, settings, seed=0)
    assert tuple(figures(fitted)) == ANALYSIS.figure_slugs
    assert "communities.null_draws = 5" in text(settings, fitted)
    assert headline(fitted)
    assert {row["metric"] for row in metrics(fitted)} >= {"components", "restart_similarity"}
