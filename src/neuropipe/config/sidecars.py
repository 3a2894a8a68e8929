"""Settings of what lies beside a recording: its clock, behaviour, events and trials."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from neuropipe.config.strict import Fraction, Positive, StrictModel

__all__ = ["ClockConfig", "EventTable", "PulseTimes", "StreamTable", "TimedTable", "TrialTable"]

OWN_FOLDER = "relative to the folder of the source"


class PulseTimes(StrictModel):
    """Where the times of a pulse train lie: in a column of a table, or among events."""

    path: str | None = Field(None, description=f"Table with one row per pulse, {OWN_FOLDER}.")
    column: str | None = Field(None, description="Column of the times; null: by usual names.")
    time_unit: Literal["s", "ms", "us"] | None = Field(
        None, description="Unit of the times, unless the name of the column states it."
    )
    label: str | None = Field(None, description="Label of the events that are the pulses.")
    recording: str | None = Field(
        None, description="Recording whose ingested events are meant; null: this one."
    )

    @model_validator(mode="after")
    def _one_place(self) -> PulseTimes:
        if (self.path is None) == (self.label is None):
            raise ValueError("needs `path: <table>` or `label: <event label>`, one of the two")
        if self.label is None and self.recording is not None:
            raise ValueError("`recording` goes with `label`, the label of its events")
        if self.path is None and (self.column or self.time_unit):
            raise ValueError("`column` and `time_unit` go with `path`; events are in seconds")
        return self


class ClockConfig(StrictModel):
    """How a device clock runs against the session clock, ``t_session = a * t_device + b``.

    Exactly one of: the pair itself; the same pulses on both clocks; the moment that is zero.
    """

    a: Positive | None = Field(None, description="Seconds of the session per device second.")
    b: float | None = Field(None, description="Session time at which the device clock reads 0, s.")
    pulses: PulseTimes | None = Field(None, description="Shared pulses on the device clock.")
    reference: PulseTimes | None = Field(None, description="The same pulses on the session clock.")
    tolerance_ms: Positive = Field(
        10, description="How far two times of one pulse may lie apart after the fit."
    )
    max_drift: Fraction = Field(
        1e-3, description="How much the device clock may run faster or slower, relative."
    )
    session_start: str | None = Field(
        None,
        description="Moment at which the session clock reads 0, ISO 8601 with UTC offset; the "
        "clocks then differ by an offset only.",
    )
    device_zero: str | None = Field(
        None,
        description="With `session_start`: moment at which the device clock reads 0; null: the "
        "start that the source or the recordings table states.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> ClockConfig:
        if (self.pulses is None) != (self.reference is None):
            raise ValueError("`pulses` (device clock) and `reference` (session clock) go together")
        pair = self.a is not None or self.b is not None
        ways = [pair, self.pulses is not None, self.session_start is not None]
        if sum(ways) != 1:
            raise ValueError("needs one of: `a` and `b`; `pulses` and `reference`; `session_start`")
        if self.device_zero is not None and self.session_start is None:
            raise ValueError("`device_zero` goes with `session_start`")
        if self.pulses is not None and self.pulses.recording is not None:
            raise ValueError("`pulses` are those of this device; name a recording in `reference`")
        return self


class TimedTable(StrictModel):
    """What tables of behaviour, events and trials share."""

    path: str = Field(description=f"CSV, TSV or parquet, {OWN_FOLDER}.")
    time_unit: Literal["s", "ms", "us", "samples"] | None = Field(
        None, description="Unit of all times of the table, unless their column names state it."
    )
    clock: ClockConfig | None = Field(
        None, description="Clock of the table; null: the clock of the recording's source."
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_path(cls, given: Any) -> Any:
        """Take a bare path for a table whose columns have the usual names."""
        return {"path": given} if isinstance(given, str) else given


class IndexedTable(TimedTable):
    """A table whose times may be numbers of samples."""

    index_base: Literal[0, 1] | None = Field(
        None, description="Number of the first sample; needed with `time_unit: samples`."
    )
    of: str | None = Field(
        None,
        description="Behaviour stream whose samples are counted; null: those of the recording.",
    )

    @model_validator(mode="after")
    def _stated_samples(self) -> IndexedTable:
        samples = self.time_unit == "samples"
        if samples and self.index_base is None:
            raise ValueError("`time_unit: samples` needs `index_base: 0` or `index_base: 1`")
        if not samples and (self.index_base is not None or self.of is not None):
            raise ValueError("`index_base` and `of` go with `time_unit: samples`")
        if samples and self.clock is not None:
            raise ValueError("samples are on the clock of what is counted; leave out `clock`")
        return self


class StreamTable(TimedTable):
    """One stream of behaviour: variables that share their sample times."""

    time: str | None = Field(None, description="Column of the times; null: by usual names.")
    columns: list[str] | None = Field(None, description="Columns to read; null: all others.")
    units: dict[str, str] = Field(default_factory=dict, description="Column -> unit.")
    categorical: list[str] = Field(
        default_factory=list,
        description="Columns of codes, never interpolated; columns of text are so anyway.",
    )
    min_overlap: Fraction = Field(
        0.9, description="Least share of the recording that the stream covers."
    )

    @model_validator(mode="after")
    def _seconds(self) -> StreamTable:
        if self.time_unit == "samples":
            raise ValueError("behaviour needs times, not numbers of samples")
        return self


class EventTable(IndexedTable):
    """Events beside a recording."""

    onset: str | None = Field(None, description="Column of onsets; null: by usual names.")
    duration: str | None = Field(None, description="Column of durations; null: by usual names.")
    stop: str | None = Field(None, description="Column of ends, in place of durations.")
    label: str | None = Field(None, description="Column of labels; null: by usual names.")
    name: str | None = Field(None, description="Label of all events, where no column holds it.")


class TrialTable(IndexedTable):
    """Trials beside a recording."""

    start: str | None = Field(None, description="Column of starts; null: by usual names.")
    stop: str | None = Field(None, description="Column of ends; null: by usual names.")
    duration: str | None = Field(None, description="Column of durations, in place of ends.")
    times: list[str] = Field(
        default_factory=list,
        description="Other columns that are moments on the same clock, such as a go cue.",
    )
