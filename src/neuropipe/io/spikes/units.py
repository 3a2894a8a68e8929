"""Units and observed time of spikes, stated and never guessed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import ConfigError, IngestError

__all__ = ["ObservedSettings", "times_per_second"]

PER_SECOND = {"s": 1.0, "ms": 1000.0}


class ObservedSettings(StrictModel):
    """When the recording ran, for sources that cannot state it."""

    duration_s: Positive | None = Field(
        None, description="Duration of the recording, counted from the zero of its times."
    )
    observed_s: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None, description="Start and stop of the recording on its clock, in place of `duration_s`."
    )

    def observed(self, duration: float | None = None) -> tuple[float, float] | None:
        """Return start and stop, s; None when neither settings nor `duration` state them.

        Raises
        ------
        ConfigError
            The settings give both, or a stop before the start.
        """
        if self.observed_s is None:
            known = self.duration_s or duration
            return None if known is None else (0.0, known)
        start, stop = self.observed_s
        if self.duration_s is not None or stop <= start:
            raise ConfigError(
                f"observed_s: {self.observed_s} needs a stop after its start, and no `duration_s`"
            )
        return start, stop


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
