"""From an input dataset to the arrays of a chain: checks, masks, held-out entries."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import Priors, Problem, Scheme
from neuropipe.analyses.bicluster.spec import HeldoutSettings, Settings, plain
from neuropipe.errors import DataError, Issue
from neuropipe.seeds import stage_generator

__all__ = ["Prepared", "prepare", "priors_of", "scheme_of"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
LEAST_BINS, LEAST_UNITS, LARGE_COUNT = 10, 2, 10_000


@dataclass(frozen=True)
class Prepared:
    """What a chain needs.

    Attributes
    ----------
    problem : Problem
        Counts without the held-out entries.
    counts : ndarray, shape (n_units, n_bins)
        All observed counts, -1 where unobserved.
    held : ndarray of bool, shape (n_units, n_bins)
        Held-out entries.
    data : xarray.Dataset
        The input, without dropped units, dims in order.
    dropped : tuple of str
        Units without a spike that were dropped.
    issues : tuple of Issue
        What to tell.
    """

    problem: Problem
    counts: Floats
    held: Bools
    data: xr.Dataset
    dropped: tuple[str, ...]
    issues: tuple[Issue, ...]

    def signature(self, settings: Settings, seed: int, chain: int) -> str:
        """Return a hash of all that a chain depends on."""
        digest = hashlib.sha256(json.dumps(plain(settings), sort_keys=True).encode())
        digest.update(f"{seed} {chain}".encode())
        for array in (self.problem.counts, self.problem.offset, self.problem.start):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def priors_of(settings: Settings) -> Priors:
    """Return the hyper-parameters of the settings."""
    names = ("rho", "gamma", "alpha_h", "gamma_h", "kappa", "a_r", "h_r", "q0")
    model, hyper = settings.model, settings.model.hyperpriors
    return Priors(
        m_d=np.nan if model.m_d == "empirical" else float(model.m_d),
        hyper=None if hyper is None else (*hyper.rows, *hyper.shared, *hyper.stay),
        **{name: getattr(model, name) for name in names},
    )


def scheme_of(settings: Settings) -> Scheme:
    """Return model and moves of the settings."""
    model, mcmc = settings.model, settings.mcmc
    return Scheme(
        p=model.p, n_states_max=model.n_states_max, family=model.family,
        partition=model.partition, coupling=model.coupling, n_inner=mcmc.n_inner,
        n_aux=mcmc.n_aux, sm_every=mcmc.sm_every,
    )  # fmt: skip


def _observed_counts(data: xr.Dataset) -> Floats:
    """Return counts as floats, -1 where unobserved.

    Raises
    ------
    DataError
        If a count is negative or fractional; the message names the entry.
    """
    counts = data["counts"].values.astype(np.float64)
    seen = np.isfinite(counts)
    if "valid" in data:
        seen &= data["valid"].values.astype(bool)
    wrong = seen & ((counts < 0) | (counts != np.round(counts)))
    if wrong.any():
        i, t = np.argwhere(wrong)[0]
        raise DataError(
            f"counts: unit {data['unit'].values[i]}, bin {t}: {counts[i, t]:g} is no count; "
            "expected integers of 0 or more"
        )
    return np.where(seen, counts, -1.0)


def _check_time(data: xr.Dataset) -> None:
    time = data["time"].values.astype(np.float64)
    trial = data["trial"].values if "trial" in data else np.zeros(time.size)
    steps = np.diff(time)[np.diff(trial) == 0]
    if steps.size and not (steps > 0).all():
        t = int(np.argmax(np.diff(time) <= 0)) + 1
        raise DataError(f"time: bin {t} at {time[t]:g} s does not follow {time[t - 1]:g} s")
    if steps.size and np.ptp(steps) > 1e-3 * np.median(steps):
        raise DataError(
            f"time: bins are {steps.min():g} to {steps.max():g} s apart; expected one width "
            "within a trial; bin the spikes again"
        )


def _check_size(n_units: int, n_bins: int, p: int) -> None:
    if n_units < LEAST_UNITS or n_bins < LEAST_BINS:
        raise DataError(
            f"counts: {n_units} units x {n_bins} bins; at least {LEAST_UNITS} units with spikes "
            f"and {LEAST_BINS} bins are needed; widen `units` or `span_s`, or narrow `bin_ms`"
        )
    if p > n_units:
        raise DataError(f"model.p is {p}, but there are {n_units} units; lower `p`")


def _drop_silent(
    data: xr.Dataset, counts: Floats, rule: str
) -> tuple[xr.Dataset, Floats, tuple[str, ...], list[Issue]]:
    silent = ~(counts > 0).any(axis=1)
    names = tuple(str(name) for name in data["unit"].values[silent])
    if not names or rule == "keep":
        return data, counts, (), []
    text = f"{len(names)} units have no spike: {', '.join(names[:10])}"
    if rule == "error":
        raise DataError(f"counts: {text}; set on_silent to drop or keep, or select `units`")
    issue = Issue("SILENT_UNITS", "counts", f"{text}; they are left out", "select `units`")
    return data.isel(unit=~silent), counts[~silent], names, [issue]


def _hold_out(seen: Bools, rules: HeldoutSettings, rng: np.random.Generator) -> Bools:
    """Return held-out entries: whole blocks of bins of single units, drawn at random."""
    n_units, n_bins = seen.shape
    blocks = int(np.ceil(n_bins / rules.block_bins))
    drawn = rng.random((n_units, blocks)) < rules.fraction
    return np.repeat(drawn, rules.block_bins, axis=1)[:, :n_bins] & seen


def prepare(data: xr.Dataset, settings: Settings, seed: int) -> Prepared:
    """Check an input dataset and return the arrays of a chain.

    Parameters
    ----------
    data : xarray.Dataset
        ``counts(unit, time)``; optional ``valid``, ``offset``, ``trial``, ``region``.
    settings : Settings
        Uses ``model.p``, ``heldout``, ``on_silent``.
    seed : int
        Decides which entries are held out.

    Raises
    ------
    DataError
        If the counts cannot be used; the message names unit and bin.
    """
    if "counts" not in data or set(data["counts"].dims) != {"unit", "time"}:
        raise DataError("counts(unit, time) is missing: the input holds " + ", ".join(data))
    data = data.transpose("unit", "time", ...)
    counts = _observed_counts(data)
    _check_time(data)
    data, counts, dropped, issues = _drop_silent(data, counts, settings.on_silent)
    _check_size(*counts.shape, settings.model.p)
    if counts.max() > LARGE_COUNT:
        i, t = np.unravel_index(int(counts.argmax()), counts.shape)
        message = f"unit {data['unit'].values[i]} has {counts[i, t]:g} spikes in bin {t}"
        issues.append(Issue("LARGE_COUNTS", "counts", message, "narrow `bin_ms`"))
    held = np.zeros(counts.shape, dtype=bool)
    if settings.heldout.fraction:
        held = _hold_out(counts >= 0, settings.heldout, stage_generator(seed, "heldout"))
    start = np.zeros(counts.shape[1], dtype=bool)
    start[0] = True
    if "trial" in data:
        start[1:] = np.diff(data["trial"].values) != 0
    offset = data["offset"].values.astype(np.float64) if "offset" in data else None
    problem = Problem.of(
        np.where(held, -1.0, counts), valid=counts >= 0, offset=offset, start=start
    )
    return Prepared(problem, counts, held, data, dropped, tuple(issues))
