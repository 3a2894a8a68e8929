"""Choice of the number of states: held-out likelihood, information criterion, stability."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.evaluate import held_out
from neuropipe.analyses.hmm_glm.fitting import Fitted, fit_states
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences
from neuropipe.analyses.hmm_glm.prepare import Prepared, prepare
from neuropipe.analyses.hmm_glm.segments import cut, deal, join, settings_for_blocks, take
from neuropipe.analyses.hmm_glm.spec import Settings
from neuropipe.analyses.hmm_glm.variables import mean_counts
from neuropipe.errors import Issue
from neuropipe.seeds import stage_generator
from neuropipe.store.pieces import Pieces

__all__ = [
    "choose_states",
    "held_out_folds",
    "held_out_scores",
    "information_criterion",
    "restart_agreement",
]

Floats = NDArray[np.float64]


def held_out_folds(
    data: xr.Dataset, settings: Settings, seed: int
) -> tuple[list[tuple[xr.Dataset, xr.Dataset]], Settings]:
    """Return training and test data of every fold, and the settings under which to use them.

    Parameters
    ----------
    data : xarray.Dataset
        Input.
    settings : Settings
        ``cv_folds``, ``history``, ``drop_first``.
    seed : int
        Seed of the job; deals trials to folds, whatever the number of states.

    Returns
    -------
    folds : list of (xarray.Dataset, xarray.Dataset)
        Empty if the recording is too short to be cut.
    settings : Settings
        Blocks leave a gap of the length of the history at every border.
    """
    count = settings.cv_folds
    segments, blocks = cut(data, settings, count)
    if not segments or not count:
        return [], settings
    # Blocks are dealt in turn, so that every fold sees the beginning and the end.
    fold = deal(len(segments), count, None if blocks else stage_generator(seed, "folds"))
    folds = []
    for k in range(count):
        train = join([one for one, f in zip(segments, fold, strict=True) if f != k])
        test = join([one for one, f in zip(segments, fold, strict=True) if f == k])
        folds.append((take(data, train), take(data, test)))
    return folds, settings_for_blocks(settings) if blocks else settings


def held_out_scores(
    data: xr.Dataset, settings: Settings, n_states: int, seed: int, pieces: Pieces | None = None
) -> tuple[Floats, Floats, list[Issue]]:
    """Fit every fold and score what it left out, by the forward pass alone.

    Parameters
    ----------
    data : xarray.Dataset
        Input.
    settings : Settings
    n_states : int
    seed : int
        Seed of the job.
    pieces : Pieces, optional
        Keeps the folds, and the starts of one that is under way.

    Returns
    -------
    log_likelihood : ndarray, shape (n_folds,)
        Nats per held-out bin.
    bits : ndarray, shape (n_folds,)
        Bits per spike above a Poisson process with the mean rates of the training data; NaN for
        families that do not count.
    issues : list of Issue
    """
    folds, used = held_out_folds(data, settings, seed)
    if settings.cv_folds and not folds:
        nothing = np.full(settings.cv_folds, np.nan)
        message = "the recording is too short to hold out blocks of it"
        hint = "choose one number of states, or a shorter history"
        return nothing, nothing, [Issue("STATES_NOT_TESTED", "time", message, hint)]
    kept = Pieces(None) if pieces is None else pieces

    def scored(k: int) -> tuple[float, float]:
        (train, test), own = folds[k], int(stage_generator(seed, "fold", k).integers(2**63))
        prepared = prepare(train, used)
        fitted = fit_states(prepared, used, n_states, own, kept.within(f"fold-{k}"))
        left = prepare(test, used, silent=prepared.silent)
        score = held_out(left.observations, fitted.fit.parameters, mean_counts(prepared))
        return float(score["log_likelihood_per_bin"]), float(score["bits_per_spike"])

    scores = [kept(f"fold-{k}", functools.partial(scored, k)) for k in range(len(folds))]
    nats, bits = np.array(scores).reshape(-1, 2).T
    return nats, bits, []


def choose_states(candidates: Sequence[int], scores: Floats) -> int:
    """Return the smallest number of states within one standard error of the best.

    Parameters
    ----------
    candidates : sequence of int
    scores : ndarray, shape (n_candidates, n_folds)
        Held-out log-likelihood.

    Notes
    -----
    All candidates are scored on the same bins. The standard error is that of the difference to
    the best over folds, so that how hard a fold is does not count.

    Examples
    --------
    >>> choose_states([1, 2, 3], np.array([[-9.0, -9.2], [-5.0, -5.4], [-5.1, -5.2]]))
    2
    """
    loss = scores[int(np.argmax(scores.mean(axis=1)))] - scores
    spread = loss.std(axis=1, ddof=1) / np.sqrt(scores.shape[1])
    within = loss.mean(axis=1) <= spread
    return min(count for count, good in zip(candidates, within, strict=True) if good)


def information_criterion(prepared: Prepared, fitted: Fitted) -> float:
    """Return the Bayes information criterion; lower is better.

    Notes
    -----
    Counts every parameter that the data reach as free; priors leave fewer, so that the criterion
    errs towards few states.
    """
    parameters = fitted.fit.parameters
    n_states, n_units, n_features = parameters.theta.shape
    data = prepared.observations
    features = int(data.design[data.valid].any(axis=0).sum())
    heard = int((~prepared.silent).sum())
    free = n_states * heard * min(features, n_features) + n_states**2 - 1
    free += {"gaussian": n_states * n_units, "negbin": heard}.get(prepared.family, 0)
    if parameters.dispersion.ndim == 3:
        free += n_states * n_units * (n_units - 1) // 2
    if (parameters.theta[:, :, 0] == parameters.theta[0, :, 0]).all():
        free -= (n_states - 1) * heard  # one base level for all states
    return float(-2.0 * fitted.fit.log_likelihood + free * np.log(max(int(data.valid.sum()), 1)))


def restart_agreement(prepared: Prepared, fitted: Fitted, count: int) -> Floats:
    """Return the share of bins in which restarts agree, shape (count, count).

    Parameters
    ----------
    prepared : Prepared
    fitted : Fitted
    count : int
        Size of the table; restarts that were not needed are NaN.
    """
    valid = prepared.observations.valid
    paths = [fit.posterior.probability[valid].argmax(axis=1) for fit in fitted.restarts]
    n_states = fitted.fit.parameters.theta.shape[0]
    table = np.full((count, count), np.nan)
    for i, first in enumerate(paths):
        for j in range(i + 1):
            order = match_sequences(first, paths[j], n_states)
            table[i, j] = table[j, i] = (order[first] == paths[j]).mean()
    return table
