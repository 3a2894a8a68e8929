"""Settings of the representational analysis and the object that announces it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from neuropipe.analyses.registry import Analysis, Resources, at_most
from neuropipe.analyses.trsa.settings_check import file_problems, settings_problems
from neuropipe.config.models import Positive, StrictModel
from neuropipe.config.strict import Fraction

__all__ = ["ACCURACY_DRAWS", "ANALYSIS", "NOISE_KINDS", "Settings", "file_word"]

ACCURACY_DRAWS = 200  # resamples behind the standard errors of identification accuracy

NOISE_KINDS = ("precision", "covariance")  # of files among the models that are none

Count = Annotated[int, Field(ge=0)]
Comparator = Literal[
    "cosine", "pearson", "spearman", "kendall_tau_a", "rho_a", "cosine_w", "pearson_w"
]
Threshold = Annotated[float, Field(ge=0)]
Cell = Annotated[list[Threshold], Field(min_length=2, max_length=2)]


class RdmSettings(StrictModel):
    """How dissimilarities are estimated."""

    measure: Literal[
        "auto", "euclidean", "euclidean_root", "correlation", "cosine", "mahalanobis",
        "crossnobis", "poisson_kl", "poisson_cv",
    ] = Field(
        "auto",
        description="Dissimilarity; `auto`: crossnobis with two runs or more, else euclidean "
        "(squared).",
    )  # fmt: skip
    noise: Literal["none", "diag", "shrinkage_diag", "shrinkage_eye", "full"] = Field(
        "shrinkage_diag",
        description="Noise covariance that mahalanobis and crossnobis whiten with: shrunk towards "
        "its diagonal or towards a scaled identity, diagonal, unshrunk (full), or none.",
    )
    noise_window_s: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None,
        description="Seconds after the event between which the noise of movies is estimated; null: "
        "before 0, or everywhere if nothing is.",
    )
    remove_mean: bool = Field(
        False, description="Take each condition's mean over channels away (response amplitude)."
    )
    stabilise: Literal["auto", "sqrt", "none"] = Field(
        "auto",
        description="Square root before squared distances; `auto`: for spike counts and rates.",
    )
    permutations: Count = Field(
        1000,
        description="Permutations of condition labels within runs that test the mean "
        "cross-validated dissimilarity; 0: none.",
    )
    strict: bool = Field(
        False,
        description="Conditions that a subject lacks are an error; else they are left out of all.",
    )

    @field_validator("noise_window_s")
    @classmethod
    def _from_to(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"noise_window_s {value}: the end must come after the start")
        return value


class GeodesicSettings(StrictModel):
    """Graph of near conditions whose shortest paths are the geodesic descriptor."""

    rule: Literal["gt", "p_shortest", "k_nearest", "p_nearest"] = Field(
        "gt",
        description="Edges: below the upper threshold (gt), the share `p` of shortest pairs, or "
        "the `k` (or the share `p`) nearest conditions of either end.",
    )
    l: Threshold = Field(0.0, description="Lower threshold of `gt`.")  # noqa: E741 - the paper's
    u: Threshold = Field(0.3, description="Upper threshold of `gt`.")
    p: Fraction = Field(0.1, description="Share of pairs or of conditions.")
    k: Annotated[int, Field(ge=1)] = Field(5, description="Nearest conditions.")
    rank: bool = Field(True, description="Replace path lengths by their ranks.")
    unconnected: Literal["max", "nan"] = Field(
        "max", description="Unconnected pairs: a little above the largest path, or missing."
    )

    @model_validator(mode="after")
    def _ordered(self) -> GeodesicSettings:
        if self.l > self.u:
            raise ValueError(f"l = {self.l} is above u = {self.u}")
        return self

    @property
    def parameters(self) -> dict[str, float]:
        """The numbers that the rule takes."""
        return {
            "gt": {"lower": self.l, "upper": self.u},
            "p_shortest": {"p": self.p},
            "p_nearest": {"p": self.p},
            "k_nearest": {"k": self.k},
        }[self.rule]


class SmoothSettings(StrictModel):
    """A smooth step in place of two thresholds: 1 / (1 + exp(-slope (d - centre)))."""

    slope: Positive = Field(10.0, description="Steepness.")
    centre: Threshold = Field(0.5, description="Scaled dissimilarity that becomes 0.5.")


class DescriptorSettings(StrictModel):
    """From RDMs to descriptors between geometry and topology."""

    prescale: Literal["rank", "minmax", "none"] = Field(
        "rank", description="Scaling of each RDM before thresholds."
    )
    grid_step: Annotated[float, Field(ge=0.05, le=0.5)] = Field(
        0.05, description="Step of the grid of thresholds."
    )
    cells: list[Cell] = Field(
        [[0.0, 1.0], [0.4, 0.6], [0.0, 0.3], [0.7, 1.0]],
        description="Thresholds [l, u] whose descriptors are kept; the first is the baseline.",
        min_length=1,
    )
    threshold_mode: Literal["quantile", "absolute"] = Field(
        "quantile",
        description="Thresholds are quantiles within each RDM, or values of the scaled "
        "dissimilarity (with `prescale: none` in its unit).",
    )
    smooth: SmoothSettings | None = Field(
        None, description="A descriptor more, by a smooth step; null: none."
    )
    thresholds: Literal["each", "pooled"] = Field(
        "each", description="Quantiles of each time, or of all times of a movie together."
    )
    geodesic: GeodesicSettings = Field(
        default_factory=GeodesicSettings, description="Geodesic descriptor (RGDM)."
    )
    homology: bool = Field(
        False, description="Persistent homology of each RDM: Betti curves and bars."
    )

    long_bar: Fraction = Field(
        0.1, description="Length over which bars of persistent homology are counted."
    )
    homology_distance: Literal["none", "bottleneck", "sliced_wasserstein"] = Field(
        "none",
        description="Distance between the diagrams of persistent homology of all subjects and "
        "regions.",
    )

    @field_validator("cells")
    @classmethod
    def _ordered(cls, value: list[list[float]]) -> list[list[float]]:
        for lower, upper in value:
            if lower > upper:
                raise ValueError(f"cell [{lower}, {upper}]: l is above u")
        return value

    @model_validator(mode="after")
    def _in_range(self) -> DescriptorSettings:
        thresholds = [*(number for cell in self.cells for number in cell)]
        thresholds += [self.geodesic.l, self.geodesic.u]
        if self.threshold_mode == "quantile" and max(thresholds) > 1:
            raise ValueError(
                f"{max(thresholds):g} is no quantile (0 to 1); write `threshold_mode: absolute` "
                "for thresholds that are dissimilarities"
            )
        if self.homology_distance != "none" and not self.homology:
            raise ValueError("homology_distance compares diagrams; write `homology: true` too")
        return self

    @property
    def geodesic_parameters(self) -> dict[str, Any]:
        """The numbers that the rule of the geodesic graph takes."""
        mode = {"mode": self.threshold_mode} if self.geodesic.rule == "gt" else {}
        return self.geodesic.parameters | mode


class ModelSettings(StrictModel):
    """A model of the RDM, from a file or from the input."""

    name: Annotated[str, Field(min_length=1)] = Field(description="Name in results and figures.")
    path: str = Field(
        description="CSV (square, labels in first row and column) or netCDF; relative to the "
        "study folder. Joined by label."
    )
    kind: Literal["fixed", "select", "weighted", "interpolate", "precision", "covariance"] = Field(
        "fixed",
        description="One RDM, or the best, a non-negative mixture, or a point on the line of the "
        "several RDMs of a netCDF file (fitted on held-out subjects and conditions). `precision`, "
        "`covariance`: no model but the noise of channels, joined by their names, that crossnobis "
        "and mahalanobis whiten with instead of an estimate.",
    )


class IdentifySettings(StrictModel):
    """Which region a held-out subject's descriptor comes from."""

    classifier: Literal["nearest_centroid"] | Comparator = Field(
        "nearest_centroid",
        description="Euclidean distance to the mean of the others, or similarity.",
    )
    select: Literal["nested", "none"] = Field(
        "nested", description="Thresholds chosen inside the training subjects, or the map alone."
    )
    noise_levels: list[Annotated[float, Field(ge=0)]] = Field(
        [0.0, 0.1, 0.2, 0.3, 0.4],
        description="Noise added to the RDMs before identification, in SD of all their entries; "
        "[]: none.",
    )


