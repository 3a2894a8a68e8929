"""What a chain works on (`Problem`, `Priors`) and what it holds at one moment (`ChainState`)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.partition import log_v_dp, log_v_mfm

__all__ = ["ChainState", "Priors", "Problem", "Scheme"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Problem:
    """Data of one chain.

    Attributes
    ----------
    counts : ndarray of float, shape (n_units, n_bins)
        Spikes per bin, -1 where unobserved.
    offset : ndarray, shape (n_units, n_bins)
        Known log exposure.
    start : ndarray of bool, shape (n_bins,)
        First bins of trials.
    """

    counts: Floats
    offset: Floats
    start: Bools

    @classmethod
    def of(
        cls, counts: Any, *, valid: Any = None, offset: Any = None, start: Any = None
    ) -> Problem:
        """Return the problem of counts, all observed and one trial unless told."""
        values = np.array(counts, dtype=np.float64)
        if valid is not None:
            values[~np.asarray(valid, dtype=bool)] = -1.0
        exposure = np.zeros(values.shape) if offset is None else np.array(offset, dtype=np.float64)
        first = np.zeros(values.shape[1], dtype=bool)
        first[0] = True
        if start is not None:
            first |= np.asarray(start, dtype=bool)
        return cls(values, exposure, first)


@dataclass(frozen=True)
class Priors:
    """Hyper-parameters, in the symbols of Wei (arXiv 2309.02213).

    Attributes
    ----------
    m_d, v_d : float, float
        Mean and variance of baselines delta; NaN as mean: the log mean count of each neuron.
    v_c : float
        Variance of loadings c.
    a_r, h_r : float
        Dispersion ``r ~ Gamma(a_r, h_r)``.
    rho, gamma : float
        Number of mixture components ``K ~ Geometric(rho)``, weights ``Dirichlet(gamma)``.
    alpha_h, gamma_h, kappa : float
        Sticky HDP-HMM: concentration of rows, of shared weights, weight on staying.
    nu_extra, q0 : float
        ``Q ~ IW(n + nu_extra, q0 I)``.
    hyper : tuple of 6 floats, optional
        Shape and rate of the Gamma prior of ``alpha_h + kappa``, the same of ``gamma_h``, and the
        shapes of the Beta prior of ``kappa / (alpha_h + kappa)``; then the three are sampled,
        beginning at those given.
    """

    m_d: float = 0.0
    v_d: float = 1.0
    v_c: float = 1.0
    a_r: float = 1.0
    h_r: float = 0.1
    rho: float = 0.2
    gamma: float = 1.0
    alpha_h: float = 5.0
    gamma_h: float = 5.0
    kappa: float = 10.0
    nu_extra: float = 2.0
    q0: float = 0.01
    hyper: tuple[float, float, float, float, float, float] | None = None

    def strength(self, state: ChainState) -> Floats:
        """Return alpha_h, gamma_h and kappa: those of the state once they are sampled."""
        if self.hyper is None or np.isnan(state.strength[0]):
            return np.array([self.alpha_h, self.gamma_h, self.kappa])
        return state.strength

    def baseline_means(self, counts: Floats) -> Floats:
        """Return the prior mean of each neuron's baseline."""
        if not np.isnan(self.m_d):
            return np.full(counts.shape[0], self.m_d)
        seen = counts >= 0.0
        total = np.where(seen, counts, 0.0).sum(axis=1)
        return np.log((total + 0.5) / np.maximum(seen.sum(axis=1), 1))


