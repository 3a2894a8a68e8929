"""Units of spike times, stated and never guessed."""

from __future__ import annotations

from neuropipe.errors import IngestError

__all__ = ["times_per_second"]

PER_SECOND = {"s": 1.0, "ms": 1000.0}


def times_per_second(unit: str | None, rate: float | None, where: object) -> float:
    """Return by what spike times are divided to give seconds.

    Parameters
    ----------
    unit : {"s", "ms", "samples"} or None
        Unit of the times; None when nothing states it.
    rate : float or None
        Samples per second.
    where : object
        File and field, for messages.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``: no unit, or times in samples without a rate.
    """
    if not unit:
        text = "neither the settings nor the source state the unit of the spike times"
        hint = "set `time_unit: s` (or ms, samples) of the reader"
        raise IngestError("MISSING_SIDECAR", where, text, hint)
    if unit != "samples":
        return PER_SECOND[unit]
    if rate is None:
        text = "times in samples, but no sample rate"
        raise IngestError("MISSING_SIDECAR", where, text, "set `sample_rate_hz`")
    return float(rate)
