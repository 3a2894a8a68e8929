"""Settings of the bi-clustering and the object that announces the analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from neuropipe.analyses.registry import Analysis, Resources, at_most
from neuropipe.config.models import Positive, StrictModel

__all__ = [
    "ANALYSIS",
    "HeldoutSettings",
    "HyperSettings",
    "McmcSettings",
    "ModelSettings",
    "Settings",
]

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]


class HyperSettings(StrictModel):
    """Priors of the strengths of the sticky HDP-HMM, instead of fixed values."""

    rows: tuple[Positive, Positive] = Field(
        (1.0, 0.01), description="Shape and rate of the Gamma prior of alpha_h + kappa."
    )
    shared: tuple[Positive, Positive] = Field(
        (1.0, 0.01), description="Shape and rate of the Gamma prior of gamma_h."
    )
    stay: tuple[Positive, Positive] = Field(
        (10.0, 1.0), description="Both shapes of the Beta prior of kappa / (alpha_h + kappa)."
    )


class ModelSettings(StrictModel):
    """The model and its hyper-parameters."""

    family: Literal["negbin", "poisson"] = Field(
        "negbin", description="Distribution of a bin's count given its rate."
    )
    p: Annotated[int, Field(ge=1, le=10)] = Field(
        2, description="Latent factors per cluster, beside the common log rate."
    )
    coupling: Literal["block"] = Field(
        "block",
        description="Clusters evolve independently given the states. (Full coupling needs labels "
        "that are given: Python only, `BiclusterModel`.)",
    )
    partition: Literal["mfm", "dp"] = Field(
        "mfm", description="Prior of the clusters: mixture of finite mixtures or Dirichlet process."
    )
    rho: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="Number of mixture components ~ Geometric(rho); mfm only."
    )
    gamma: Positive = Field(1.0, description="Dirichlet concentration of mixture weights; mfm.")
    n_states_max: Annotated[int, Field(ge=1, le=50)] = Field(
        10, description="Most states (weak limit of the sticky HDP-HMM)."
    )
    alpha_h: Positive = Field(5.0, description="Concentration of the transition rows.")
    gamma_h: Positive = Field(5.0, description="Concentration of the shared state weights.")
    kappa: Annotated[float, Field(ge=0)] = Field(
        10.0, description="Extra weight on staying; larger makes states last."
    )
    hyperpriors: HyperSettings | None = Field(
        None,
        description="Sample alpha_h, gamma_h and kappa under these priors, beginning at the values "
        "above; not given: keep them.",
    )
    m_d: float | Literal["empirical"] = Field(
        0.0,
        description="Prior mean of the baselines (variance 1); `empirical`: each unit's log mean "
        "count.",
    )
    a_r: Positive = Field(1.0, description="Shape of the prior of the dispersion r.")
    h_r: Positive = Field(0.1, description="Rate of the prior of the dispersion r.")
    q0: Positive = Field(0.01, description="Prior mean of the innovation variance of a latent.")

    @model_validator(mode="after")
    def _starts_inside(self) -> ModelSettings:
        if self.hyperpriors is not None and self.kappa == 0:
            raise ValueError("model.kappa is 0 but hyperpriors let it vary; begin above 0")
        return self


class McmcSettings(StrictModel):
    """How long and how the chains run."""

    warmup: Count = Field(2500, description="Sweeps thrown away at the start.")
    draws: Count = Field(7500, description="Sweeps after the warm-up.")
    thin: Count = Field(5, description="Every thin-th sweep is kept.")
    latent_thin: Count = Field(
        10, description="Trajectories and dynamics are kept at every latent_thin-th kept draw."
    )
    chains: Count = Field(4, description="Chains, each a job of its own.")
    n_inner: Count = Field(
        5, description="Rounds of dynamics, states and transitions within a sweep."
    )
    n_aux: Count = Field(3, description="Empty clusters offered to each neuron.")
    sm_every: NotNegative = Field(5, description="Sweeps between split-merge moves; 0: never.")
    checkpoint_min: Annotated[float, Field(ge=0)] = Field(
        5, description="Minutes between checkpoints of a chain."
    )

    @model_validator(mode="after")
    def _keeps_draws(self) -> McmcSettings:
        if self.draws < 4 * self.thin:
            raise ValueError(
                f"mcmc.draws {self.draws} with thin {self.thin} keeps fewer than 4 draws; "
                "raise `draws` or lower `thin`"
            )
        return self


class HeldoutSettings(StrictModel):
    """Entries that the chains do not see, to measure prediction."""

    fraction: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.1, description="Share of the (unit, bin) entries held out; 0: none."
    )
    block_bins: Count = Field(5, description="Bins of a held-out block.")


class Settings(StrictModel):
    """Settings of the bi-clustering."""

    model: ModelSettings = Field(default_factory=ModelSettings, description="The model.")
    mcmc: McmcSettings = Field(default_factory=McmcSettings, description="The chains.")
    heldout: HeldoutSettings = Field(
        default_factory=HeldoutSettings, description="Held-out entries."
    )
    on_silent: Literal["drop", "keep", "error"] = Field(
        "drop", description="What to do with units without a spike."
    )
    loss: Literal["pear", "vi", "binder"] = Field(
        "pear",
        description="Point partitions: posterior expected adjusted Rand index (pear), variation "
        "of information (vi) or Binder's loss (binder).",
    )


def _scatter(settings: Settings) -> dict[str, list[dict[str, int]]]:
    return {"chain": [{"chain": chain} for chain in range(settings.mcmc.chains)]}


def _resources(settings: Settings, sizes: Mapping[str, float]) -> Resources:
    # Counts come as 8-byte integers: entries = input_mb * 1e6 / 8; 1.2 us of work and 100 bytes of
    # working arrays per entry and sweep.
    entries = sizes.get("input_mb", 1.0) * 1e6 / 8
    sweeps = settings.mcmc.warmup + settings.mcmc.draws
    minutes = at_most(10 + sweeps * entries * 5e-6 / 60)
    return Resources(cpus=1, mem_mb=int(2000 + entries * 2e-4), minutes=minutes)


PACKAGE = "neuropipe.analyses.bicluster"

ANALYSIS = Analysis(
    name="bicluster",
    title="Clusters of neurons and states of time (Bayesian bi-clustering)",
    about=(
        "Which units belong together, and which stretches of time are alike? Units of a cluster "
        "share a trajectory of few dimensions, whose dynamics switch between states; how many "
        "clusters and states there are is estimated too. Several chains of draws show how sure "
        "this is: build on no result whose chains did not converge."
    ),
    scopes=("recording", "session"),
    assemble="neuropipe.assemble.binned:binned",
    accepts={"spikes": "counts"},
    settings=Settings,
    fit=f"{PACKAGE}.model:fit",
    series="time_state",
    figures=f"{PACKAGE}.figures:figures",
    figure_slugs=(
        "counts",
        "coclustering",
        "numbers",
        "trajectories",
        "dynamics",
        "regions",
        "checks",
        "diagnostics",
    ),
    methods=f"{PACKAGE}.methods:text",
    summary=f"{PACKAGE}.report_numbers:summary",
    truth=f"{PACKAGE}.figures.truth:compare",
    courses=f"{PACKAGE}.courses:courses",
    headline=f"{PACKAGE}.report_numbers:headline",
    metrics=f"{PACKAGE}.report_numbers:metrics",
    stages=("chain", "summary"),
    scatter=_scatter,
    checkpointed=("chain",),
    stage_settings={"chain": ("model", "mcmc", "heldout", "on_silent")},
    kernels=("neuropipe.stats.clustering_scores",),
    resources=_resources,
)


def plain(settings: Settings) -> dict[str, Any]:
    """Return the settings that a chain depends on, as plain JSON values."""
    return ANALYSIS.for_stage(settings, "chain")
