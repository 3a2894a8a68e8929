"""What a chain keeps: compact draws, thinned latents, running moments, predictive checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.joint import log_joint, log_likelihood, sample_counts
from neuropipe.analyses.bicluster.kernels.likelihood import log_likelihood_bins
from neuropipe.analyses.bicluster.sweep import predictor

__all__ = ["CHECKS", "LATENTS", "SHARES", "STRENGTHS", "Records", "count_statistics"]

Floats = NDArray[np.float64]
SHARES = (
    "accept_label", "accept_loading", "accept_collapsed", "accept_trajectory", "accept_split",
    "accept_merge", "jitter",
)  # fmt: skip
CHECKS = ("fano", "isi0_fraction", "lag1_corr", "pairwise_corr", "pop_var")
STRENGTHS = ("row_concentration", "shared_concentration", "stickiness")
LATENTS = ("trajectory", "dynamics_matrix", "dynamics_offset", "noise_covariance")


def count_statistics(counts: Floats) -> dict[str, Floats]:
    """Return statistics of counts (n_units, n_bins), negative where unobserved, per unit.

    ``fano`` variance over mean, ``isi0_fraction`` share of empty bins, ``lag1_corr``
    autocorrelation at one bin, ``pairwise_corr`` mean correlation with the other units; and
    ``pop_var``, one number: variance over mean of the summed count per bin.
    """
    seen = counts >= 0.0
    values = np.where(seen, counts, np.nan)
    number = np.maximum(seen.sum(axis=1), 1)
    mean = np.where(seen, counts, 0.0).sum(axis=1) / number
    centred = np.where(seen, counts - mean[:, None], 0.0)
    variance = (centred**2).sum(axis=1) / number
    safe = np.where(variance > 0, variance, np.nan)
    lagged = (centred[:, 1:] * centred[:, :-1]).sum(axis=1) / number / safe
    total = np.where(seen, values, mean[:, None]).sum(axis=0)
    return {
        "fano": variance / np.where(mean > 0, mean, np.nan),
        "isi0_fraction": (values == 0).sum(axis=1) / number,
        "lag1_corr": lagged,
        "pairwise_corr": _mean_correlation(centred),
        "pop_var": np.array(total.var() / max(total.mean(), 1e-12)),
    }


def _mean_correlation(centred: Floats) -> Floats:
    """Return each row's mean correlation with the others, without the matrix of pairs.

    Rows (n_units, n_bins) have mean zero over their observed bins and are zero elsewhere.
    """
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    unit = np.divide(centred, length, out=np.full(centred.shape, np.nan), where=length > 0)
    known = np.isfinite(unit[:, 0])
    total = unit[known].sum(axis=0)
    found: Floats = (unit @ total - 1.0) / max(int(known.sum()) - 1, 1)
    return found


class Records:
    """Draws kept so far.

    Parameters
    ----------
    problem : Problem
        Data without held-out entries.
    counts : ndarray, shape (n_units, n_bins)
        All observed counts, for the predictive density.
    held : ndarray of bool, shape (n_units, n_bins)
        Held-out entries.
    priors, scheme
        Hyper-parameters and model.
    kept, latent_thin : int
        Draws to keep; latents at every latent_thin-th of them.
    """

    def __init__(
        self, problem: Problem, counts: Floats, held: NDArray[np.bool_], priors: Priors,
        scheme: Scheme, kept: int, latent_thin: int,
    ) -> None:  # fmt: skip
        self.problem, self.counts, self.held = problem, counts, held
        self.priors, self.scheme, self.latent_thin = priors, scheme, latent_thin
        n_units, n_bins = counts.shape
        n_states = scheme.n_states_max
        shapes: dict[str, tuple[tuple[int, ...], type]] = {
            "cluster_label": ((n_units,), np.int16),
            "state_label": ((n_bins,), np.uint8),
            "baseline": ((n_units,), np.float32),
            "loading": ((n_units, scheme.p), np.float32),
            "dispersion": ((n_units,), np.float32),
            "log_rate_spread": ((n_units,), np.float32),
            "n_clusters": ((), np.int16),
            "n_states": ((), np.int16),
            "log_joint": ((), np.float64),
            "log_likelihood_total": ((), np.float64),
            "held_out": ((), np.float64),
            "state_weight": ((n_states,), np.float32),
            "transition_matrix": ((n_states, n_states), np.float32),
        }
        if priors.hyper is not None:
            shapes |= dict.fromkeys(STRENGTHS, ((), np.float64))
        shapes |= dict.fromkeys(SHARES, ((), np.float64))
        self.draws = {
            name: np.zeros((kept, *shape), dtype=kind) for name, (shape, kind) in shapes.items()
        }
        self.sums = {
            "eta": np.zeros(counts.shape),
            "eta_square": np.zeros(counts.shape),
            "log_density": np.full(counts.shape, -np.inf),
        }
        self.latents: dict[str, list[np.ndarray]] = {name: [] for name in LATENTS}
        self.checks: dict[str, list[np.ndarray]] = {name: [] for name in CHECKS}
        self.done = 0

    def add(self, state: ChainState, shares: dict[str, float], rng: np.random.Generator) -> None:
        """Keep one draw; `rng` is a generator of its own, for replicated counts."""
        eta = predictor(self.problem, state)
        density = log_likelihood_bins(self.counts, eta, state.dispersion, self.scheme.poisson)
        self.sums["eta"] += eta
        self.sums["eta_square"] += eta**2
        np.logaddexp(self.sums["log_density"], density, out=self.sums["log_density"])
        steps = ~self.problem.start
        labels = np.unique(state.label, return_inverse=True)[1]
        values: dict[str, Any] = {
            "cluster_label": labels,
            "state_label": state.states,
            "baseline": state.coefficients[:, 0],
            "loading": state.coefficients[:, 1:],
            "dispersion": state.dispersion,
            "log_rate_spread": (eta - self.problem.offset).std(axis=1),
            "n_clusters": labels.max() + 1,
            "n_states": np.unique(state.states[steps]).size,
            "log_joint": log_joint(self.problem, state, self.priors, self.scheme),
            "log_likelihood_total": log_likelihood(self.problem, state, self.scheme),
            "held_out": density[self.held].mean() if self.held.any() else np.nan,
            "state_weight": state.beta,
            "transition_matrix": state.transition,
            # Baseline and loadings are proposed with the label, in one move.
            "accept_loading": shares["accept_label"],
            **shares,
        }
        if self.priors.hyper is not None:
            values |= dict(zip(STRENGTHS, state.strength, strict=True))
        for name, value in values.items():
            self.draws[name][self.done] = value
        if self.done % self.latent_thin == 0:
            self._add_latents(state, rng)
        self.done += 1

    def _add_latents(self, state: ChainState, rng: np.random.Generator) -> None:
        active = state.active()
        own = (state.x, state.A, state.b, state.Q)
        for name, array in zip(LATENTS, own, strict=True):
            self.latents[name].append(array[active].astype(np.float32))
        found = count_statistics(sample_counts(self.problem, state, self.scheme, rng))
        for name in CHECKS:
            self.checks[name].append(found[name])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything kept so far as flat arrays, for a checkpoint."""
        found = {f"draws/{name}": array[: self.done] for name, array in self.draws.items()}
        found |= {f"sums/{name}": array for name, array in self.sums.items()}
        for group, lists in (("latents", self.latents), ("checks", self.checks)):
            for name, parts in lists.items():
                found |= {f"{group}/{name}/{k}": part for k, part in enumerate(parts)}
        return found

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take back what `arrays` returned."""
        for key, array in arrays.items():
            group, _, rest = key.partition("/")
            if group == "draws":
                self.draws[rest][: len(array)] = array
                self.done = len(array)
            elif group == "sums":
                self.sums[rest][:] = array
        for group, lists in (("latents", self.latents), ("checks", self.checks)):
            for name, parts in lists.items():
                count = sum(key.startswith(f"{group}/{name}/") for key in arrays)
                parts[:] = [arrays[f"{group}/{name}/{k}"] for k in range(count)]

    def dataset(self) -> xr.Dataset:
        """Return the draws as a dataset; latents padded with NaN where a cluster is empty."""
        dims = {
            "cluster_label": ("unit",), "state_label": ("time",), "baseline": ("unit",),
            "loading": ("unit", "latent"), "dispersion": ("unit",), "log_rate_spread": ("unit",),
            "state_weight": ("state",), "transition_matrix": ("state", "state_to"),
        }  # fmt: skip
        found: dict[str, Any] = {
            name: (("draw", *dims.get(name, ())), array) for name, array in self.draws.items()
        }
        most = max(len(part) for part in self.latents["trajectory"])
        latent_dims = {
            "trajectory": ("time", "component"),
            "dynamics_matrix": ("state", "component", "component_in"),
            "dynamics_offset": ("state", "component"),
            "noise_covariance": ("state", "component", "component_2"),
        }
        for name, parts in self.latents.items():
            padded = np.full((len(parts), most, *parts[0].shape[1:]), np.nan, np.float32)
            for row, part in zip(padded, parts, strict=True):
                row[: len(part)] = part
            found[name] = (("latent_draw", "draw_cluster", *latent_dims[name]), padded)
        for name, parts in self.checks.items():
            dim = ("latent_draw",) if name == "pop_var" else ("latent_draw", "unit")
            found[f"check_{name}"] = (dim, np.array(parts))
        mean = self.sums["eta"] / self.done
        spread = np.maximum(self.sums["eta_square"] / self.done - mean**2, 0.0)
        pair = ("unit", "time")
        found["log_rate_mean"] = (pair, mean.astype(np.float32))
        found["log_rate_sd"] = (pair, np.sqrt(spread).astype(np.float32))
        density = self.sums["log_density"] - np.log(self.done)
        found["log_density"] = (pair, np.where(self.counts >= 0, density, np.nan))
        found["counts"] = (pair, np.where(self.counts >= 0, self.counts, np.nan).astype(np.float32))
        found["held"] = (pair, self.held)
        found["first_of_trial"] = ("time", self.problem.start)
        if self.problem.offset.any():
            found["log_exposure"] = (pair, self.problem.offset)
        return xr.Dataset(
            found, attrs={"family": self.scheme.family, "latent_thin": self.latent_thin}
        )
