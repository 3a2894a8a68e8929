"""The stages of the HMM-GLM states: fit (once per number of states), summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.analyses.hmm_glm.bootstrap import intervals
from neuropipe.analyses.hmm_glm.evaluate import decoded, parameters_of
from neuropipe.analyses.hmm_glm.fitting import KEPT_KINDS, Fitted, fit_states
from neuropipe.analyses.hmm_glm.goodness import goodness_variables, state_means
from neuropipe.analyses.hmm_glm.kernels.em import Parameters
from neuropipe.analyses.hmm_glm.prepare import Prepared, prepare
from neuropipe.analyses.hmm_glm.selection import (
    choose_states,
    held_out_scores,
    information_criterion,
    restart_agreement,
)
from neuropipe.analyses.hmm_glm.spec import ANALYSIS, Settings
from neuropipe.analyses.hmm_glm.units import with_units
from neuropipe.analyses.hmm_glm.variables import (
    chain_variables,
    coordinates,
    mean_counts,
    plain_order,
    step_s,
    weight_variables,
)
from neuropipe.errors import DataError, Issue, issues_from_json, issues_to_json
from neuropipe.store.code import code_fingerprint
from neuropipe.store.hashing import content_sha256
from neuropipe.store.pieces import Pieces, signature_of
from neuropipe.threads import one_blas_thread

__all__ = ["fit", "summary"]

Parts = Mapping[str, Sequence[xr.Dataset]]
RARE = 0.01  # occupancy below which a state is pointed out
STABLE = 0.9  # agreement of restarts below which states are pointed out as unstable
BINS_PER_STATE = 50
ORIGIN = ("time_reference", "trials_by", "modality")  # attributes of the input that results keep
# What every number of states brings to the comparison.
COMPARED = (
    "log_likelihood_train", "restart_agreement", "held_out_log_likelihood", "bits_per_spike",
    "bic", "rare_states",
)  # fmt: skip


def _traces(fitted: Fitted, restarts: int) -> dict[str, Any]:
    """Return the objective of every iteration; NaN after the end, and of starts not needed."""
    longest = max(len(fit.trace) for fit in fitted.restarts)
    trace = np.full((restarts, longest), np.nan)
    for row, fit in zip(trace, fitted.restarts, strict=False):
        row[: len(fit.trace)] = fit.trace
    return {"log_likelihood_trace": (("restart", "iteration"), trace)}


def _fit_issues(prepared: Prepared, fitted: Fitted, n_states: int) -> list[Issue]:
    issues = [*prepared.issues, *fitted.issues]
    n_bins = int(prepared.observations.valid.sum())
    if n_bins < BINS_PER_STATE * n_states:
        message = f"{n_bins} bins for {n_states} states"
        issues.append(Issue("FEW_BINS", "time", message, "use fewer states"))
    if not any(fit.converged for fit in fitted.restarts):
        message = f"no start of {n_states} states converged"
        issues.append(Issue("NOT_CONVERGED", f"states {n_states}", message, "raise `max_iter`"))
    return issues


def _pieces(
    folder: Path | None, data: xr.Dataset, settings: Settings, seed: int, states: int
) -> Pieces:
    """Return the keeper of what a killed fit of this input and these settings had done."""
    if folder is None:
        return Pieces(None)
    used = ANALYSIS.for_stage(settings, "fit")
    signature = signature_of(
        content_sha256(data), json.dumps(used, sort_keys=True), seed, states,
        code_fingerprint(ANALYSIS.code_modules),
    )  # fmt: skip
    return Pieces(folder, signature, KEPT_KINDS)


def _scores(prepared: Prepared, fitted: Fitted, settings: Settings, states: int) -> dict[str, Any]:
    """Return the scores of one number of states on the data that it was fitted to."""
    likelihood = np.full(settings.restarts, np.nan)
    likelihood[: len(fitted.restarts)] = [one.log_likelihood for one in fitted.restarts]
    mass = fitted.fit.posterior.probability[prepared.observations.valid].sum(axis=0)
    rare = int((mass < RARE * mass.sum()).sum())
    return {
        "log_likelihood_train": (("n_states", "restart"), likelihood[None]),
        "restart_agreement": (
            ("n_states", "restart", "restart_2"),
            restart_agreement(prepared, fitted, settings.restarts)[None],
        ),
        "bic": ("n_states", [information_criterion(prepared, fitted)]),
        "rare_states": ("n_states", [rare]),
    }


@one_blas_thread
def fit(
    data: xr.Dataset,
    settings: Settings,
    seed: int,
    parts: Parts,
    *,
    states: int,
    checkpoint: Path | None = None,
) -> xr.Dataset:
    """Fit one number of states on all data and on the training data of every fold.

    Parameters
    ----------
    data : xarray.Dataset
        Input.
    settings : Settings
        All but ``states`` and ``bootstrap``.
    seed : int
        Seed of the job.
    parts : mapping
        Not used.
    states : int
        Number of states.
    checkpoint : Path, optional
        Folder that keeps starts and folds, from which a killed job goes on.

    Returns
    -------
    xarray.Dataset
        Parameters of the best start, units and trials in plain order, and the scores of this
        number of states along ``n_states``.
    """
    data = data.isel(plain_order(data)[0])
    prepared = prepare(data, settings)
    pieces = _pieces(checkpoint, data, settings, seed, states)
    fitted = fit_states(prepared, settings, states, seed, pieces)
    nats, bits, issues = held_out_scores(data, settings, states, seed, pieces)
    scores = _scores(prepared, fitted, settings, states)
    if settings.cv_folds:
        scores["held_out_log_likelihood"] = (("n_states", "fold"), nats[None])
        if not np.isnan(bits).all():  # of activity there are no spikes
            scores["bits_per_spike"] = (("n_states", "fold"), bits[None])
    return xr.Dataset(
        {
            **weight_variables(prepared, fitted), **_traces(fitted, settings.restarts), **scores,
            "silent": ("unit", prepared.silent.astype(np.int8)),
            "rate": ("unit", mean_counts(prepared)),
        },
        coords={**coordinates(data, prepared, states), "n_states": [states]},
        attrs={
            "family": prepared.family, "link": prepared.link,
            "converged": int(fitted.fit.converged or any(f.converged for f in fitted.restarts)),
            "issues": issues_to_json(_fit_issues(prepared, fitted, states) + issues),
        },
    )  # fmt: skip


def _choice(table: xr.Dataset, settings: Settings) -> tuple[int, list[Issue]]:
    """Return the number of states to use and what to say about it."""
    counts = [int(count) for count in table["n_states"].values]
    if len(counts) == 1:
        return counts[0], []
    if "held_out_log_likelihood" in table:
        scores = table["held_out_log_likelihood"].transpose("n_states", "fold").values
        if np.isfinite(scores).all():
            return choose_states(counts, scores), []
    return counts[int(np.argmin(table["bic"].values))], [
        Issue("SELECTED_BY_BIC", "n_states", "no held-out data: the Bayes information criterion "
              "chose the number of states", "set `cv_folds`, or record longer", "info")
    ]  # fmt: skip


def _fits(parts: Parts, settings: Settings) -> list[xr.Dataset]:
    """Return the part of every number of states, in the order of the candidates."""
    found = {int(part["n_states"].values[0]): part for part in parts.get("fit", ())}
    missing = sorted(set(settings.candidates) - set(found))
    if missing:
        raise DataError(f"summary: no fit of {', '.join(map(str, missing))} states among the parts")
    return [found[count] for count in settings.candidates]


def _gathered(part: xr.Dataset, fits: Sequence[xr.Dataset]) -> list[Issue]:
    """Return the issues of all fits; what concerns one that is not used is no warning."""
    issues = issues_from_json(part.attrs["issues"])
    for one in fits:
        issues += [replace(i, severity="info") for i in issues_from_json(one.attrs["issues"])]
    return issues


def _once(issues: Sequence[Issue]) -> list[Issue]:
    """Return the first issue of each code and message."""
    first = {(issue.code, issue.message): issue for issue in reversed(issues)}
    return list(reversed(first.values()))


def no_gain(bits: np.ndarray) -> list[Issue]:
    """Return a warning if held-out counts are predicted no better than by constant rates.

    Parameters
    ----------
    bits : ndarray, shape (n_folds,)
        Gain over constant rates, bits per spike; NaN where a fold has none.
    """
    known = bits[np.isfinite(bits)]
    error = known.std(ddof=1) / np.sqrt(known.size) if known.size > 1 else 0.0
    if not known.size or known.mean() > error:
        return []
    message = (
        f"held-out data are predicted no better than by each unit's mean rate ({known.mean():.2g} "
        f"+- {error:.2g} bits per spike, standard error over folds)"
    )
    hint = "read nothing from the states and the couplings; try fewer states or other bins"
    return [Issue("NO_HELD_OUT_GAIN", "bits_per_spike", message, hint)]


def _result_issues(result: xr.Dataset) -> list[Issue]:
    issues = []
    if "bits_per_spike" in result:
        issues += no_gain(result["bits_per_spike"].sel(n_states=result.attrs["n_states"]).values)
    rare = np.flatnonzero(result["occupancy"].values < RARE)
    if rare.size:
        names = ", ".join(str(s) for s in rare)
        message = f"states {names} last under 1 % of the time"
        issues.append(Issue("RARE_STATE", "state", message, "a smaller number of states may do"))
    likelihood = result["log_likelihood_train"].sel(n_states=result.attrs["n_states"]).values
    seen = np.flatnonzero(np.isfinite(likelihood))
    if seen.size > 1:
        best = seen[np.argsort(-likelihood[seen], kind="stable")[:2]]
        table = result["restart_agreement"].sel(n_states=result.attrs["n_states"]).values
        if table[best[0], best[1]] < STABLE:
            message = (
                f"the two best starts agree in {table[best[0], best[1]]:.0%} of the bins "
                f"(stable: {STABLE:.0%} or more)"
            )
            issues.append(
                Issue("UNSTABLE_STATES", "restarts", message, "use fewer states or more restarts")
            )
    return issues


def _described(data: xr.Dataset, prepared: Prepared, parameters: Parameters) -> dict[str, Any]:
    """Return states and predictions of every bin, and what is counted from them."""
    found, step = decoded(prepared, parameters), step_s(data)
    path, probability = found["state_viterbi"][1], found["state_probability"][1]
    return {
        **found,
        **chain_variables(path, probability, parameters.transition, step),
        **state_means(prepared, probability, step),
        **goodness_variables(prepared, parameters),
    }


@one_blas_thread
def summary(data: xr.Dataset, settings: Settings, seed: int, parts: Parts) -> xr.Dataset:
    """Choose the number of states, decode every bin and gather the result.

    Parameters
    ----------
    data : xarray.Dataset
        Input.
    settings : Settings
        All; ``bootstrap`` and ``states`` are used here alone.
    seed : int
        Seed of the job.
    parts : mapping
        ``fit``, one part per number of states.

    Returns
    -------
    xarray.Dataset
        The result of the analysis.

    Raises
    ------
    DataError
        If a part is missing.
    """
    fits = _fits(parts, settings)
    order, back = plain_order(data)
    data = data.isel(order)
    compared = [one[[name for name in COMPARED if name in one]].drop_attrs() for one in fits]
    table = xr.concat(compared, "n_states", coords="minimal", compat="override", join="exact")
    chosen, issues = _choice(table, settings)
    part = fits[settings.candidates.index(chosen)]
    prepared = prepare(data, settings, silent=part["silent"].values.astype(bool))
    result = part.drop_vars([*COMPARED, "n_states"], errors="ignore").assign(
        _described(data, prepared, parameters_of(part))
    )
    result = result.merge(table, join="exact", combine_attrs="override")
    result = result.assign({name: data[name] for name in data.data_vars if name[:6] == "event_"})
    if settings.bootstrap:
        result = result.assign(intervals(data, prepared, part, settings, seed))
    result.attrs = {
        "settings": settings.model_dump_json(), "seed": int(seed), "n_states": chosen,
        "prior": settings.prior, "bin_width_s": step_s(data), **part.attrs,
        **{name: data.attrs[name] for name in ORIGIN if name in data.attrs},
    }  # fmt: skip
    issues = _once(issues + _gathered(part, fits) + _result_issues(result))
    return with_units(result.isel(back), data).assign_attrs(issues=issues_to_json(issues))