@dataclass(frozen=True)
class Scheme:
    """How a chain samples.

    Attributes
    ----------
    p, n_states_max : int
        Latent factors; most states.
    family : {"negbin", "poisson"}
        Distribution of counts.
    partition : {"mfm", "dp"}
        Prior of the clusters.
    coupling : {"block", "full"}
        Dynamics per cluster, or of all clusters in one vector (labels then stay fixed).
    n_inner, n_aux, sm_every : int
        Rounds of dynamics, states and transitions per sweep; empty candidates; sweeps between
        split-merge moves, 0: never.
    collapsed : bool
        Scan the states with trajectories integrated out.
    fix_labels : bool
        Keep the clusters.
    """

    p: int = 2
    n_states_max: int = 10
    family: str = "negbin"
    partition: str = "mfm"
    coupling: str = "block"
    n_inner: int = 5
    n_aux: int = 3
    sm_every: int = 5
    collapsed: bool = True
    fix_labels: bool = False

    @property
    def poisson(self) -> bool:
        """Whether counts are Poisson."""
        return self.family == "poisson"

    @property
    def frozen(self) -> bool:
        """Whether labels stay as they are."""
        return self.fix_labels or self.coupling == "full"

    def log_v(self, n_units: int, priors: Priors, concentration: float) -> Floats:
        """Return log V_N(t) of the partition prior, t = 0..N + 1."""
        if self.partition == "dp":
            return log_v_dp(n_units, concentration)
        return log_v_mfm(n_units, priors.rho, priors.gamma)

    def size_weight(self, priors: Priors) -> float:
        """Return what is added to a cluster's size in its weight."""
        return 0.0 if self.partition == "dp" else priors.gamma


@dataclass
class ChainState:
    """One moment of a chain; arrays are changed in place by a sweep.

    Attributes
    ----------
    label : ndarray of int, shape (n_units,)
        Slot of each neuron's cluster.
    coefficients : ndarray, shape (n_units, p + 1)
        Baseline delta and loadings c.
    dispersion : ndarray, shape (n_units,)
        Sizes r.
    x : ndarray, shape (n_slots, n_bins, n)
        Trajectories; slots without members hold nothing of meaning. With full coupling one slot
        with ``n = n_clusters (p + 1)``.
    A, b, Q : ndarray, shapes (n_slots, n_states, n[, n])
        Dynamics.
    states : ndarray of int, shape (n_bins,)
        State of each bin.
    beta, transition : ndarray, shapes (n_states,) and (n_states, n_states)
        Shared weights and transition probabilities.
    strength : ndarray, shape (3,)
        alpha_h, gamma_h, kappa under hyper-priors; NaN before the first draw and without.
    concentration : float
        Concentration of the Dirichlet process, if that is the prior.
    window : int
        Bins of a window of the Poisson update.
    proposal_size : float
        Size of the negative binomial that proposes for Poisson counts.
    """

    label: Ints
    coefficients: Floats
    dispersion: Floats
    x: Floats
    A: Floats
    b: Floats
    Q: Floats
    states: Ints
    beta: Floats
    transition: Floats
    strength: Floats = field(default_factory=lambda: np.full(3, np.nan))
    concentration: float = 1.0
    window: int = 50
    proposal_size: float = 100.0

    def copy(self) -> ChainState:
        """Return a state that shares no array with this one."""
        return replace(self, **{name: value.copy() for name, value in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def scalars(self) -> dict[str, float]:
        """Return the numbers that are no arrays, by name."""
        known = self.arrays()
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in known}

    @property
    def coupled(self) -> bool:
        """Whether all clusters share one trajectory vector."""
        return self.x.shape[2] != self.coefficients.shape[1]

    def grow(self, free: int) -> None:
        """Make sure that at least `free` slots have no members."""
        missing = np.unique(self.label).size + free - len(self.x)
        if missing > 0:
            for name in ("x", "A", "b", "Q"):
                array = getattr(self, name)
                more = np.zeros((missing, *array.shape[1:]))
                setattr(self, name, np.concatenate([array, more]))

    def active(self) -> Ints:
        """Return the slots in use, ascending."""
        return np.zeros(1, np.int64) if self.coupled else np.unique(self.label)

    def group(self) -> Ints:
        """Return the slot of each neuron's trajectory vector."""
        return np.zeros_like(self.label) if self.coupled else self.label

    def readout(self) -> Floats:
        """Return the rows h_i that read a neuron's trajectory vector, (n_units, n)."""
        own = self.coefficients.copy()
        own[:, 0] = 1.0
        if not self.coupled:
            return own
        size, rows = own.shape[1], np.zeros((own.shape[0], self.x.shape[2]))
        for i, cluster in enumerate(self.label):
            rows[i, cluster * size : (cluster + 1) * size] = own[i]
        return rows

    def cluster_paths(self) -> Floats:
        """Return the trajectory of each slot, (n_slots, n_bins, p + 1)."""
        if not self.coupled:
            return self.x
        size, n_bins = self.coefficients.shape[1], self.x.shape[1]
        return np.ascontiguousarray(self.x[0].reshape(n_bins, -1, size).transpose(1, 0, 2))
