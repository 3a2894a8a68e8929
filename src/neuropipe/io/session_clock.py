"""The clock of a device against the clock of the session: ``t_session = a t_device + b``.

The pair comes from the settings, from pulses that both clocks saw, or from two moments. Without
settings the session begins with the first sample. Times of the source stay recoverable: the pair
is stored, and `SessionClock.to_device` undoes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError, IngestError, Issue
from neuropipe.io.checks import check_session_start
from neuropipe.io.pulses import PulseMatch, match_pulses

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.sidecars import ClockConfig, PulseTimes

__all__ = ["SessionClock", "event_times", "find_clock"]

RMS_WARNING_S = 2e-3


@dataclass(frozen=True)
class SessionClock:
    """A device clock on the session clock.

    Attributes
    ----------
    scale, offset : float
        ``t_session = scale * t_device + offset``, seconds.
    found_by : str
        ``first sample``, ``settings``, ``pulses`` or ``start``.
    issues : tuple of Issue
        What a reader of the store should know of the fit.
    session_start : str
        Moment at which the session clock reads 0, where the settings state it.
    details : dict
        Numbers of the fit, for the step list of the store.
    """

    scale: float = 1.0
    offset: float = 0.0
    found_by: str = "first sample"
    issues: tuple[Issue, ...] = ()
    session_start: str = ""
    details: tuple[tuple[str, Any], ...] = ()

    def to_session(self, times: Any) -> np.ndarray:
        """Return device times on the session clock, float64 seconds."""
        times = np.asarray(times, dtype=np.float64)
        return (times if self.scale == 1.0 else times * self.scale) + self.offset

    def to_device(self, times: Any) -> np.ndarray:
        """Return session times on the device clock, float64 seconds."""
        times = np.asarray(times, dtype=np.float64) - self.offset
        return times if self.scale == 1.0 else times / self.scale

    def stretch(self, durations: Any) -> np.ndarray:
        """Return durations on the device clock as seconds of the session."""
        durations = np.asarray(durations, dtype=np.float64)
        return durations if self.scale == 1.0 else durations * self.scale

    def step(self) -> dict[str, Any]:
        """Return the entry of the step list of the store."""
        pair = {"a": self.scale, "b": self.offset}
        return {"step": "clock", "by": self.found_by, **pair, **dict(self.details)}


def event_times(events: xr.Dataset | None, label: str, where: object) -> np.ndarray:
    """Return the onsets of the events with a label, sorted.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``: there is no such event; the message lists the labels.
    """
    labels = [] if events is None else [str(text) for text in events["label"].values]
    chosen = np.array([text == label for text in labels], dtype=bool)
    if events is None or not chosen.any():
        known = ", ".join(sorted(set(labels))[:20]) or "none"
        text = f"no event has the label {label!r} of the pulses; labels: {known}"
        raise IngestError("MISSING_SIDECAR", where, text, "correct `label`")
    return np.sort(np.asarray(events["onset"].values, dtype=np.float64)[chosen])


def find_clock(
    config: ClockConfig,
    *,
    where: str,
    pulses: Callable[[PulseTimes], np.ndarray],
    step_s: float,
    stated_start: str = "",
) -> SessionClock:
    """Return the clock that the settings describe.

    Parameters
    ----------
    config : ClockConfig
        The pair, the pulses or the moments.
    where : str
        File, for messages.
    pulses : callable
        Returns the times that a `PulseTimes` names, seconds on its own clock.
    step_s : float
        Seconds between two samples; inf when nothing is sampled.
    stated_start : str
        Moment at which the device clock reads 0, as the source or the table states it.

    Raises
    ------
    IngestError
        ``CLOCK_MISMATCH``: the pulses do not match, or the clocks start days apart;
        ``MISSING_SIDECAR``: a moment is needed that nobody states.
    """
    if config.pulses is not None and config.reference is not None:
        return _by_pulses(config, pulses(config.pulses), pulses(config.reference), where, step_s)
    if config.session_start is not None:
        return _by_start(config, stated_start, where)
    scale = 1.0 if config.a is None else config.a
    if abs(scale - 1) > config.max_drift:
        raise ConfigError(
            f"{where}: clock.a = {scale!r} differs from 1 by more than max_drift "
            f"({config.max_drift:g}); correct it, or allow it with `max_drift`"
        )
    return SessionClock(scale, config.b or 0.0, "settings")


def _by_pulses(
    config: ClockConfig, device: np.ndarray, reference: np.ndarray, where: str, step_s: float
) -> SessionClock:
    try:
        match = match_pulses(
            device, reference, tolerance_s=config.tolerance_ms / 1e3, max_drift=config.max_drift
        )
    except ValueError as error:
        hint = "check both trains, `tolerance_ms` and `max_drift`, or give `a` and `b`"
        raise IngestError("CLOCK_MISMATCH", f"{where}: clock", str(error), hint) from error
    if match.rms > step_s:
        raise IngestError(
            "CLOCK_MISMATCH",
            f"{where}: clock",
            f"the fit of {match.count} pulses leaves {match.rms * 1e3:.3g} ms (RMS), more than "
            f"one sample ({step_s * 1e3:.3g} ms)",
            "are the pulses of both trains the same? a finer source of pulses is needed",
        )
    found = _fit_issues(match, len(device), len(reference), where)
    details = (
        ("matched", match.count),
        ("device_pulses", len(device)),
        ("reference_pulses", len(reference)),
        ("rms_s", match.rms),
    )
    return SessionClock(match.scale, match.offset, "pulses", found, details=details)


def _fit_issues(match: PulseMatch, n: int, m: int, where: str) -> tuple[Issue, ...]:
    path = f"{where}: clock"
    text = (
        f"{match.count} pulses matched, {n - match.count} of the device and {m - match.count} of "
        f"the reference left over; t_session = {match.scale!r} t_device + {match.offset!r} s, "
        f"residual {match.rms * 1e3:.3g} ms (RMS)"
    )
    issues = [Issue("CLOCK_FIT", path, text, "", "info")]
    if match.rms > RMS_WARNING_S:
        text = f"the residual of the pulses is {match.rms * 1e3:.3g} ms (RMS), more than 2 ms"
        issues.append(Issue("CLOCK_RESIDUAL", path, text, "look at the source of the pulses"))
    if match.in_order:
        text = f"the {n} pulses are evenly spaced and were matched in order; nothing proves it"
        issues.append(Issue("CLOCK_EVEN_PULSES", path, text, "pulses at random intervals would"))
    return tuple(issues)


def _by_start(config: ClockConfig, stated: str, where: str) -> SessionClock:
    start = check_session_start(config.session_start or "", f"{where}: clock.session_start")
    zero = check_session_start(config.device_zero or stated, f"{where}: clock.device_zero")
    if not zero:
        text = "neither the source nor the table state when the device clock read 0"
        raise IngestError("MISSING_SIDECAR", f"{where}: clock", text, "set `device_zero`")
    offset = (datetime.fromisoformat(zero) - datetime.fromisoformat(start)).total_seconds()
    details = (("session_start", start), ("device_zero", zero))
    return SessionClock(1.0, offset, "start", session_start=start, details=details)
