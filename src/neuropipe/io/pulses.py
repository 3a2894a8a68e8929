"""One pulse train seen by two clocks: which pulse is which, and how the clocks relate.

Pulses may be missing on either side, and spurious ones may stand between them. Two pulses of one
train are as far apart on both clocks (but for the drift), so that equal intervals give hypotheses;
each is grown outwards from its pulses, and the one that explains most pulses wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["PulseMatch", "match_pulses"]

ANCHORS = 64
REACH = 3
MAX_HYPOTHESES = 4000
MIN_PULSES = 3
MIN_SHARE = 0.5
RIVAL_SHARE = 0.8
GROWTH = 2.0
MIN_STRETCH, CHANCE_SHARE = 8, 0.3
SETTLE = 5


@dataclass(frozen=True)
class PulseMatch:
    """Pulses found on both clocks, and the line through them.

    Attributes
    ----------
    pairs : numpy.ndarray
        Position in the device's train and in the reference, ``(n_matched, 2)``, increasing.
    scale, offset : float
        ``reference = scale * device + offset``, seconds.
    rms : float
        Root mean square of what the line leaves, seconds.
    in_order : bool
        The trains are evenly spaced: all pulses were matched one by one, which nothing proves.
    """

    pairs: np.ndarray
    scale: float
    offset: float
    rms: float
    in_order: bool = False

    @property
    def count(self) -> int:
        """Number of matched pulses."""
        return len(self.pairs)


class _Trains:
    """Two trains of pulses and the limits within which they may differ."""

    def __init__(
        self, device: np.ndarray, reference: np.ndarray, tolerance: float, drift: float
    ) -> None:
        # Counted from the first pulse: a clock of days leaves no digits for a slope.
        self.device, self.reference = device - device[0], reference - reference[0]
        self.tolerance, self.drift = tolerance, drift

    def hypotheses(self) -> list[tuple[int, int, int, int]]:
        """Return pulses ``i, i2`` of the device that may be ``j, j2`` of the reference."""
        found = list(self._equal_intervals())
        if len(found) > MAX_HYPOTHESES:
            step = np.linspace(0, len(found) - 1, MAX_HYPOTHESES).astype(int)
            found = [found[k] for k in step]
        return found

    def _equal_intervals(self) -> Iterator[tuple[int, int, int, int]]:
        n, m = len(self.device), len(self.reference)
        spans = []
        for q in range(1, min(REACH, m - 1) + 1):
            spans.append((q, self.reference[q:] - self.reference[:-q]))
        anchors = np.unique(np.linspace(0, n - 2, min(ANCHORS, n - 1)).astype(int))
        for i in anchors.tolist():
            for i2 in range(i + 1, min(i + REACH, n - 1) + 1):
                length = self.device[i2] - self.device[i]
                allowed = 2 * self.tolerance + self.drift * length
                for q, span in spans:
                    for j in np.flatnonzero(np.abs(span - length) <= allowed).tolist():
                        yield i, i2, j, j + q

    def nearest(
        self, scale: float, offset: float, tolerance: float, low: float, high: float
    ) -> np.ndarray:
        """Return mutually nearest pulses within the tolerance, device time in ``[low, high]``."""
        first, last = np.searchsorted(self.device, [low, high])
        here = np.arange(first, last)
        expected = scale * self.device[here] + offset
        there = _nearest(self.reference, expected)
        back = _nearest(expected, self.reference[there])
        good = back == np.arange(len(here))
        good &= np.abs(self.reference[there] - expected) <= tolerance
        return np.stack([here[good], there[good]], axis=1)

    def line(self, pairs: np.ndarray) -> tuple[float, float]:
        """Return slope and offset by least squares, the slope within the drift allowed."""
        x, y = self.device[pairs[:, 0]], self.reference[pairs[:, 1]]
        spread = float(((x - x.mean()) ** 2).sum())
        slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else 1.0
        slope = float(np.clip(slope, 1 - self.drift, 1 + self.drift))
        return slope, float(y.mean() - slope * x.mean())

    def grow(self, i: int, i2: int, j: int, j2: int) -> np.ndarray:
        """Return the pairs that follow from two pulses: the stretch that is known doubles."""
        pairs = np.array([[i, j], [i2, j2]])
        length, middle = self.device[i2] - self.device[i], self.device[[i, i2]].mean()
        # A short interval says nothing of the slope, a clock without drift is nearer then.
        radius = self.tolerance / self.drift if self.drift > 0 else np.inf
        if length >= radius:
            scale, offset = self.line(pairs)
        else:
            scale, offset = 1.0, self.reference[[j, j2]].mean() - middle
        radius = max(radius, length)
        end = max(middle, self.device[-1] - middle)
        while radius < end:
            near = self.nearest(scale, offset, 2 * self.tolerance, middle - radius, middle + radius)
            if self._is_chance(near, scale, offset, middle - radius, middle + radius):
                return pairs[:0]
            if len(near) >= 2:
                pairs = near
                scale, offset = self.line(pairs)
            radius *= GROWTH
        return self.settle(scale, offset)

    def _is_chance(
        self, pairs: np.ndarray, scale: float, offset: float, low: float, high: float
    ) -> bool:
        """Tell whether too few of the many pulses of a stretch match for it to be followed."""
        n = np.searchsorted(self.device, [low, high])
        m = np.searchsorted(self.reference, [scale * low + offset, scale * high + offset])
        least = int(min(n[1] - n[0], m[1] - m[0]))
        return least >= MIN_STRETCH and len(pairs) < CHANCE_SHARE * least

    def settle(self, scale: float, offset: float) -> np.ndarray:
        """Return the pairs of all pulses once the line and they agree."""
        pairs = np.zeros((0, 2), dtype=np.int64)
        for step in range(SETTLE):
            tolerance = self.tolerance * (2 if step == 0 else 1)
            near = self.nearest(scale, offset, tolerance, -np.inf, np.inf)
            if len(near) < 2 or (step > 1 and np.array_equal(near, pairs)):
                return near
            pairs = near
            scale, offset = self.line(pairs)
        return pairs

    def rms(self, pairs: np.ndarray) -> float:
        scale, offset = self.line(pairs)
        left = self.reference[pairs[:, 1]] - scale * self.device[pairs[:, 0]] - offset
        return float(np.sqrt(np.mean(left**2)))


def _nearest(sorted_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the position of the nearest of sorted values to each value."""
    if not len(sorted_values):
        return np.zeros(len(values), dtype=np.int64)
    right = np.clip(np.searchsorted(sorted_values, values), 1, max(1, len(sorted_values) - 1))
    right = np.minimum(right, len(sorted_values) - 1)
    left = np.maximum(right - 1, 0)
    closer = np.abs(values - sorted_values[left]) <= np.abs(sorted_values[right] - values)
    return np.where(closer, left, right)


