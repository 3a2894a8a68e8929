"""Settings of the HMM-GLM states."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from neuropipe.config.models import Positive, StrictModel

__all__ = ["HistorySettings", "RegularisationSettings", "Settings", "StickySettings"]

NotNegative = Annotated[float, Field(ge=0)]


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

    states: Annotated[int, Field(ge=1, le=50)] = Field(5, description="Number of states.")
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
