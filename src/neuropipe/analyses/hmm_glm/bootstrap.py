"""Percentile intervals from trials drawn again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neuropipe.analyses.hmm_glm.evaluate import parameters_of
from neuropipe.analyses.hmm_glm.fitting import refit
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences
from neuropipe.analyses.hmm_glm.kernels.chain import forward_backward, viterbi
from neuropipe.analyses.hmm_glm.kernels.em import Parameters
from neuropipe.analyses.hmm_glm.kernels.glm import emissions
from neuropipe.analyses.hmm_glm.prepare import Prepared, prepare
from neuropipe.analyses.hmm_glm.segments import cut, settings_for_blocks, take
from neuropipe.analyses.hmm_glm.spec import Settings
from neuropipe.analyses.hmm_glm.variables import step_s
from neuropipe.errors import DataError
from neuropipe.seeds import stage_generator

__all__ = ["QUANTILES", "intervals"]

QUANTILES = (0.025, 0.975)
LEAST_TRIALS = 5  # of fewer, blocks are drawn


def _decoded(prepared: Prepared, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Return the most probable path and the occupancy of every state on the original data."""
    data = prepared.observations
    log_emission = emissions(data, parameters.theta, parameters.dispersion)
    chain = parameters.transition, parameters.initial, data.offsets
    path = viterbi(log_emission, *chain)
    mass = forward_backward(log_emission, *chain).probability[data.valid].sum(axis=0)
    return path[data.valid], mass / mass.sum()


class Drawn(NamedTuple):
    """Parameters of every resampling, states in the order of the fit.

    Attributes
    ----------
    theta : ndarray, shape (n_draws, n_states, n_units, n_features)
    transition : ndarray, shape (n_draws, n_states, n_states)
    occupancy : ndarray, shape (n_draws, n_states)
        On the original data.
    """

    theta: np.ndarray
    transition: np.ndarray
    occupancy: np.ndarray


def _resampled(
    data: xr.Dataset, prepared: Prepared, start: Parameters, settings: Settings, seed: int
) -> Drawn:
    segments, blocks = cut(data, settings, LEAST_TRIALS)
    if not segments:
        raise DataError("bootstrap: the recording is too short to be cut into blocks; set it to 0")
    used = settings_for_blocks(settings) if blocks else settings
    reference, _ = _decoded(prepared, start)
    drawn = []
    for index in range(settings.bootstrap):
        rng = stage_generator(seed, "bootstrap", index)
        chosen = [segments[k] for k in np.sort(rng.integers(len(segments), size=len(segments)))]
        own = int(rng.integers(2**63))
        found = refit(prepare(take(data, chosen), used), used, start, own)
        path, occupancy = _decoded(prepared, found)
        order = match_sequences(reference, path, len(start.theta))
        transition = found.transition[np.ix_(order, order)]
        drawn.append(Drawn(found.theta[order], transition, occupancy[order]))
    return Drawn(*(np.stack(values) for values in zip(*drawn, strict=True)))


def _between(values: np.ndarray) -> np.ndarray:
    """Return the quantiles over the first axis, as the last one."""
    return np.moveaxis(np.quantile(values, QUANTILES, axis=0), 0, -1)


def intervals(
    data: xr.Dataset, prepared: Prepared, part: xr.Dataset, settings: Settings, seed: int
) -> dict[str, Any]:
    """Return percentile intervals of weights, transitions, dwell times and occupancy.

    Parameters
    ----------
    data : xarray.Dataset
        Input, in the order of the fit.
    prepared : Prepared
        The same, prepared.
    part : xarray.Dataset
        Part of the stage ``fit`` with the chosen number of states.
    settings : Settings
        ``bootstrap`` resamplings.
    seed : int
        Seed of the job; every resampling has a stream of its own.

    Returns
    -------
    dict
        ``weight_interval``, ``transition_interval``, ``dwell_time_interval_s`` and
        ``occupancy_interval``, with the dim ``quantile``, its coordinate, 0.025 and 0.975.

    Raises
    ------
    DataError
        If the recording is a single trial too short to be cut into blocks.

    Notes
    -----
    Trials are drawn with replacement, blocks of them if there are fewer than five. Every
    resampling starts at the fit and learns its prior again; its states are aligned by the
    agreement of their paths on the original data.
    """
    drawn = _resampled(data, prepared, parameters_of(part), settings, seed)
    weight = drawn.theta[:, :, :, prepared.shared]
    weight = weight.reshape(len(weight), *part["weight"].shape)
    stay = _between(np.diagonal(drawn.transition, axis1=1, axis2=2))
    with np.errstate(divide="ignore"):
        dwell = step_s(data) / (1.0 - stay)  # rises with the probability to stay
    pair = ("state", "receiver", "sender", "basis")
    return {
        "quantile": ("quantile", list(QUANTILES)),
        "weight_interval": ((*pair, "quantile"), _between(weight)),
        "transition_interval": (("state", "state_to", "quantile"), _between(drawn.transition)),
        "dwell_time_interval_s": (("state", "quantile"), dwell),
        "occupancy_interval": (("state", "quantile"), _between(drawn.occupancy)),
    }  # fmt: skip
