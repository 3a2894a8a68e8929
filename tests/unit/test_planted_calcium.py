"""The simulated cohort has the structure that its truth states."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuropipe.simulate.planted_calcium import planted_calcium
from neuropipe.simulate.planted_tensor import planted_tensor
from neuropipe.stats.factor_match import factor_match


@pytest.fixture(scope="module")
def planted() -> tuple[xr.Dataset, xr.Dataset]:
    return planted_calcium(3)


def test_sizes_names_and_missing_share(planted) -> None:
    data, truth = planted
    assert data["activity"].dims == ("subject", "neuron", "time")
    assert dict(data.sizes) == {"subject": 6, "neuron": 60, "time": 960}
    assert np.isnan(data["activity"]).all("time").sum() == round(0.15 * 360)
    assert np.isnan(data["activity"]).any("time").sum() == round(0.15 * 360)
    assert data.indexes["neuron"].is_unique
    assert truth.sizes == {"motif": 4, "neuron": 60, "pair": 1770, "time_bin": 240, "subject": 6}


def test_groups_intervals_and_animals_follow_the_rules(planted) -> None:
    _, truth = planted
    for motif in range(4):
        sizes = np.bincount(truth["label"].values[motif])[1:]
        assert 1 <= sizes.size <= 2
        assert ((sizes >= 8) & (sizes <= 12)).all()
        assert truth["pair_indicator"].values[motif].sum() == (sizes * (sizes - 1) / 2).sum()
        assert 24 <= truth["time_indicator"].values[motif].sum() <= 41
        strength = truth["subject_strength"].values[motif]
        assert (strength > 0).sum() >= 3
        assert ((strength == 0) | ((strength >= 0.7) & (strength <= 1))).all()
    length = truth["motif_stop"] - truth["motif_start"]
    assert ((length >= 25) & (length <= 40)).all()
    assert np.allclose(np.diff(truth["motif_start"], 2), 0)


def test_group_traces_correlate_in_the_interval_of_active_animals_only(planted) -> None:
    data, truth = planted
    time = data["time"].values
    inside, outside = [], []
    for motif in range(4):
        members = truth["label"].values[motif] == 1
        window = (time >= truth["motif_start"].values[motif]) & (
            time < truth["motif_stop"].values[motif]
        )
        for subject in range(6):
            x = data["activity"].values[subject, members][:, window]
            x = x[np.isfinite(x).all(axis=1)]
            value = np.abs(np.corrcoef(x)[np.triu_indices(len(x), 1)]).mean()
            active = truth["subject_strength"].values[motif, subject] > 0
            (inside if active else outside).append(value)
    assert np.mean(inside) > 0.7
    assert np.mean(outside) < np.mean(inside) - 0.2


def test_noise_and_sign_follow_the_arguments() -> None:
    quiet, truth = planted_calcium(0, n_subjects=1, snr=1e6, missing=0.0, p_negative=0.5)
    skew = ((quiet["activity"] - quiet["activity"].mean("time")) ** 3).mean("time")[0].values
    assert (np.sign(skew) == truth["sign"].values).mean() > 0.9
    assert (truth["sign"].values < 0).sum() == 30


def test_same_seed_same_data_and_another_seed_other_data() -> None:
    one, two, other = (planted_calcium(s, n_subjects=2)[0] for s in (1, 1, 2))
    xr.testing.assert_identical(one, two)
    assert not np.array_equal(one["activity"], other["activity"], equal_nan=True)


def test_planted_tensor_has_the_stated_noise_and_masks() -> None:
    data = planted_tensor(0, n_neurons=20, n_bins=40, rank=3, group=6, missing=0.2)
    assert data.X.shape == (190, 40, 5)
    assert not data.X.transpose(0, 2, 1)[~data.W].any()
    model = np.einsum("pr,tr,ar->pta", *data.factors)
    np.testing.assert_allclose(model, data.clean, rtol=1e-5)
    error = np.linalg.norm(data.full - data.clean) / np.linalg.norm(data.clean)
    assert 0.05 < error <= 0.1


def test_factor_match_is_1_for_permuted_scaled_factors_and_lower_otherwise() -> None:
    rng = np.random.default_rng(0)
    first = tuple(rng.random((n, 3)) for n in (30, 20, 5))
    order = [2, 0, 1]
    second = tuple(f[:, order] * 2.0 for f in first)
    score, columns, products = factor_match(first, second)
    assert score == pytest.approx(1.0)
    assert columns.tolist() == [1, 2, 0]
    assert products == pytest.approx([1, 1, 1])
    second[0][:, 0] = 0.0
    assert factor_match(first, second)[0] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="cannot match 3 columns to 2"):
        factor_match(first, tuple(f[:, :2] for f in first))
