"""The HMM-GLM states for Python users: every stage in turn, and the alignment of two results."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.analyses.hmm_glm import stages
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences, match_weights
from neuropipe.analyses.hmm_glm.spec import ANALYSIS, Settings
from neuropipe.errors import DataError

__all__ = ["align_states", "fit"]


def fit(data: xr.Dataset, settings: Settings | None = None, seed: int = 0) -> xr.Dataset:
    """Find states, each with a coupling network of its own, and how many there are.

    Parameters
    ----------
    data : xarray.Dataset
        ``counts`` or ``activity(trial, time, unit)``; optional ``valid(trial, time)`` and
        ``regressor(trial, time, feature)``; attribute ``bin_width_s``.
    settings : Settings, optional
        Defaults if not given.
    seed : int
        Every random number derives from it.

    Returns
    -------
    xarray.Dataset
        States over time, weights with standard errors, connections, transition matrix; states by
        decreasing occupancy; scores of every number of states.

    Raises
    ------
    DataError
        If the input cannot be used; the message says what was found.
    """
    settings = Settings() if settings is None else settings
    keys = ANALYSIS.scatter(settings)["fit"]
    fits = [stages.fit(data, settings, seed, {}, **key) for key in keys]
    return stages.summary(data, settings, seed, {"fit": fits})


def align_states(reference: xr.Dataset, other: xr.Dataset, by: str = "sequence") -> xr.Dataset:
    """Return a result with its states in the order of another one.

    Parameters
    ----------
    reference, other : xarray.Dataset
        Results with the same number of states.
    by : {"sequence", "weight"}
        Agreement of the most probable paths (of the same data), or correlation of the weights.

    Raises
    ------
    DataError
        If the numbers of states differ.
    """
    if reference.sizes["state"] != other.sizes["state"]:
        found = reference.sizes["state"], other.sizes["state"]
        raise DataError(f"cannot align {found[1]} states with {found[0]}")
    if by == "weight":
        order = match_weights(reference["weight"].values, other["weight"].values)
    else:
        paths = (d["state_viterbi"].values.ravel() for d in (reference, other))
        order = match_sequences(*paths, reference.sizes["state"])
    renamed = np.append(np.argsort(order), -1)  # -1 stays -1
    moved = other.isel(state=order, state_to=order)
    return moved.assign(
        state_viterbi=other["state_viterbi"].copy(data=renamed[other["state_viterbi"].values])
    ).assign_coords(state=other["state"].values, state_to=other["state_to"].values)
