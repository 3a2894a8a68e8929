"""R-hat and effective sample sizes against arviz."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from neuropipe.stats.chain_diagnostics import ess_bulk, ess_tail, rhat_rank


@pytest.fixture(scope="module")
def chains() -> np.ndarray:
    rng = np.random.default_rng(0)
    noise, draws = rng.standard_normal((4, 501)), np.zeros((4, 501))
    for t in range(1, 501):
        draws[:, t] = 0.8 * draws[:, t - 1] + noise[:, t]
    return draws + np.array([[0.0], [0.0], [0.5], [0.0]])


def test_they_are_those_of_arviz(chains):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz
    assert rhat_rank(chains) == pytest.approx(float(arviz.rhat(chains)), rel=1e-6)
    assert ess_bulk(chains) == pytest.approx(float(arviz.ess(chains)), rel=0.02)
    assert ess_tail(chains) == pytest.approx(float(arviz.ess(chains, method="tail")), rel=0.02)


def test_constants():
    assert rhat_rank(np.ones((3, 20))) == 1.0
    assert rhat_rank(np.repeat([[1.0], [2.0]], 20, axis=1)) == np.inf
    # Ranks of unequal shares, whose means are not exact in floating point.
    assert rhat_rank(np.repeat([[9.0], [9.0], [15.0]], 1498, axis=1)) == np.inf
    assert ess_bulk(np.ones((2, 20))) == 40


def test_draws_that_are_not_finite_or_too_few(chains):
    broken = chains.copy()
    broken[0, 0] = np.nan
    assert np.isnan(rhat_rank(broken))
    assert np.isnan(ess_bulk(broken))
    with pytest.raises(ValueError, match="n_draws >= 4"):
        rhat_rank(np.zeros((2, 3)))