class InferenceSettings(StrictModel):
    """Uncertainty and tests."""

    resample: list[Literal["subject", "condition"]] = Field(
        ["subject", "condition"], description="What is drawn anew.", min_length=1
    )
    bootstrap: Count = Field(1000, description="Resamples; 0: none.")
    permutations: Count = Field(
        1000, description="Permutations of condition labels and changes of sign; 0: none."
    )
    alpha: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="Level of tests.")
    correction: Literal["holm", "fdr", "none"] = Field(
        "holm", description="Correction for several models."
    )
    cluster: Literal["tfce"] | Positive = Field(
        "tfce", description="Clusters in time: threshold-free, or the score that forms them."
    )


class SearchlightSettings(StrictModel):
    """Neighbourhoods of voxels."""

    radius_mm: Positive = Field(8.0, description="Radius, millimetres.")
    nearest: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Channels per neighbourhood instead of a radius."
    )
    surfaces: dict[Literal["left", "right"], str] = Field(
        default_factory=dict,
        description="GIFTI meshes (.surf.gii) of the hemispheres whose vertices the data hold, "
        "relative to the study folder; distances then run along them.",
    )
    min_voxels: Annotated[int, Field(ge=2)] = Field(10, description="Voxels at least.")
    chunk_mb: Positive = Field(256.0, description="Memory of the work arrays, MB.")
    keep_rdms: bool = Field(
        False, description="Keep the RDM of every neighbourhood, beside or without models."
    )
    permutations: Count = Field(
        1000,
        description="Permutations of condition labels that test the mean map of up to four "
        "subjects; 0: none. Five subjects and more are tested by their signs.",
    )


