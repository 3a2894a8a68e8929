"""The number of states is found: three states give three, one state gives one."""

from __future__ import annotations

import pytest

from neuropipe.analyses import hmm_glm

pytestmark = pytest.mark.recovery

QUICK = {"restarts": 2, "cv_folds": 3, "max_iter": 30, "tol": 1e-5}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_states_are_chosen_when_there_are_three(seed):
    data, _ = hmm_glm.simulate(seed, n_units=12, n_states=3, n_bins=800, n_trials=6)
    result = hmm_glm.fit(data, hmm_glm.Settings(states=[1, 2, 3, 4], **QUICK), seed=0)
    means = result["bits_per_spike"].mean("fold").values
    print(f"seed {seed}: bits/spike {means.round(4)}, BIC {result['bic'].values.round(0)}, used "
          f"{result.attrs['n_states']}")  # fmt: skip
    assert result.attrs["n_states"] == 3


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_state_is_chosen_when_nothing_switches(seed):
    data, _ = hmm_glm.simulate(seed, n_units=8, n_states=1, n_bins=600, n_trials=6)
    result = hmm_glm.fit(data, hmm_glm.Settings(states=[1, 2, 3], **QUICK), seed=0)
    means = result["bits_per_spike"].mean("fold").values
    print(f"seed {seed}: bits/spike {means.round(4)}, used {result.attrs['n_states']}")
    assert result.attrs["n_states"] == 1
