"""Settings of the GP-VAE latents and the object that announces the analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from neuropipe.analyses.registry import Analysis, Resources, at_most
from neuropipe.config.models import Positive, StrictModel

__all__ = [
    "ANALYSIS",
    "AUTO_LATENTS",
    "GroupSizes",
    "ModalitySettings",
    "PriorSettings",
    "Settings",
]

AUTO_LATENTS = 8  # one modality, before relevance determination
AUTO_GROUPS = (3, 2)  # several modalities: shared, private of each

Count = Annotated[int, Field(ge=1)]
Latents = Annotated[int, Field(ge=1, le=30)]
Share = Annotated[float, Field(ge=0, lt=1)]


class GroupSizes(StrictModel):
    """Numbers of latents of several modalities."""

    shared: Annotated[int, Field(ge=0, le=30)] = Field(
        1, description="Latents that all modalities see."
    )
    private: Annotated[int, Field(ge=0, le=30)] = Field(
        1, description="Latents of each modality alone."
    )


class ModalitySettings(StrictModel):
    """What is assumed of one modality; `auto` takes the default of its kind."""

    likelihood: Literal["auto", "poisson", "negbin", "gaussian", "bernoulli", "student_t"] = Field(
        "auto",
        description="Observation model: poisson or negbin for counts, gaussian or student_t for "
        "signals, bernoulli for 0 and 1.",
    )
    decoder: Literal["auto", "linear", "mlp"] = Field(
        "auto", description="From latents to the predictor: linear, or a multi-layer network."
    )
    kernel: Literal["auto", "delta", "calcium", "hrf"] = Field(
        "auto",
        description="Filter between latent and signal: none (delta), exponential decay (calcium), "
        "canonical haemodynamic response (hrf).",
    )
    decay_s: Positive = Field(
        0.5, description="Time constant that the fit of a `calcium` kernel starts from, seconds."
    )


class PriorSettings(StrictModel):
    """The Gaussian-process prior."""

    spectrum: Literal["rbf", "matern32", "matern52", "rbf_cos"] = Field(
        "rbf", description="Kernel of the latents; rbf_cos oscillates at `frequency_hz`."
    )
    frequency_hz: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Centre frequency of `rbf_cos`, Hz."
    )
    length_scale_s: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = Field(
        None,
        description="Shortest and longest length scale, seconds; null: two of the finest bins, "
        "and half of the longest trial.",
    )
    pad: Positive = Field(
        4.0, description="Padding of the circle of the Fourier series, in longest length scales."
    )
    cond: Annotated[float, Field(gt=1)] = Field(
        1e8, description="Ratio of spectral densities beyond which frequencies are left out."
    )


LatentCounts = (
    Literal["auto"] | Latents | Annotated[list[Latents], Field(min_length=1)] | GroupSizes
)


class Settings(StrictModel):
    """Settings of the GP-VAE latents."""

    latents: LatentCounts = Field(
        "auto",
        description="Numbers of latents: an integer (one modality), a list to choose from by "
        "co-smoothing of validation trials, sizes of groups `{shared: 1, private: 1}` (several "
        "modalities), or `auto` for relevance determination.",
    )
    modalities: dict[str, ModalitySettings] = Field(
        default_factory=dict, description="Settings of single modalities, by name."
    )
    prior: PriorSettings = Field(
        default_factory=PriorSettings, description="Gaussian-process prior of the latents."
    )
    inference: Literal["auto", "exact", "laplace", "amortized", "svi"] = Field(
        "auto",
        description="Posterior: exact (normal, linear), laplace (linear), amortized (encoders), "
        "svi (free means and factors); auto: the first that fits.",
    )
    split: Annotated[list[Share], Field(min_length=3, max_length=3)] = Field(
        [0.7, 0.1, 0.2], description="Shares of trials for training, validation and test."
    )
    heldout_units: Share = Field(
        0.25, description="Share of units of each modality that co-smoothing predicts."
    )
    restarts: Count = Field(3, description="Starts, ranked by the ELBO of validation trials.")
    batch_trials: Count = Field(20, description="Trials per gradient step.")
    channel_dropout: Share = Field(
        0.2, description="Share of channels hidden from encoders in training."
    )
    modality_dropout: Share = Field(
        0.3, description="Share of trials in which encoders miss one modality in training."
    )
    beta_warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        10, description="Epochs over which the divergence from the prior gets its full weight."
    )
    ard: Literal["auto"] | bool = Field(
        "auto",
        description="Automatic relevance determination of latents; auto: when `latents` is auto.",
    )
    refine: bool = Field(
        True,
        description="After training with encoders: Newton steps for linear modalities and robust "
        "weights for encoders, instead of the encoders alone.",
    )
    max_epochs: Literal["auto"] | Count = Field(
        "auto",
        description="Most iterations of a linear fit, and most epochs of every phase of network "
        "training; auto: 100, and 60 / 15 / 30.",
    )
    max_memory_gb: Literal["auto"] | Positive = Field(
        "auto", description="A fit that needs more is refused, GB; auto: 0.6 of what is available."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks train; auto: a GPU if there is one."
    )

    @field_validator("latents")
    @classmethod
    def _distinct(cls, value: object) -> object:
        if isinstance(value, list) and len(set(value)) < len(value):
            raise ValueError(f"latents {value} repeat")
        if isinstance(value, GroupSizes) and value.shared + value.private < 1:
            raise ValueError("latents: `shared` and `private` are both 0")
        return value

    @field_validator("split")
    @classmethod
    def _whole(cls, value: list[float]) -> list[float]:
        if abs(sum(value) - 1) > 1e-6:
            raise ValueError(f"split {value} does not sum to 1")
        return value

    @property
    def candidates(self) -> tuple[int, ...]:
        """Sizes to fit; the number of latents, or the one key of `auto` and of groups."""
        if isinstance(self.latents, int):
            return (self.latents,)
        if isinstance(self.latents, list):
            return tuple(sorted(self.latents))
        if isinstance(self.latents, GroupSizes):
            return (self.latents.shared + self.latents.private,)
        return (AUTO_LATENTS,)

    @property
    def relevance(self) -> bool:
        """Whether latents are pruned."""
        return self.latents == "auto" if self.ard == "auto" else bool(self.ard)


def _scatter(settings: Settings) -> dict[str, list[dict[str, int]]]:
    return {
        "fit": [
            {"latents": latents, "restart": restart}
            for latents in settings.candidates
            for restart in range(settings.restarts)
        ]
    }


def _resources(settings: Settings, sizes: Mapping[str, float]) -> Resources:
    # Float copies of counts, predictors and variances of one chunk, posteriors of all trials.
    # An iteration takes about 3 us per entry, of which there are 2 million in a MB of counts.
    size = sizes.get("input_mb", 1.0)
    wanted = 2500 + 40 * size
    if settings.max_memory_gb != "auto":
        wanted = min(wanted, 2000 + 1000 * settings.max_memory_gb)
    epochs = 100 if settings.max_epochs == "auto" else settings.max_epochs
    latents = max(settings.candidates) / 3
    minutes = 60 + 3 * 2e6 * size * 3e-6 * epochs * max(latents, 1.0) / 60
    gpu = int(settings.device == "cuda")
    return Resources(cpus=1, mem_mb=int(min(wanted, 64_000)), minutes=at_most(minutes), gpu=gpu)


PACKAGE = "neuropipe.analyses.gp_vae"
FIT_KEYS = tuple(key for key in Settings.model_fields if key != "restarts")

ANALYSIS = Analysis(
    name="gp_vae",
    title="Shared and private latent trajectories (GP-VAE)",
    about=(
        "Which few smooth trajectories explain many rows, and which of them do several "
        "modalities share? Shared latents drive all modalities, private ones a single modality. "
        "Latents are known up to an affine map: compare what they predict and what they span, "
        "not single axes."
    ),
    scopes=("session", "recording"),
    assemble="neuropipe.assemble.multimodal:multimodal",
    accepts={m: m for m in ("spikes", "calcium", "eeg", "meg", "ieeg", "fmri")},
    settings=Settings,
    fit=f"{PACKAGE}.model:fit",
    series="latent_mean",
    figures=f"{PACKAGE}.figures:figures",
    figure_slugs=("latents", "loadings", "prediction", "variance", "scores", "training"),
    optional_slugs=("recording",),
    methods=f"{PACKAGE}.methods:text",
    summary=f"{PACKAGE}.summary:summary",
    truth=f"{PACKAGE}.figures.truth:compare",
    courses=f"{PACKAGE}.courses:courses",
    headline=f"{PACKAGE}.summary:headline",
    metrics=f"{PACKAGE}.summary:metrics",
    stages=("fit", "summary"),
    checkpointed=("fit",),
    scatter=_scatter,
    stage_settings={"fit": FIT_KEYS},
    kernels=(),
    resources=_resources,
)
