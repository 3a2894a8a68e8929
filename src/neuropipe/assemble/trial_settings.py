"""Settings of trials: the blocks ``input.trials`` and ``input.bin_ms``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from neuropipe.config.models import InputConfig
from neuropipe.config.strict import Positive, StrictModel
from neuropipe.errors import ConfigError
from neuropipe.preprocess.binning import bin_width

__all__ = ["BinWidth", "Modality", "TrialInput", "TrialsConfig", "check_window"]

Modality = Literal["calcium", "spikes", "eeg", "meg", "ieeg", "fmri"]
KEYS = {
    "events": ("labels", "column", "window_s", "events_from"),
    "trials": ("labels", "column", "events_from"),
    "blocks": ("block_s", "overlap_s"),
    "recording": (),
}


def _exact(value: float | str) -> float | str:
    bin_width(value)
    return value


BinWidth = Annotated[Positive | str, AfterValidator(_exact)]


class TrialsConfig(StrictModel):
    """How recordings are cut into trials."""

    by: Literal["recording", "trials", "events", "blocks"] = Field(
        "recording",
        description="One trial per recording, the table of trials, windows around events, or "
        "blocks of equal length.",
    )
    labels: list[str] = Field(
        default_factory=list,
        description="Labels of the events to cut around, or of the trials to use; with `by: "
        "trials` none means all.",
    )
    column: str | None = Field(
        None,
        description="Column of the table of events or trials that holds the labels; null: `label`.",
    )
    window_s: tuple[float, float] | None = Field(
        None,
        description="[start, stop] of a trial relative to its event, seconds (`by: events`).",
    )
    block_s: Positive | None = Field(None, description="Length of a block, s (`by: blocks`).")
    overlap_s: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Time that a block shares with the next, seconds (`by: blocks`)."
    )
    events_from: Modality | None = Field(
        None,
        description="Modality of the recording whose events or trials count, where several of a "
        "session have some.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> TrialsConfig:
        for key in sorted({key for keys in KEYS.values() for key in keys}):
            if getattr(self, key) and key not in KEYS[self.by]:
                users = " or ".join(f"`by: {by}`" for by, keys in KEYS.items() if key in keys)
                raise ValueError(f"`{key}` is for {users}, not for `by: {self.by}`; leave it out")
        if self.by == "events":
            if not self.labels or self.window_s is None:
                raise ValueError(
                    "`by: events` needs `labels: [name, ...]` and `window_s: [start, stop]`"
                )
            check_window(self.window_s, "window_s")
        if self.by == "blocks" and self.block_s is None:
            raise ValueError("`by: blocks` needs `block_s: <seconds>`")
        if self.block_s is not None and self.overlap_s >= self.block_s:
            raise ValueError(
                f"`overlap_s: {self.overlap_s:g}` must be less than `block_s: {self.block_s:g}`"
            )
        return self


def check_window(window_s: tuple[float, float], key: str) -> None:
    """Raise `ConfigError` for a window that ends before it starts."""
    if not window_s[1] > window_s[0]:
        raise ConfigError(f"{key}: {list(window_s)} must end after it starts")


class TrialInput(InputConfig):
    """Keys of ``input:`` common to analyses of trials."""

    bin_ms: BinWidth = Field(
        20.0,
        description="Bins of spikes, milliseconds; a text may be a ratio such as 100/3. Other "
        "recordings keep the rate of their preprocessed store.",
    )
    trials: TrialsConfig = Field(
        default_factory=TrialsConfig, description="Trials to cut recordings into."
    )
    regressors: list[str] = Field(
        default_factory=list,
        description="Variables of behaviour that enter the model of recorded rows linearly, by "
        "name.",
    )

    @model_validator(mode="after")
    def _regressors_once(self) -> TrialInput:
        if len(set(self.regressors)) < len(self.regressors):
            raise ValueError("`regressors` lists a name twice; write each once")
        return self
