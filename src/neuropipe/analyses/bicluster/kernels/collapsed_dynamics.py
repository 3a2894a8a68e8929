"""Scale of the innovations with the trajectories integrated out, given Polya-Gamma variables.

Trajectories and innovation covariances that are drawn given each other move slowly where the
counts say little of a trajectory, as in a state close to rest: a small Q makes a smooth
trajectory, which makes a small Q. Here the Kalman filter integrates the trajectory out.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.linalg import cholesky, invert_spd
from neuropipe.analyses.bicluster.kernels.trajectory import filter_forward

__all__ = ["scale_noise"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator
SMALLEST, LARGEST = np.log(0.05), 0.0


@njit(cache=True, nogil=True)
def _log_prior_ratio(
    A: Floats, b: Floats, Q: Floats, log_scale: float, nu_extra: float, q0: float, failures: Ints
) -> float:
    """Return log prior of ``exp(2 log_scale) Q`` with A, b over that of Q, with the Jacobian."""
    size = b.shape[0]
    lower, inverse, work = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    cholesky(Q, lower, failures)
    invert_spd(lower, inverse, work)
    square = 0.0
    for i in range(size):
        square += q0 * inverse[i, i]
        for j in range(size):
            product = b[i] * b[j]
            for m in range(size):
                left = A[i, m] - (1.0 if i == m else 0.0)
                product += left * (A[j, m] - (1.0 if j == m else 0.0))
            square += inverse[i, j] * product
    # IW(n + nu_extra, q0 I) and MN([I 0], Q, I) hold |Q|^{-(3 n + 2 + nu_extra) / 2}.
    power = size * (size + 1.0) - size * (3.0 * size + 2.0 + nu_extra)
    return power * log_scale - 0.5 * (np.exp(-2.0 * log_scale) - 1.0) * square


@njit(cache=True, nogil=True)
def scale_noise(
    rng: Generator, proposals: int, A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools,
    information: Floats, shift: Floats, nu_extra: float, q0: float, failures: Ints,
) -> int:  # fmt: skip
    """Propose multiples of the innovation covariances of one group; return how many were accepted.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    proposals : int
        How many; each for the state of a random bin.
    A, b, Q : ndarray, shapes (n_states, n[, n])
        Dynamics of the group; Q is changed in place.
    states, start : ndarray, shape (n_bins,)
        State of each bin; first bins of trials.
    information, shift : ndarray, shapes (n_bins, n, n) and (n_bins, n)
        Likelihood of the group's trajectory.
    nu_extra, q0 : float
        Prior, as in `dynamics.sample_dynamics`.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    n_bins = shift.shape[0]
    precision, linear = np.empty_like(information), np.empty_like(shift)
    here = filter_forward(
        A, b, Q, states, start, information, shift, shift, 0, n_bins, precision, linear, failures
    )
    accepted = 0
    for _ in range(proposals):
        t = int(rng.random() * n_bins)
        spread = np.exp(SMALLEST + (LARGEST - SMALLEST) * rng.random())
        log_scale = spread * rng.standard_normal()
        if start[t]:
            continue
        k = states[t]
        ratio = _log_prior_ratio(A[k], b[k], Q[k], log_scale, nu_extra, q0, failures)
        kept = Q[k].copy()
        Q[k] *= np.exp(2.0 * log_scale)
        there = filter_forward(
            A, b, Q, states, start, information, shift, shift, 0, n_bins, precision, linear,
            failures,
        )  # fmt: skip
        if np.log(1.0 - rng.random()) < there - here + ratio:
            here, accepted = there, accepted + 1
        else:
            Q[k] = kept
    return accepted
