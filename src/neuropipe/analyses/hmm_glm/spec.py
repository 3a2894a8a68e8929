"""Settings of the HMM-GLM states and the object that announces the analysis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from neuropipe.analyses.registry import Analysis, Resources, at_most
from neuropipe.config.models import Positive, StrictModel

__all__ = [
    "ANALYSIS",
    "HistorySettings",
    "RegularisationSettings",
    "Settings",
    "StickySettings",
    "recorded_settings",
]

NotNegative = Annotated[float, Field(ge=0)]
StateCount = Annotated[int, Field(ge=1, le=50)]


class HistorySettings(StrictModel):
    """How the past of the senders enters."""

    basis: Literal["exp", "raised_cosine", "lags"] = Field(
        "exp",
        description="Functions of the lag: one exponential (exp), bumps on a logarithmic axis "
        "(raised_cosine), or every lag by itself (lags).",
    )
    bins: Annotated[int, Field(ge=0)] = Field(
        5, description="Length of the history, bins; 0: no coupling, a plain hidden Markov model."
    )
    decay: Positive = Field(1.0, description="Rate of the exponential, per bin.")
    count: Annotated[int, Field(ge=1)] = Field(4, description="Functions of `raised_cosine`.")

    @model_validator(mode="after")
    def _fits(self) -> HistorySettings:
        if self.basis == "raised_cosine" and 0 < self.bins < self.count:
            raise ValueError(
                f"history.count is {self.count}, but the history has {self.bins} bins; "
                "raise `bins` or lower `count`"
            )
        return self


class RegularisationSettings(StrictModel):
    """Penalties beside the prior."""

    ridge: Positive = Field(
        0.01, description="Precision around 0 of weights and regressors; a tenth for biases."
    )
    l1: NotNegative = Field(
        0.0, description="Penalty on the absolute size of weights, in nats; prior `none` only."
    )


class StickySettings(StrictModel):
    """Prior of the transition matrix: Dirichlet(alpha + kappa e_s) on row s."""

    alpha: Annotated[float, Field(ge=1)] = Field(1.0, description="Added to every transition.")
    kappa: NotNegative = Field(0.0, description="Added to staying; larger makes states last.")


class Settings(StrictModel):
    """Settings of the HMM-GLM states."""

    states: StateCount | Annotated[list[StateCount], Field(min_length=1)] = Field(
        default_factory=lambda: [1, 2, 3, 4, 5],
        description="Number of states: an integer (no selection), or a list to choose from by the "
        "likelihood of held-out data.",
    )
    prior: Literal["none", "gaussian", "onehot", "onehot-gumbel"] = Field(
        "onehot",
        description="What states share: nothing (none), the mean of their weights (gaussian), or "
        "the probabilities of connections (onehot: by empirical Bayes; onehot-gumbel: relaxed "
        "classes and stochastic gradients, as first published).",
    )
    family: Literal["auto", "poisson", "negbin", "bernoulli", "gaussian"] = Field(
        "auto", description="Distribution of a bin; `auto`: poisson for counts, else gaussian."
    )
    covariance: Literal["diagonal", "full"] = Field(
        "diagonal",
        description="Noise of the Gaussian family: a variance per unit, or a covariance, in each "
        "state.",
    )
    link: Literal["softplus", "exp", "sigmoid"] = Field(
        "softplus",
        description="Rate of a count as a function of its predictor; `sigmoid`: poisson only.",
    )
    history: HistorySettings = Field(
        default_factory=HistorySettings, description="Coupling through the past."
    )
    bias: Literal["per_state", "shared"] = Field(
        "per_state", description="Base level of a unit: of its own in every state, or common."
    )
    regularisation: RegularisationSettings = Field(
        default_factory=RegularisationSettings, description="Penalties."
    )
    connection_types: Literal["signed", "unsigned"] = Field(
        "signed",
        description="What states share of a connection: presence and sign, or presence alone.",
    )
    dale: bool = Field(
        False,
        description="Give all connections from a sender to other units one sign, in every state.",
    )
    drop_first: Annotated[int, Field(ge=0)] = Field(
        0, description="Bins at the start of a trial that are history only; 0: none."
    )
    sticky: StickySettings = Field(
        default_factory=StickySettings, description="Prior of the transition matrix."
    )
    init: Literal["score", "perturb", "kmeans"] = Field(
        "score",
        description="Starts: clusters of the one-state model's failures (score) or of smoothed "
        "activity (kmeans), or the one-state solution with noise (perturb).",
    )
    restarts: Annotated[int, Field(ge=1)] = Field(4, description="Starts; two are run to the end.")
    max_iter: Annotated[int, Field(ge=1)] = Field(200, description="Iterations at most.")
    tol: Positive = Field(
        1e-6, description="The fit ends when the objective grows by less, relatively."
    )

    cv_folds: Annotated[int, Field(ge=0, le=50)] = Field(
        5,
        description="Folds of held-out trials (or blocks of few long ones) that choose the number "
        "of states; 0: none, the Bayes information criterion chooses. A single number of states "
        "has folds only if this key is given.",
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        0, description="Resamplings of trials for intervals of weights and states; 0: none."
    )

    @field_validator("states")
    @classmethod
    def _listed(cls, value: int | list[int]) -> list[int]:
        found = sorted(value if isinstance(value, list) else [value])
        if len(set(found)) < len(found):
            raise ValueError(f"numbers of states {value} repeat")
        return found

    @field_validator("cv_folds")
    @classmethod
    def _enough_folds(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one fold leaves nothing to fit; use 2 or more, or 0 for none")
        return value

    @property
    def candidates(self) -> tuple[int, ...]:
        """Numbers of states to fit, the smallest first."""
        return tuple(self.states) if isinstance(self.states, list) else (self.states,)

    @model_validator(mode="after")
    def _no_folds_for_one_candidate(self) -> Settings:
        # A validator of mode "before" would turn JSON into lists, which strict tuples refuse.
        if "cv_folds" not in self.model_fields_set and len(self.candidates) == 1:
            object.__setattr__(self, "cv_folds", 0)
        return self

    @model_validator(mode="after")
    def _agrees(self) -> Settings:
        if self.dale and self.connection_types == "unsigned":
            raise ValueError("dale gives connections a sign; set connection_types: signed")
        if self.regularisation.l1 > 0 and self.prior != "none":
            raise ValueError(
                f"regularisation.l1 is {self.regularisation.l1:g}, but the prior is "
                f"{self.prior}; set prior: none, or l1: 0"
            )
        if self.covariance == "full" and self.regularisation.l1 > 0:
            raise ValueError("regularisation.l1 needs covariance: diagonal")
        if self.covariance == "full" and self.prior == "onehot-gumbel":
            raise ValueError("prior: onehot-gumbel needs covariance: diagonal; or use onehot")
        if self.prior == "onehot-gumbel" and (self.dale or self.connection_types != "signed"):
            raise ValueError(
                "prior: onehot-gumbel has signed connections without dale; or use onehot"
            )
        if self.family == "negbin" and self.link == "sigmoid":
            raise ValueError("link: sigmoid is of family poisson; negbin needs softplus or exp")
        return self


def recorded_settings(text: str) -> Settings:
    """Return the settings in the attribute ``settings`` of a result, in memory or of a file."""
    values = json.loads(text)
    return Settings.model_validate(values.get("settings", values))


def _scatter(settings: Settings) -> dict[str, list[dict[str, int]]]:
    return {"fit": [{"states": count} for count in settings.candidates]}


# Seconds of an iteration per entry of the counts and state, three times what was measured.
ITERATION_S = 3e-7


def _resources(settings: Settings, sizes: Mapping[str, float]) -> Resources:
    # Counts shrink well on disk, to half a byte and less; the design and the working copies of a
    # fit are some hundred times larger.
    size = sizes.get("input_mb", 1.0)
    iterations = 10 * settings.restarts + 2 * min(settings.max_iter, 100)
    seconds = 2e6 * size * max(settings.candidates) * ITERATION_S * iterations
    minutes = 30 + seconds * (settings.cv_folds + 1 + 0.3 * settings.bootstrap) / 60
    return Resources(cpus=2, mem_mb=int(min(2000 + 150 * size, 64_000)), minutes=at_most(minutes))


PACKAGE = "neuropipe.analyses.hmm_glm"
CHOICE_KEYS = {"states", "bootstrap"}  # of the summary alone: they refit nothing

ANALYSIS = Analysis(
    name="hmm_glm",
    title="Discrete states with coupling networks of their own (HMM-GLM)",
    about=(
        "In which discrete states are the recorded rows, and how does their influence on each "
        "other change between states? In each state the activity of a row is predicted from the "
        "recent past of all rows (its couplings); which state comes next depends on the present "
        "one alone. Couplings say what predicts what, which is no proof of a connection."
    ),
    scopes=("recording", "session"),
    assemble="neuropipe.assemble.trials:trials",
    accepts={
        "spikes": "counts",
        **dict.fromkeys(("calcium", "eeg", "meg", "ieeg", "fmri"), "activity"),
    },
    settings=Settings,
    fit=f"{PACKAGE}.model:fit",
    series="state_probability",
    figures=f"{PACKAGE}.figures:figures",
    figure_slugs=(
        "states", "weights", "transitions", "dwell", "selection", "restarts", "rates", "goodness",
        "differences",
    ),
    methods=f"{PACKAGE}.methods:text",
    summary=f"{PACKAGE}.summary:summary",
    truth=f"{PACKAGE}.figures.truth:compare",
    courses=f"{PACKAGE}.courses:courses",
    headline=f"{PACKAGE}.summary:headline",
    metrics=f"{PACKAGE}.summary:metrics",
    stages=("fit", "summary"),
    scatter=_scatter,
    checkpointed=("fit",),
    stage_settings={
        "fit": tuple(key for key in Settings.model_fields if key not in CHOICE_KEYS)
    },
    resources=_resources,
)  # fmt: skip
