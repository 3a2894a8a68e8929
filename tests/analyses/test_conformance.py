"""What every registered analysis must do, whatever it computes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses.registry import Analysis, analyses, load_object
from neuropipe.config.load import check_model
from neuropipe.config.template import settings_rows
from neuropipe.plotting.figure import ReportFigure
from neuropipe.store.provenance import read_dataset, write_dataset
from neuropipe.study import section_model

NAMES = sorted(analyses())
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Settings that make the simulated data of an analysis a matter of seconds.
QUICK = {
    "bicluster": (
        {"n_per": 4, "n_clusters": 2, "p": 1, "T": 60},
        {
            "model": {"p": 1, "n_states_max": 3},
            "mcmc": {"warmup": 20, "draws": 40, "thin": 2, "latent_thin": 2, "chains": 2},
        },
    ),
    "gp_vae": (
        {"n_trials": 14, "n_bins": 20, "n_units": 16},
        {"latents": {"shared": 1, "private": 1}, "restarts": 2, "max_epochs": 2},
    ),
    "hmm_glm": (
        {"n_units": 5, "n_states": 2, "n_bins": 300, "n_trials": 4},
        {"states": [1, 2], "restarts": 2, "max_iter": 8, "cv_folds": 2, "bootstrap": 2},
    ),
    "ntf": (
        {"n_neurons": 24, "n_subjects": 3, "duration": 80.0, "n_motifs": 2},
        {"rank": 2, "restarts": 2, "max_iter": 25, "communities": {"null_draws": 5, "restarts": 2}},
    ),
    "trsa": (
        {"n_conditions": 10, "n_categories": 5, "n_layers": 3, "n_subjects": 4, "n_channels": 12},
        {
            "rdm": {"permutations": 10},
            "descriptor": {"grid_step": 0.25},
            "inference": {"bootstrap": 20, "permutations": 20},
        },
    ),
}
# Data large enough for a matrix product to be split over threads.
LARGE = {
    "bicluster": {"n_per": 8, "T": 100},
    "gp_vae": {"n_trials": 24, "n_units": 60, "video": False},
    "hmm_glm": {"n_units": 30, "n_states": 2, "n_bins": 800, "n_trials": 2},
    "ntf": {"n_subjects": 3, "duration": 180.0},
    "trsa": {"n_subjects": 6, "n_channels": 150},
}
# Another value of one key of each kind, to see it in the methods text.
CHANGED = {
    "bicluster": ({"on_silent": "keep"}, "keep"),
    "gp_vae": ({"batch_trials": 7}, "batch_trials = 7"),
    "hmm_glm": ({"sticky": {"kappa": 12.25}}, "12.25"),
    "ntf": ({"ridge": 0.5}, "0.5"),
    "trsa": ({"compare": "spearman"}, "compare = spearman"),
}


@pytest.fixture(params=NAMES)
def analysis(request: pytest.FixtureRequest) -> Analysis:
    return analyses()[request.param]


def settings_of(analysis: Analysis, **changes):
    values = {**QUICK[analysis.name][1], **changes}
    model, problems = check_model(analysis.settings, values)
    assert not problems
    return model


def simulated(analysis: Analysis, seed: int = 0) -> xr.Dataset:
    face = importlib.import_module(analysis.package)
    data, _ = face.simulate(seed=seed, **QUICK[analysis.name][0])
    return data


@pytest.fixture(scope="module")
def fitted() -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    found = {}
    for name in NAMES:
        analysis = analyses()[name]
        data = simulated(analysis)
        found[name] = data, load_object(analysis.fit)(data, settings_of(analysis), 3)
    return found


def test_face_offers_the_five_names(analysis):
    face = importlib.import_module(analysis.package)
    for name in ("Settings", "fit", "simulate", "score", "figures"):
        assert name in face.__all__
        assert callable(getattr(face, name))


def test_defaults_are_valid_and_every_setting_is_described(analysis):
    section_model(analysis)()
    for key, _, description in settings_rows(analysis.settings):
        assert description, key


def test_pairs_of_numbers_of_the_input_are_taken_from_a_file(analysis):
    inputs = analysis.input_model.model_fields
    spans = {"span_s": [0, 10]} if "span_s" in inputs else {}
    checked, problems = check_model(section_model(analysis), {"input": spans})
    assert problems == []
    assert getattr(checked.input, "span_s", (0, 10)) == (0, 10)


def test_unknown_setting_is_an_error_with_the_closest_key(analysis):
    key = next(iter(analysis.settings.model_fields))
    _, problems = check_model(analysis.settings, {key + "x": 1})
    assert f"Did you mean {key!r}" in problems[0]


def test_same_seed_same_result_and_input_untouched(analysis, fitted):
    data, result = fitted[analysis.name]
    before = data.copy(deep=True)
    again = load_object(analysis.fit)(data, settings_of(analysis), 3)
    xr.testing.assert_identical(data, before)
    xr.testing.assert_equal(again, result)


def test_the_number_of_cores_changes_no_bit(analysis, tmp_path):
    face = importlib.import_module(analysis.package)
    data, _ = face.simulate(seed=0, **LARGE[analysis.name])
    settings = settings_of(analysis)
    write_dataset(data, tmp_path / "input.nc", {})
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    code = (
        "from neuropipe.analyses.registry import analyses, load_object\n"
        "from neuropipe.store.hashing import content_sha256\n"
        "from neuropipe.store.provenance import read_dataset\n"
        f"a = analyses()[{analysis.name!r}]; folder = {str(tmp_path)!r}\n"
        "s = a.settings.model_validate_json(open(folder + '/settings.json').read())\n"
        "print(content_sha256(load_object(a.fit)(read_dataset(folder + '/input.nc'), s, 3)))"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **dict.fromkeys(THREADS, n)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n in ("1", "2", "4")
    }
    assert len(hashes) == 1


def test_order_of_dims_does_not_matter(analysis, fitted):
    data, result = fitted[analysis.name]
    turned = data.transpose(*reversed(list(data.dims)))
    again = load_object(analysis.fit)(turned, settings_of(analysis), 3)
    xr.testing.assert_allclose(again, result, rtol=1e-6)


def test_workflow_stages_equal_fit_bit_for_bit(analysis, fitted, tmp_path):
    if not analysis.stages:
        pytest.skip("one job: the workflow calls fit itself")
    data, result = fitted[analysis.name]
    write_dataset(data, tmp_path / "input.nc", {})
    data = read_dataset(tmp_path / "input.nc")
    stages = importlib.import_module(f"{analysis.package}.stages")
    settings, parts = settings_of(analysis), {}
    scatter = analysis.scatter(settings)
    for stage in analysis.stages:
        files = []
        some = settings_of(analysis)
        if stage != analysis.stages[-1]:
            some, problems = check_model(analysis.settings, analysis.for_stage(settings, stage))
            assert not problems
        for index, key in enumerate(scatter.get(stage, [{}])):
            part = getattr(stages, stage)(data, some, 3, parts, **key)
            suffix = analysis.part_suffix.get(stage, ".nc")
            write_dataset(part, tmp_path / f"{stage}-{index}{suffix}", {})
            files.append(read_dataset(tmp_path / f"{stage}-{index}{suffix}"))
        if files:
            parts[stage] = files
    final = parts[analysis.stages[-1]][0]
    for name in result.data_vars:
        np.testing.assert_array_equal(final[name].values, result[name].values, err_msg=str(name))


def test_result_is_plain_and_says_whether_it_converged(analysis, fitted):
    _, result = fitted[analysis.name]
    assert result.attrs["converged"] in (0, 1)
    for issue in json.loads(result.attrs["issues"]):
        assert {"code", "message", "severity"} <= set(issue)
    assert not set(result.data_vars) & set(result.dims)


def test_figures_texts_and_metrics(analysis, fitted):
    _, result = fitted[analysis.name]
    figures = load_object(analysis.figures)(result)
    assert tuple(figures) == analysis.figure_slugs
    for slug, figure in figures.items():
        assert isinstance(figure, ReportFigure)
        assert len(figure.caption) > 40, slug
        assert figure.title
        assert len(figure.table)
    assert len(load_object(analysis.summary)(result))
    assert any(c.isdigit() for c in load_object(analysis.headline)(result))
    for metric in load_object(analysis.metrics)(result):
        assert {"metric", "value", "unit"} <= set(metric)


def test_figures_leave_no_global_state(analysis, fitted):
    import matplotlib.pyplot as plt

    load_object(analysis.figures)(fitted[analysis.name][1])
    assert plt.get_fignums() == []


def test_methods_text_names_a_changed_setting(analysis, fitted):
    change, text = CHANGED[analysis.name]
    _, result = fitted[analysis.name]
    write = load_object(analysis.methods)
    assert text in write(settings_of(analysis, **change), result)
    assert text not in write(settings_of(analysis), result)


def test_resources_are_positive(analysis):
    resources = analysis.resources(settings_of(analysis), {})
    assert resources.cpus >= 1
    assert resources.mem_mb > 0
    assert resources.minutes > 0
