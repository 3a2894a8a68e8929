"""Settings of patterns: the block ``input`` of analyses that compare conditions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from neuropipe.assemble.epochs import check_baseline
from neuropipe.assemble.trial_settings import BinWidth
from neuropipe.config.models import InputConfig
from neuropipe.config.strict import StrictModel

__all__ = ["GlmConfig", "Input"]

BASELINED = ("eeg", "meg", "ieeg")
BEFORE = (None, 0.0)
Baseline = tuple[float | None, float | None]


class GlmConfig(StrictModel):
    """How patterns of fMRI are estimated."""

    estimate: Literal["glm", "window_mean"] = Field(
        "glm",
        description="One model of a run, of which the weights of the conditions are taken, or the "
        "mean of the volumes of each event after a quadratic trend.",
    )
    noise: Literal["ols", "ar1"] = Field(
        "ols", description="Fit of the model: least squares, or prewhitened (ar1)."
    )
    residuals: bool = Field(
        True,
        description="Keep the residuals of the model, from which the noise is estimated; without "
        "them a whole brain takes little space.",
    )
    lag_s: Annotated[float, Field(ge=0)] = Field(
        5.0, description="Delay of the volumes behind their event, seconds (window_mean)."
    )


class Input(InputConfig):
    """Keys of ``input:`` for analyses that get patterns of conditions."""

    ingested: ClassVar[tuple[str, ...]] = ("fmri",)
    seeded: ClassVar[bool] = True

    labels: list[str] = Field(
        default_factory=list, description="Conditions: labels of events, at least one."
    )
    column: str | None = Field(
        None, description="Column of the events that holds the conditions; null: `label`."
    )
    window_s: tuple[float, float] = Field(
        (-0.2, 0.5),
        description="[start, stop] of a trial relative to its event, seconds (all but fMRI).",
    )
    baseline_s: Baseline | Literal["auto"] | None = Field(
        "auto",
        description="[start, stop] whose mean is taken off each row of a trial, seconds; null at "
        "an end: that of the window. `auto`: what lies before the event, in EEG, MEG and "
        "intracranial recordings; null: none.",
    )
    bin_ms: BinWidth = Field(
        20.0, description="Bins of spikes, milliseconds; a text may be a ratio such as 100/3."
    )
    folds: Annotated[int, Field(ge=1)] = Field(
        8,
        description="Groups of trials, drawn at random with every condition spread evenly, that "
        "take the place of runs (all but fMRI).",
    )
    keep_time: bool = Field(
        False,
        description="Keep the time axis of trials; else the mean from the end of the baseline on "
        "(of spikes the rate).",
    )
    glm: GlmConfig = Field(default_factory=GlmConfig, description="Estimation of fMRI patterns.")
    result: str | list[str] | None = Field(
        None,
        description="Label of another analysis of the study (gp_vae, hmm_glm, bicluster), or "
        "several: its latents or states take the place of the rows of the recordings, whose "
        "events tell the conditions; each label is a region.",
    )
    regions: str | None = Field(
        None,
        description="Image of labels in the space of the fMRI data, relative to the study folder, "
        "names in a table `<image>.tsv` beside it; null: one region.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Input:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("`labels` lists a condition twice; write each once")
        baseline = None if self.baseline_s == "auto" else self.baseline_s
        check_baseline(self.window_s, baseline)
        return self

    def baseline_of(self, modality: str) -> Baseline | None:
        """Return the baseline of a modality; None for none."""
        if self.baseline_s != "auto":
            return self.baseline_s
        before = self.window_s[0] < 0 <= self.window_s[1]
        return BEFORE if modality in BASELINED and before else None

    @property
    def results(self) -> tuple[str, ...]:
        """Labels of the analyses whose results take the place of rows."""
        if self.result is None:
            return ()
        return (self.result,) if isinstance(self.result, str) else tuple(self.result)

    @property
    def files(self) -> tuple[str, ...]:
        """Files that the input dataset is made of beside stores."""
        if self.regions is None:
            return ()
        stem = self.regions.removesuffix(".gz").removesuffix(".nii")
        return self.regions, f"{stem}.tsv"
