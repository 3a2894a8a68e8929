"""Settings of the NTF connectomes and the object that announces the analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from neuropipe.analyses.registry import Analysis, Resources, at_most
from neuropipe.config.models import Positive, StrictModel

__all__ = ["ANALYSIS", "SHIFT_DRAWS", "AffinitySettings", "CommunitySettings", "Settings"]

SHIFT_DRAWS = 100  # data sets of shifted traces that communities are tested against

Rank = Annotated[int, Field(ge=1, le=50)]
Count = Annotated[int, Field(ge=1)]


class AffinitySettings(StrictModel):
    """How strongly two neurons co-fluctuate at each moment."""

    mode: Literal["excess", "differential", "abs_corr", "abs_dcorr"] = Field(
        "excess",
        description="Affinity: co-fluctuation of derivatives above their activity levels (excess), "
        "their similarity over intervals of constant sign (differential), or windowed |Pearson| "
        "of traces (abs_corr) or derivatives (abs_dcorr).",
    )
    deriv_window_s: Positive = Field(
        2.5, description="Window of the Savitzky-Golay derivative, seconds; at least 5 frames."
    )
    scale_quantile: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95, description="Quantile of the absolute derivative that becomes 1, per neuron."
    )
    window_s: Positive = Field(
        15, description="Window of the moving statistics (all modes but differential), seconds."
    )
    bin_s: Positive = Field(1, description="Width of a time bin of the tensor, seconds.")
    max_gap_s: Annotated[float, Field(ge=0)] = Field(
        1, description="Longest gap of a trace that is interpolated, seconds."
    )


class CommunitySettings(StrictModel):
    """Communities of each component's graph."""

    backend: Literal["wsbm", "leiden", "spectral", "graph_tool"] = Field(
        "wsbm",
        description="Method: dense weighted stochastic block model (wsbm), modularity (leiden, "
        "extra `graph`), spectral clustering, or nested block model (graph_tool, conda only).",
    )
    weights: Literal["exponential", "normal"] = Field(
        "exponential", description="Distribution of the weights of a block pair."
    )
    resolution: Positive = Field(
        1.0, description="Resolution of `leiden`; larger finds smaller communities."
    )
    k_max: Annotated[int, Field(ge=2)] = Field(
        10, description="Blocks the search starts from (wsbm), or most clusters (spectral)."
    )
    restarts: Count = Field(4, description="Starts of the search.")
    min_size: Annotated[int, Field(ge=2)] = Field(
        3, description="Neurons that a community has at least."
    )
    null_draws: Count = Field(200, description="Null graphs per component.")
    samples: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Partitions drawn from the posterior of the block model, for the probability "
        "that two neurons belong together; 0: none.",
    )


class Settings(StrictModel):
    """Settings of the NTF connectomes."""

    affinity: AffinitySettings = Field(
        default_factory=AffinitySettings, description="Stage 1: affinity of pairs of neurons."
    )
    rank: Literal["auto"] | Rank | Annotated[list[Rank], Field(min_length=1)] = Field(
        "auto",
        description="Number of components: an integer (no selection), a list to choose from, or "
        "`auto` for 1 to `max_rank`, chosen by the error on held-out pairs.",
    )
    max_rank: Rank = Field(12, description="Largest rank that `auto` tries.")
    cv_folds: Annotated[int, Field(ge=2, le=10)] = Field(
        4, description="Folds of the rank selection, each holding out 10 % of the fibres."
    )
    restarts: Count = Field(8, description="Random starts of the factorisation.")
    max_iter: Annotated[int, Field(ge=2)] = Field(300, description="Iterations at most.")
    inner: Count = Field(3, description="Coordinate sweeps per mode and iteration.")
    tol: Positive = Field(
        1e-5, description="The fit ends when the relative error changes by less than this."
    )
    ridge: Annotated[float, Field(ge=0)] = Field(
        0.01, description="Penalty on pair factors, relative; used only when data are missing."
    )
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        0, description="Resamplings of animals for intervals of the factors; 0: none."
    )
    communities: CommunitySettings = Field(
        default_factory=CommunitySettings, description="Stage 3: communities of each component."
    )
    significance: Literal["none", "permute", "circular_shift"] = Field(
        "permute",
        description="Null graphs of the communities: permuted pair weights (fast; independent "
        "neurons of unequal activity pass for communities), traces shifted in time (slow; tests "
        "for interaction), or no test.",
    )
    max_memory_gb: Literal["auto"] | Positive = Field(
        "auto",
        description="The tensor goes to a temporary file above this many GB; `auto`: 0.6 of the "
        "memory available.",
    )

    @field_validator("rank")
    @classmethod
    def _distinct(cls, value: Any) -> Any:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError(f"ranks {value} repeat")
        return value

    @property
    def candidate_ranks(self) -> tuple[int, ...]:
        """Ranks among which to choose; empty when the rank is given."""
        if isinstance(self.rank, int):
            return ()
        return tuple(range(1, self.max_rank + 1) if self.rank == "auto" else sorted(self.rank))


