"""Amplitudes of channels, summed up while samples stream past, held against what is usual."""

from __future__ import annotations

import math

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.channels.source import ChannelTable
from neuropipe.io.channels.units import USUAL_SD, is_data, probable_unit, si_unit

__all__ = ["Amplitudes"]

SHOWN = 8
PART = 2048


class Amplitudes:
    """Standard deviation per channel of the brain, from sums over blocks.

    Parameters
    ----------
    table : ChannelTable
        Types, units and bad channels.
    scale : numpy.ndarray or None
        Factor of integers, ``(n_channels,)``.
    units_given : bool
        The user states the unit: nothing is an error then.
    """

    def __init__(self, table: ChannelTable, scale: np.ndarray | None, units_given: bool) -> None:
        self._table, self._units_given = table, units_given
        kinds = zip(table.ch_type, table.units, strict=True)
        self._picks = np.flatnonzero([is_data(kind, unit) for kind, unit in kinds])
        self._scale = np.ones(len(table)) if scale is None else np.abs(scale)
        n = len(self._picks)
        self._shift: np.ndarray | None = None
        self._count, self._sum, self._square = np.zeros(n), np.zeros(n), np.zeros(n)

    def add(self, values: np.ndarray) -> None:
        """Take the next samples, ``(n, n_channels)``; what is not finite does not count."""
        if not len(self._picks) or not len(values):
            return
        here = values if len(self._picks) == values.shape[1] else values[:, self._picks]
        if self._shift is None:
            # Around a value of its own size: squares of a large offset would hide what varies.
            first = here[0].astype(np.float64)
            self._shift = np.where(np.isfinite(first), first, 0.0)
        # Parts that stay in the cache of the processor: several times as fast as whole blocks.
        centred = np.empty((min(PART, len(here)), here.shape[1]))
        ones = np.ones(len(centred))
        for start in range(0, len(here), PART):
            part = here[start : start + PART]
            room, one = centred[: len(part)], ones[: len(part)]
            np.subtract(part, self._shift, out=room)
            self._count += len(part)
            if part.dtype.kind == "f" and not np.isfinite(room).all():
                missing = ~np.isfinite(room)
                self._count -= missing.sum(axis=0)
                room[missing] = 0.0
            # Numbers without sense may overflow; they are not usual then.
            with np.errstate(over="ignore", invalid="ignore"):
                self._sum += one @ room
                np.multiply(room, room, out=room)
                self._square += one @ room

    def _sd(self) -> np.ndarray:
        """Return the SD per picked channel in SI; NaN without finite samples."""
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self._sum / self._count
            variance = np.maximum(self._square / self._count - mean**2, 0.0)
        return np.sqrt(variance) * self._scale[self._picks]

    def verdict(self, path: object) -> list[Issue]:
        """Return issues of single channels; raise when the recording has another unit.

        Raises
        ------
        IngestError
            ``UNITS`` with the unit that the numbers probably have.
        """
        issues: list[Issue] = []
        sd = self._sd()
        for unit in USUAL_SD:
            here = np.array(
                [self._table.units[int(k)] == unit for k in self._picks], dtype=np.bool_
            )
            issues += self._judge(unit, self._picks[here], sd[here], path)
        return issues

    def _judge(self, unit: str, picks: np.ndarray, sd: np.ndarray, path: object) -> list[Issue]:
        low, high = USUAL_SD[unit]
        bad = np.asarray(self._table.bad, dtype=bool)[picks]
        # A flat channel says nothing of the unit.
        usable = np.isfinite(sd) & (sd > 0) & ~bad
        if usable.any():
            median = float(np.median(sd[usable]))
            if not low <= median <= high:
                if not self._units_given:
                    raise self._refusal(unit, median, picks[usable], path)
                text = f"median SD {median:.3g} {unit}, usual are {low:.3g} to {high:.3g} {unit}"
                return [Issue("UNITS", str(path), f"{text}; the unit was stated, so kept")]
        issues = []
        flat = [self._table.name[k] for k in picks[np.isfinite(sd) & (sd == 0)]]
        if flat:
            text = f"{len(flat)} channels never change: {_listed(flat)}"
            issues.append(Issue("FLAT_CHANNEL", str(path), text, "bad in preprocessing", "info"))
        outside = np.isfinite(sd) & (sd > 0) & ((sd < low) | (sd > high))
        if outside.any():
            found = [
                f"{self._table.name[k]} {value:.3g}"
                for k, value in zip(picks[outside], sd[outside], strict=True)
            ]
            text = (
                f"SD of {len(found)} channels outside {low:.3g} to {high:.3g} {unit}: "
                f"{_listed(found)}; the others are usual"
            )
            issues.append(Issue("UNITS", str(path), text, "bad channels, or of another unit"))
        return issues

    def _refusal(self, unit: str, median: float, picks: np.ndarray, path: object) -> IngestError:
        low, high = USUAL_SD[unit]
        declared = self._table.declared[picks[0]] or unit
        word = probable_unit(median, unit, declared)
        known = si_unit(declared)
        stored = median / known[1] if known else math.nan
        text = (
            f"median SD {median:.3g} {unit} over {len(picks)} good channels, expected "
            f"{low:.3g} to {high:.3g} {unit}; the header declares {declared} (SD {stored:.3g})"
        )
        if word:
            hint = f"the numbers are probably {word}: set `units: {word}` in ingest.overrides"
        else:
            hint = f"no usual unit fits; `units: {declared}` in ingest.overrides keeps the numbers"
        return IngestError("UNITS", path, text, hint)


def _listed(words: list[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
