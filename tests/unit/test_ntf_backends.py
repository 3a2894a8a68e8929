"""Other ways to find communities: same form of the result, same background rule, same test."""

from __future__ import annotations

import builtins
import importlib.util
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from neuropipe.analyses import ntf
from neuropipe.analyses.ntf.backends import BACKENDS, detect_communities
from neuropipe.errors import MissingDependency, UserError
from neuropipe.stats.clustering_scores import adjusted_rand_score

needs_leiden = pytest.mark.skipif(
    importlib.util.find_spec("leidenalg") is None, reason="leidenalg is not installed"
)
INSTALLED = ["wsbm", pytest.param("leiden", marks=needs_leiden), "spectral"]


def planted(seed, n=40, sizes=(10, 9), missing=0.1, inside=1.0):
    rng = np.random.default_rng(seed)
    labels = np.full(n, -1)
    labels[: sum(sizes)] = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(n)
    labels = labels[order]
    same = (labels[:, None] == labels) & (labels[:, None] >= 0)
    graph = np.where(same, inside, 0.15) * rng.exponential(size=(n, n))
    graph[rng.random((n, n)) < missing] = np.nan
    graph = np.triu(graph, 1)
    return graph + graph.T, labels


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("seed", range(2))
def test_planted_communities_are_found_and_significant(backend, seed):
    """Without background: only block models can give it a block of its own."""
    graph, truth = planted(seed, sizes=(14, 13, 13))
    found = detect_communities(
        graph, backend=backend, null_draws=40, rng=np.random.default_rng(seed)
    )
    assert adjusted_rand_score(found.community[0], truth) >= 0.85
    assert (found.pvalue[0, :3] < 0.05).all()
    assert found.strength.shape == found.pvalue.shape == found.score.shape
    assert len(found.community) == len(found.strength)


@pytest.mark.parametrize("backend", INSTALLED)
def test_exchangeable_noise_is_not_significant(backend):
    hits = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        noise = np.triu(rng.exponential(size=(20, 20)), 1)
        found = detect_communities(noise + noise.T, backend=backend, null_draws=40, rng=rng)
        hits += bool((found.pvalue < 0.05).any())
    assert hits <= 2  # binomial(10, 0.05) exceeds 2 with probability 0.012


@pytest.mark.parametrize("backend", INSTALLED)
def test_order_of_the_neurons_does_not_matter_and_a_seed_fixes_the_result(backend):
    graph, _ = planted(3)
    graph[5] = graph[:, 5] = np.nan
    order = np.random.default_rng(0).permutation(len(graph))
    options = {"backend": backend, "null_draws": 5, "samples": 20}
    found, again = (
        detect_communities(one, **options, rng=np.random.default_rng(1))
        for one in (graph, graph[np.ix_(order, order)])
    )
    np.testing.assert_array_equal(found.community[:, order], again.community)
    np.testing.assert_array_equal(found.pvalue, again.pvalue)
    np.testing.assert_array_equal(found.coassignment[np.ix_(order, order)], again.coassignment)
    assert (found.community[:, 5] == -2).all()
    assert np.isnan(found.coassignment[5]).all()
    assert np.isfinite(np.delete(np.delete(found.coassignment, 5, 0), 5, 1)).all()


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("n", [3, 4, 5])
def test_few_neurons_are_no_error(backend, n):
    graph = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)
    found = detect_communities(graph, backend=backend, null_draws=3, rng=np.random.default_rng(0))
    assert found.community.shape[1] == n


@pytest.mark.parametrize("backend", INSTALLED)
def test_separate_groups_are_no_error(backend):
    graph = np.kron(np.eye(3), np.ones((6, 6)))
    found = detect_communities(graph, backend=backend, null_draws=3, rng=np.random.default_rng(0))
    truth = np.repeat(np.arange(3), 6)
    assert adjusted_rand_score(found.block, truth) == 1.0


@needs_leiden
def test_leiden_is_the_partition_of_highest_modularity():
    """The resolution moves it; at 1 the modularity is at least that of the planted groups."""
    graph, _ = planted(0, sizes=(14, 13, 13), missing=0.0)
    np.fill_diagonal(graph, 0.0)

    def modularity(labels):
        degree = graph.sum(axis=1)
        excess = graph - np.outer(degree, degree) / degree.sum()
        return excess[labels[:, None] == labels].sum() / degree.sum()

    found = {
        resolution: detect_communities(
            graph,
            backend="leiden",
            resolution=resolution,
            significance="none",
            rng=np.random.default_rng(0),
        ).block
        for resolution in (0.2, 1.0, 4.0)
    }
    truth = planted(0, sizes=(14, 13, 13), missing=0.0)[1]
    assert modularity(found[1.0]) >= modularity(truth)
    counts = [np.unique(labels).size for labels in found.values()]
    assert counts[0] < counts[1] < counts[2]


