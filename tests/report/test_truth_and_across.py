"""What the page shows of simulated studies, and of several results of one session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuropipe.report.across import session_views
from neuropipe.report.anonymise import Names
from neuropipe.report.page import build_page
from neuropipe.store.provenance import write_dataset

FOLDER = "results/cohort-worm/ntf"
STEP, PERIOD = 0.5, 20  # seconds, bins of one visit


def path_of(n_bins: int) -> np.ndarray:
    return np.arange(n_bins) // PERIOD % 2


def write_states(root: Any, label: str, n_bins: int = 120) -> None:
    result = xr.Dataset(
        {"state_viterbi": (("trial", "time"), path_of(n_bins)[None])},
        coords={"time": STEP * np.arange(n_bins), "trial_onset": ("trial", [0.0])},
    )
    write_dataset(result, root / f"results/sub-w01_calcium/{label}/result.nc", {})


def write_latents(root: Any, label: str, n_bins: int = 120) -> None:
    """Write two latents in two trials: the first steps with the states, the second is noise."""
    rng = np.random.default_rng(0)
    values = np.stack([path_of(n_bins) * 2.0, rng.normal(size=n_bins)], axis=-1)
    half = n_bins // 2
    result = xr.Dataset(
        {"latent_mean": (("trial", "time", "latent"), values.reshape(2, half, 2))},
        coords={
            "time": STEP * np.arange(half),
            "trial_onset": ("trial", [0.0, half * STEP]),
            "latent_group": ("latent", ["shared", "private:spikes"]),
        },
    )
    write_dataset(result, root / f"results/sub-w01_calcium/{label}/result.nc", {})


@pytest.fixture
def two(fake: Any) -> Any:
    """One recording with states and latents."""
    fake.add_recording("w01")
    each = [("sub-w01_calcium", "recording", ("sub-w01_calcium",))]
    for label, name in (("states", "hmm_glm"), ("latents", "gp_vae")):
        fake.add_run(label, each)
        courses = f"neuropipe.analyses.{name}.courses:courses"
        fake.runs[-1].analysis.courses = courses
    write_states(fake.root, "states")
    write_latents(fake.root, "latents")
    return fake


def test_a_truth_stands_before_the_other_figures(filled: Any) -> None:
    filled.write(
        f"{FOLDER}/truth.tsv",
        "measure\tvalue\tperfect\tgood\tverdict\tmeaning\npairs\t0.99\t1\t0.98\tgood\tAUC\n",
    )
    filled.write_figure(FOLDER, "truth", 0)
    listing = {"headline": "", "figures": [
        {"slug": "truth", "title": "Planted and found", "caption": "Good: equal."},
        {"slug": "components", "title": "Components", "caption": "Weights."},
    ]}  # fmt: skip
    filled.write(f"{FOLDER}/figures.json", listing)
    page = build_page(filled.study, filled.cells)
    assert page.count("Estimate and truth</h4>") == 1
    assert page.index("Estimate and truth") < page.index("Planted and found")
    assert page.index("Planted and found") < page.index(">Components</h5>")


def test_no_truth_no_heading(filled: Any) -> None:
    assert "Estimate and truth" not in build_page(filled.study, filled.cells)


def test_results_of_one_session_are_drawn_on_one_axis(two: Any) -> None:
    (view,) = session_views(two.study, Names(two.recordings))
    assert view.name == "sub-w01"
    assert [label for label, _ in view.analyses] == ["states", "latents"]
    assert view.figures[0].uri
    rows = {row[1]: float(row[3]) for row in view.table.rows}
    assert rows["latents 1 shared"] == pytest.approx(1.0)
    assert rows["latents 2 spikes"] < 0.1
    numbers = pd.read_csv(two.root / "report/across/sub-w01/fig-courses.tsv", sep="\t")
    assert numbers["states state"].tolist() == (path_of(len(numbers)) + 1).tolist()
    page = build_page(two.study, two.cells)
    assert "Across analyses" in page


def test_one_result_is_not_compared(two: Any) -> None:
    two.runs[1].analysis.courses = ""
    assert session_views(two.study, Names(two.recordings)) == ()
    assert "Across analyses" not in build_page(two.study, two.cells)


def test_a_damaged_result_is_left_out(two: Any) -> None:
    two.write("results/sub-w01_calcium/latents/result.nc", "not a result")
    assert session_views(two.study, Names(two.recordings)) == ()


def test_an_anonymous_page_names_no_subject_across_analyses(two: Any) -> None:
    two.report["anonymise_subjects"] = True
    page = build_page(two.study, two.cells)
    assert "Across analyses" in page
    assert "w01" not in page


def test_equal_results_give_equal_bytes(two: Any) -> None:
    first = build_page(two.study, two.cells)
    assert build_page(two.study, two.cells) == first


def test_a_figure_of_many_rows_stays_readable(two: Any) -> None:
    many = xr.Dataset(
        {
            "latent_mean": (
                ("trial", "time", "latent"),
                np.random.default_rng(1).normal(size=(1, 40, 30)),
            )
        },
        coords={
            "time": STEP * np.arange(40),
            "trial_onset": ("trial", [0.0]),
            "latent_group": ("latent", ["shared"] * 30),
        },
    )
    write_dataset(many, two.root / "results/sub-w01_calcium/latents/result.nc", {})
    (view,) = session_views(two.study, Names(two.recordings))
    assert view.figures[0].height < 1200