def _scatter(settings: Settings) -> dict[str, list[dict[str, int]]]:
    return {"rank": [{"rank": rank} for rank in settings.candidate_ranks]}


# Seconds of an iteration per cell of the tensor and component, three times what was measured.
ITERATION_S = 4e-10


def _resources(settings: Settings, sizes: Mapping[str, float]) -> Resources:
    # The tensor is about (neurons / frames per bin / 4) times the input; 80 covers 300 neurons
    # at 4 frames per bin and the working copies of a fit.
    size = sizes.get("input_mb", 1.0)
    wanted = 2000 + 80 * size
    if settings.max_memory_gb != "auto":
        wanted = min(wanted, 2000 + 4000 * settings.max_memory_gb)
    runs = settings.restarts + 3 * settings.cv_folds + settings.bootstrap
    largest = max(settings.candidate_ranks, default=settings.rank)
    minutes = 30 + 1e7 * size * largest * ITERATION_S * settings.max_iter * runs / 60
    if settings.significance == "circular_shift":
        minutes += 180 + 10 * size
    return Resources(cpus=1, mem_mb=int(min(wanted, 64_000)), minutes=at_most(minutes))


FIT_KEYS = ("max_iter", "inner", "tol", "ridge", "max_memory_gb")
PACKAGE = "neuropipe.analyses.ntf"

ANALYSIS = Analysis(
    name="ntf",
    title="Dynamic functional connectomes (NTF)",
    about=(
        "Which neurons act together, when, and in which animals? The affinity of every pair of "
        "neurons in sliding windows is written as a sum of a few components: a weight per pair "
        "(a graph), a time course, and a strength per animal. Communities of the graph are the "
        "groups that act together. Affinity is shared variation of activity, not a synapse."
    ),
    scopes=("cohort", "recording"),
    assemble="neuropipe.assemble.cohort:cohort",
    accepts=dict.fromkeys(("calcium", "spikes", "fmri", "eeg", "meg", "ieeg"), "activity"),
    settings=Settings,
    fit=f"{PACKAGE}.model:fit",
    figures=f"{PACKAGE}.figures:figures",
    figure_slugs=("components", "communities", "traces", "rank", "affinity", "activity"),
    optional_slugs=("connectome",),
    tables=f"{PACKAGE}.summary:tables",
    table_files=("motifs.csv",),
    methods=f"{PACKAGE}.methods:text",
    summary=f"{PACKAGE}.summary:summary",
    truth=f"{PACKAGE}.figures.truth:compare",
    courses=f"{PACKAGE}.courses:courses",
    headline=f"{PACKAGE}.summary:headline",
    metrics=f"{PACKAGE}.summary:metrics",
    stages=("affinity", "rank", "fit", "communities"),
    scatter=_scatter,
    part_suffix={"affinity": ".zarr"},
    checkpointed=("rank", "fit"),
    stage_settings={
        "affinity": ("affinity", "max_memory_gb"),
        "rank": ("cv_folds", "restarts", *FIT_KEYS),
        "fit": ("rank", "max_rank", "cv_folds", "restarts", "bootstrap", *FIT_KEYS),
        "communities": ("communities", "significance", "affinity", *FIT_KEYS),
    },
    kernels=("neuropipe.stats.factor_match", "neuropipe.stats.folds"),
    resources=_resources,
)