def test_unknown_backend_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="known: wsbm, leiden, spectral, graph_tool"):
        detect_communities(np.ones((5, 5)), backend="louvain", rng=np.random.default_rng(0))


def test_settings_offer_the_backends():
    for backend in BACKENDS:
        assert ntf.CommunitySettings(backend=backend).backend == backend


@pytest.mark.parametrize(
    ("backend", "module", "remedy"),
    [
        ("leiden", "igraph", r"neuropipe\[graph\]"),
        ("leiden", "leidenalg", r"neuropipe\[graph\]"),
        ("graph_tool", "graph_tool", "conda-forge graph-tool"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(backend, module, remedy, monkeypatch):
    if module == "leidenalg":
        pytest.importorskip("igraph")
    actual = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == module:
            raise ImportError(f"No module named {module!r}")
        return actual(name, *rest, **more)

    for name in [one for one in sys.modules if one.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(builtins, "__import__", without)
    graph, _ = planted(0)
    message = f"communities.backend: '{backend}' needs the package '{module}'.*{remedy}.*wsbm"
    with pytest.raises(MissingDependency, match=message) as caught:
        detect_communities(graph, backend=backend, rng=np.random.default_rng(0))
    assert isinstance(caught.value, UserError)


class FakeGraph:
    """The part of graph-tool's interface that the backend uses."""

    def __init__(self, directed):
        assert directed is False
        self.edges = []

    def add_vertex(self, count):
        self.count = count

    def add_edge_list(self, edges):
        self.edges = edges.tolist()

    def new_edge_property(self, kind, values):
        assert kind == "double"
        assert len(values) == len(self.edges)
        return values


def test_graph_tool_gets_every_observed_pair_and_the_shorter_description_wins(monkeypatch):
    graph, truth = planted(0)
    calls = []

    def minimise(given, state_args):
        calls.append((given, state_args))
        corrected = state_args["deg_corr"]
        labels = np.zeros(given.count) if corrected else given_truth(given)
        return SimpleNamespace(entropy=lambda: 1.0 + corrected, get_bs=lambda: [labels])

    def given_truth(given):
        # The backend sees the neurons in another order: recognise the groups by their weights.
        weight = np.zeros((given.count,) * 2)
        for (i, j), value in zip(given.edges, calls[-1][1]["recs"][0], strict=True):
            weight[i, j] = weight[j, i] = value
        rows = np.sort(np.nan_to_num(graph / np.nanmean(graph[~np.eye(len(graph), dtype=bool)])), 1)
        place = [np.abs(rows - np.sort(row)).sum(axis=1).argmin() for row in weight]
        return truth[place] + 1

    module = ModuleType("graph_tool")
    inference = ModuleType("graph_tool.inference")
    module.Graph, module.seed_rng = FakeGraph, lambda seed: None
    inference.minimize_nested_blockmodel_dl = minimise
    monkeypatch.setitem(sys.modules, "graph_tool", module)
    monkeypatch.setitem(sys.modules, "graph_tool.inference", inference)
    found = detect_communities(
        graph, backend="graph_tool", significance="none", restarts=1, rng=np.random.default_rng(0)
    )
    assert [state_args["deg_corr"] for _, state_args in calls] == [False, True]
    assert all(state_args["rec_types"] == ["real-exponential"] for _, state_args in calls)
    assert len(calls[0][0].edges) == np.isfinite(graph[np.triu_indices(len(graph), 1)]).sum()
    assert adjusted_rand_score(found.block, truth) == 1.0


def test_optional_packages_are_not_imported_unless_chosen():
    code = (
        "import sys; import numpy as np; from neuropipe.analyses import ntf\n"
        "ntf.detect_communities(np.ones((6, 6)), null_draws=2, rng=np.random.default_rng(0))\n"
        "print([m for m in ('igraph', 'leidenalg', 'graph_tool', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_fit_with_another_backend_and_samples_has_the_same_form():
    data, _ = ntf.simulate(0, n_neurons=24, n_subjects=2, duration=80, n_motifs=1)
    base = {"null_draws": 5, "restarts": 1}
    plain = ntf.fit(data, ntf.Settings(rank=2, restarts=1, communities=base), 0)
    found = ntf.fit(
        data,
        ntf.Settings(
            rank=2, restarts=1, communities={**base, "backend": "spectral", "samples": 30}
        ),
        0,
    )
    assert "coassignment" not in plain
    assert found["coassignment"].dims == ("component", "neuron", "neuron_2")
    assert found["coassignment"].dtype == np.float32
    assert set(plain.data_vars) == set(found.data_vars) - {"coassignment"}
    for name in plain.data_vars:
        assert plain[name].dims == found[name].dims, name