class TimeSettings(StrictModel):
    """Windows of RDM movies."""

    window_s: Positive = Field(0.02, description="Width, seconds.")
    step_s: Positive = Field(0.01, description="Step, seconds.")
    pooling: Literal["mean", "concatenate"] = Field(
        "mean", description="Mean of a window's samples, or all of them as channels."
    )


class Settings(StrictModel):
    """Settings of the representational analysis."""

    rdm: RdmSettings = Field(default_factory=RdmSettings, description="Dissimilarities.")
    descriptor: DescriptorSettings = Field(
        default_factory=DescriptorSettings, description="Geo-topological descriptors."
    )
    categories: dict[str, str] = Field(
        default_factory=dict,
        description="Category of conditions (condition: category), which orders and colours them "
        "in figures.",
    )
    compare: Literal["auto"] | Comparator = Field(
        "auto", description="Comparator; `auto`: cosine_w for squared distances, else pearson."
    )
    models: list[ModelSettings] = Field(
        default_factory=list, description="Models, beside those of the input."
    )
    identify: IdentifySettings = Field(
        default_factory=IdentifySettings, description="Identification of regions."
    )
    inference: InferenceSettings = Field(
        default_factory=InferenceSettings, description="Bootstrap and tests."
    )
    searchlight: SearchlightSettings | None = Field(
        None, description="Maps of model fit; null: none."
    )
    time: TimeSettings | None = Field(
        None, description="Windows of movies; null: every sample of the time axis."
    )

    @property
    def files(self) -> tuple[str, ...]:
        """Files that the stages read beside their input: models and surfaces."""
        surfaces = () if self.searchlight is None else self.searchlight.surfaces.values()
        return tuple(dict.fromkeys([*(model.path for model in self.models), *surfaces]))

    @model_validator(mode="after")
    def _distinct(self) -> Settings:
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"names of models {names} repeat")
        words = [file_word(name).lower() for name in names]
        if len(set(words)) < len(words):
            raise ValueError(
                f"names of models {names} give the same names of files; let them differ by more "
                "than upper and lower case or punctuation"
            )
        if sum(model.kind in NOISE_KINDS for model in self.models) > 1:
            raise ValueError("more than one model is a precision or covariance; give one")
        return self


def file_word(name: str) -> str:
    """Return a name as a part of a file name.

    Examples
    --------
    >>> file_word("face / house")
    'face-house'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "model"


def _resources(settings: Settings, sizes: Mapping[str, float]) -> Resources:
    size = sizes.get("input_mb", 1.0)
    wanted = 2000 + 6 * size
    draws = settings.rdm.permutations + settings.inference.bootstrap
    minutes = 30 + 0.05 * size + (draws + settings.inference.permutations) / 100
    if settings.searchlight is not None:
        wanted += 4 * settings.searchlight.chunk_mb
        minutes += 60 + 0.5 * size * (1 + settings.searchlight.permutations / 1000)
    return Resources(cpus=1, mem_mb=int(min(wanted, 64_000)), minutes=at_most(minutes))


PACKAGE = "neuropipe.analyses.trsa"

ANALYSIS = Analysis(
    name="trsa",
    title="Representational geometry and topology (tRSA)",
    about=(
        "How alike are the responses to different conditions, and which model of likeness "
        "explains that? In every region the dissimilarities of all pairs of conditions (an RDM) "
        "are compared with those of other regions, subjects and models; topological descriptors "
        "keep who is near to whom and leave out exact distances. A cross-validated "
        "dissimilarity of 0 means that two conditions cannot be told apart."
    ),
    scopes=("cohort", "subject"),
    assemble="neuropipe.assemble.conditions:conditions",
    accepts=dict.fromkeys(("fmri", "eeg", "meg", "ieeg", "spikes", "calcium"), "patterns"),
    settings=Settings,
    check=settings_problems,
    check_files=file_problems,
    fit=f"{PACKAGE}.model:fit",
    figures=f"{PACKAGE}.figures:figures",
    figure_slugs=("rdms", "models", "identification", "arrangement"),
    optional_slugs=("movie", "searchlight", "homology"),
    tables=f"{PACKAGE}.summary:tables",
    table_files=("models.csv", "identification.csv"),
    maps=f"{PACKAGE}.map_files:map_files",
    map_pattern="searchlight_*.*",
    methods=f"{PACKAGE}.methods:text",
    summary=f"{PACKAGE}.summary:summary",
    truth=f"{PACKAGE}.figures.truth:compare",
    headline=f"{PACKAGE}.summary:headline",
    metrics=f"{PACKAGE}.summary:metrics",
    stages=("rdm", "summary"),
    subject_stages=("rdm",),
    stage_settings={"rdm": ("rdm", "searchlight", "time", "models", "compare")},
    resources=_resources,
)