def match_pulses(
    device: np.ndarray,
    reference: np.ndarray,
    *,
    tolerance_s: float = 0.01,
    max_drift: float = 1e-3,
) -> PulseMatch:
    """Find the pulses that both clocks saw, and the line between the clocks.

    Parameters
    ----------
    device, reference : numpy.ndarray
        Pulse times on the two clocks, seconds, strictly increasing; at least 3 each.
    tolerance_s : float
        How far two times of one pulse may lie apart after the fit, seconds.
    max_drift : float
        Largest ``|scale - 1|``.

    Returns
    -------
    PulseMatch

    Raises
    ------
    ValueError
        Too few pulses, no common sequence, or several that fit about as well (pulses at equal
        intervals): the message says which.

    Examples
    --------
    >>> seen = np.array([0.0, 1.0, 2.5, 3.1, 7.0])
    >>> found = match_pulses(seen[1:] - 40.0, seen)
    >>> found.count, round(found.offset, 9)
    (4, 40.0)
    """
    device, reference = (np.asarray(x, dtype=np.float64) for x in (device, reference))
    _check(device, reference)
    trains = _Trains(device, reference, tolerance_s, max_drift)
    found = _alignments(trains)
    if not found:
        raise ValueError(
            f"none of {len(device)} pulses of the device follows the {len(reference)} of the "
            "reference: no sequence of three intervals is common"
        )
    best = found[0]
    in_order = _check_rivals(trains, best, found[1:])
    _check_share(trains, best)
    scale, shift = trains.line(best)
    offset = float(reference[0] + shift - scale * device[0])
    return PulseMatch(best, scale, offset, trains.rms(best), in_order)


def _check(device: np.ndarray, reference: np.ndarray) -> None:
    for what, times in (("device", device), ("reference", reference)):
        if len(times) < MIN_PULSES:
            raise ValueError(f"{len(times)} pulses of the {what}, at least {MIN_PULSES} expected")
        if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
            raise ValueError(f"the pulses of the {what} are not in strictly increasing order")


def _alignments(trains: _Trains) -> list[np.ndarray]:
    """Return the alignments of three pulses or more, the best first."""
    seen: set[tuple[int, int]] = set()
    found = []
    for i, i2, j, j2 in trains.hypotheses():
        if (i, j) in seen and (i2, j2) in seen:
            continue
        pairs = trains.grow(i, i2, j, j2)
        seen |= {(i, j), (i2, j2)}
        if len(pairs) >= MIN_PULSES:
            seen.update(map(tuple, pairs.tolist()))
            found.append(pairs)
    return sorted(found, key=lambda pairs: (-len(pairs), trains.rms(pairs)))


def _check_rivals(trains: _Trains, best: np.ndarray, others: list[np.ndarray]) -> bool:
    """Raise when another alignment explains about as many pulses; tell whether order decided."""
    taken = set(map(tuple, best.tolist()))
    rivals = [pairs for pairs in others if not taken & set(map(tuple, pairs.tolist()))]
    if not rivals or len(rivals[0]) < RIVAL_SHARE * len(best):
        return False
    whole = len(best) == len(trains.device) == len(trains.reference)
    if whole and len(rivals[0]) < len(best):
        return True
    raise ValueError(
        f"two alignments fit: one with {len(best)} pulses, one with {len(rivals[0])}; pulses at "
        "equal intervals do not tell which is which when some are missing"
    )


def _check_share(trains: _Trains, best: np.ndarray) -> None:
    scale, offset = trains.line(best)
    there = scale * trains.device + offset
    slack = trains.tolerance
    n = ((there >= trains.reference[0] - slack) & (there <= trains.reference[-1] + slack)).sum()
    m = ((trains.reference >= there[0] - slack) & (trains.reference <= there[-1] + slack)).sum()
    least = min(int(n), int(m))
    if len(best) < MIN_SHARE * least:
        raise ValueError(
            f"the best alignment explains {len(best)} of {least} pulses where both clocks ran; "
            "these are not the same pulses"
        )
