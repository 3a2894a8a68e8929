"""Descriptors beside the defaults: absolute thresholds, a smooth step, distances of diagrams."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from neuropipe.analyses import trsa
from neuropipe.analyses.trsa.kernels.homology import bottleneck, rips_bars, sliced_wasserstein
from neuropipe.analyses.trsa.kernels.identification import accuracy_map, identify
from neuropipe.analyses.trsa.kernels.transform import prescale, rgtm
from neuropipe.analyses.trsa.methods import text
from neuropipe.errors import ConfigError

SIZES = {
    "n_conditions": 8, "n_categories": 4, "n_layers": 2, "n_subjects": 3, "n_channels": 10,
    "n_runs": 3, "n_models": 2,
}  # fmt: skip


def settings(**descriptor) -> trsa.Settings:
    return trsa.Settings(
        rdm={"permutations": 0},
        descriptor={"grid_step": 0.5} | descriptor,
        inference={"bootstrap": 0, "permutations": 10},
    )


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    return trsa.simulate(0, **SIZES)[0]


def test_absolute_thresholds_are_values_of_the_scaled_dissimilarity(data):
    wanted = {"threshold_mode": "absolute", "prescale": "minmax", "cells": [[0.2, 0.4]]}
    found = trsa.fit(data, settings(**wanted), 0)
    scaled = prescale(found["rdm"].values, "minmax")
    expected = np.clip((scaled - 0.2) / 0.2, 0, 1)
    np.testing.assert_allclose(found["rgtm"].isel(cell=0).values, expected)
    quantiles = trsa.fit(data, settings(**wanted | {"threshold_mode": "quantile"}), 0)
    assert np.abs(quantiles["rgtm"] - found["rgtm"]).max() > 0.1
    assert found["rgdm"].values.tolist() != quantiles["rgdm"].values.tolist()
    assert "thresholds (0.2, 0.4)" in text(settings(**wanted), found)


def test_thresholds_may_be_in_the_unit_of_the_measure(data):
    wanted = {"threshold_mode": "absolute", "prescale": "none", "cells": [[0.5, 3.0]]}
    wanted["geodesic"] = {"l": 0.0, "u": 2.0}
    found = trsa.fit(data, settings(**wanted), 0)
    positive = np.maximum(found["rdm"].values, 0)
    expected = np.clip((positive - 0.5) / 2.5, 0, 1)
    np.testing.assert_allclose(found["rgtm"].isel(cell=0).values, expected)
    assert found["threshold_class"].item() == "unscaled"
    # The map spans 0 to the largest dissimilarity of all.
    half = rgtm(positive, 0.0, positive.max() / 2, mode="absolute")
    expected = identify(half).accuracy
    np.testing.assert_allclose(found["accuracy_map"].sel(lower=0, upper=0.5), expected)
    with pytest.raises(ValidationError, match="3 is no quantile"):
        settings(cells=[[0.5, 3.0]])
    with pytest.raises(ValidationError, match="l is above u"):
        settings(threshold_mode="absolute", cells=[[3.0, 0.5]])


def test_an_absolute_map_equals_identification_cell_by_cell(data):
    scaled = prescale(trsa.fit(data, settings(), 0)["rdm"].values)
    cells = np.array([[0.1, 0.4], [0.3, 0.3], [0.5, 0.9]])
    accuracy, _, _ = accuracy_map(scaled, cells, mode="absolute")
    expected = [identify(rgtm(scaled, *cell, mode="absolute")).accuracy for cell in cells]
    np.testing.assert_allclose(accuracy, expected)


def test_a_smooth_step_is_a_descriptor_more(data):
    chosen = settings(smooth={"slope": 12, "centre": 0.4})
    found = trsa.fit(data, chosen, 0)
    ranks = prescale(found["rdm"].values)
    np.testing.assert_allclose(found["rgtm_smooth"], 1 / (1 + np.exp(-12 * (ranks - 0.4))))
    name = "smooth (12, 0.4)"
    assert found["rgtm_smooth"].attrs["name"] == name
    names = found["descriptor"].values.tolist()
    assert names[-2:] == [name, "RGDM"]
    expected = identify(found["rgtm_smooth"].values).accuracy
    np.testing.assert_allclose(found["identification_accuracy"].sel(descriptor=name), expected)
    assert "1 / (1 + exp(-12 (d - 0.4)))" in text(chosen, found)


@pytest.mark.parametrize(
    ("method", "function"), [("bottleneck", bottleneck), ("sliced_wasserstein", sliced_wasserstein)]
)
def test_diagrams_of_all_subjects_and_regions_are_compared(data, method, function):
    chosen = settings(homology=True, homology_distance=method)
    found = trsa.fit(data, chosen, 0)
    distance = found["diagram_distance"]
    assert distance.dims == ("homology", "subject", "region", "subject_2", "region_2")
    bars = [rips_bars(prescale(found["rdm"].values[place])) for place in ((0, 0), (2, 1))]
    for degree, name in enumerate(("H0", "H1")):
        one = distance.sel(homology=name).values
        np.testing.assert_allclose(one[0, 0, 2, 1], function(bars[0][degree], bars[1][degree]))
        np.testing.assert_array_equal(one, one.transpose(2, 3, 0, 1))
        assert np.abs(np.einsum("srsr->sr", one)).max() < 1e-12
    figure = trsa.figures(found)["homology"]
    assert f"{method.replace('_', ' ')} distances" in figure.caption
    assert "Diagrams were compared" in text(chosen, found)


def test_homology_of_a_movie_is_that_of_its_mean_after_the_event():
    movie = trsa.simulate(0, n_times=6, **SIZES)[0]
    found = trsa.fit(movie, settings(homology=True), 0)
    after = found["rdm"].isel(time=np.flatnonzero(found["time"].values >= 0)).mean("time")
    bars = rips_bars(prescale(after.values[1, 0]))[1]
    length = (bars[:, 1] - bars[:, 0]).max(initial=0.0)
    np.testing.assert_allclose(found["longest_bar"].sel(homology="H1")[1, 0], length)
    with pytest.raises(ValidationError, match="write `homology: true` too"):
        settings(homology_distance="bottleneck")


def test_categories_order_and_colour_the_conditions(data):
    names = data["condition"].values.astype(str)
    kinds = {name: ("tool" if k % 2 else "animal") for k, name in enumerate(names)}
    chosen = settings().model_copy(update={"categories": kinds})
    found = trsa.fit(data, chosen, 0)
    assert dict(zip(found["condition"].values, found["category"].values, strict=True)) == kinds
    drawn = trsa.figures(found)
    assert "categories (bars) and names" in drawn["rdms"].caption
    legend = [entry.get_text() for entry in drawn["rdms"].legends[0].get_texts()]
    assert legend == ["animal", "tool"]
    first = [label.get_text() for label in drawn["rdms"].axes[0].get_yticklabels()]
    assert first == [n for kind in ("animal", "tool") for n in sorted(names) if kinds[n] == kind]
    given = data.assign_coords(category=("condition", [kinds[name] for name in names]))
    np.testing.assert_array_equal(trsa.fit(given, settings(), 0)["category"], found["category"])
    strange = settings().model_copy(update={"categories": {"unicorn": "animal"}})
    with pytest.raises(ConfigError, match="unicorn: no such condition"):
        trsa.fit(data, strange, 0)


def test_names_of_models_must_make_different_files():
    models = [{"name": name, "path": "a.csv"} for name in ("Face/House", "face house")]
    with pytest.raises(ValidationError, match="the same names of files"):
        trsa.Settings(models=models)
