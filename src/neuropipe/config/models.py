"""Pydantic models of the configuration: the one source of keys, defaults, units and checks."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from neuropipe.config.channels import EegPreprocess, IeegPreprocess, MegPreprocess
from neuropipe.config.sidecars import ClockConfig, EventTable, StreamTable, TrialTable
from neuropipe.config.strict import Fraction, Positive, StrictModel

__all__ = [
    "CalciumPreprocess",
    "ConnectomeConfig",
    "ExecutionConfig",
    "FmriPreprocess",
    "IngestConfig",
    "InputConfig",
    "Positive",
    "PreprocessConfig",
    "ReportConfig",
    "StrictModel",
    "StudyConfig",
    "UnitSelection",
]

ConnectomeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class LabelConfig(StrictModel):
    """Resolution of neuron names to the canonical list of an atlas."""

    atlas: str = Field(
        "celegans-300", description="Canonical list of neuron names: a shipped atlas, or a file."
    )
    include_can: bool = Field(
        False, description="Add CANL and CANR to the 300 names of the C. elegans list."
    )
    ambiguous: Literal["leave", "resolve"] = Field(
        "leave",
        description="Names with a missing side: leave unlabelled, or resolve when one is free.",
    )


class TimingConfig(StrictModel):
    """How time is written to NWB."""

    force_timestamps: bool = Field(
        False, description="Write explicit timestamps to NWB also for regular series."
    )


class IngestOverride(StrictModel):
    """Keys that hold for one recording only."""

    trim: Literal[0, 1] = Field(
        0, description="Samples that may be cut at the end when lengths differ by so many."
    )
    allow_truncated: bool = Field(
        False, description="Keep the readable part of a truncated file, flagged."
    )
    series: str | None = Field(
        None, description="Which series to read when a file holds several of one kind."
    )
    rate_hz: Positive | None = Field(None, description="Sampling rate the source does not state.")
    units: str | None = Field(
        None, description="Unit of the stored numbers where the source is wrong, such as uV."
    )
    resample: Literal["highest"] | None = Field(
        None, description="Channels of several rates: bring all to the highest."
    )
    sidecars: bool = Field(
        True, description="Apply what lies beside a file in a BIDS data set: tables and JSON."
    )
    space: str | None = Field(
        None, description="Space of electrodes to take where a BIDS data set has several."
    )
    tr_s: Positive | None = Field(
        None, description="Repetition time of fMRI, seconds; wins over header and sidecar."
    )
    repair: Literal["sort"] | None = Field(
        None, description="Sort spike times when their order is the sole fault."
    )
    clock: ClockConfig | None = Field(
        None,
        description="Clock of the device against that of the session; null: the session "
        "begins with the first sample.",
    )
    behavior: dict[str, StreamTable] = Field(
        default_factory=dict, description="Tables of behaviour, by the name of their stream."
    )
    events: EventTable | None = Field(None, description="Table of events.")
    trials: TrialTable | None = Field(None, description="Table of trials.")


class BidsConfig(StrictModel):
    """What lies beside data files in BIDS data sets, for all recordings."""

    sidecars: bool = Field(
        True, description="Apply tables and JSON beside a file; they override its header."
    )
    space: str | None = Field(
        None, description="Space of electrodes to take where there are several; null: the first."
    )


KindName = Literal["chemical", "gap", "functional"]


class ConnectomeConfig(StrictModel):
    """One connectome: a table, or the consensus of several."""

    path: str | None = Field(
        None, description="Table of the connectome, relative to the study folder."
    )
    paths: list[str] = Field(
        default_factory=list,
        description="Several tables in place of `path`: the mean over those that measured a pair.",
    )
    gap_conflict: Literal["mean", "max", "sum", "error"] = Field(
        "mean", description="Weight of a gap junction whose two directions are listed differently."
    )
    kind: KindName | None = Field(
        None, description="What the weights are, for a matrix or a table without column `type`."
    )
    sheets: dict[KindName, str] = Field(
        default_factory=dict, description="Sheets of a spreadsheet: kind -> name of the sheet."
    )
    blank: Literal["zero", "missing"] | None = Field(
        None,
        description="Empty cells of a matrix; null: zero for synapse counts, missing for "
        "functional weights.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> ConnectomeConfig:
        if (self.path is None) == (not self.paths):
            raise ValueError("needs `path: <table>` or `paths: [<table>, ...]`, one of the two")
        if len(set(self.paths)) < len(self.paths):
            raise ValueError("`paths` lists a table twice; write each once")
        return self

    @property
    def tables(self) -> list[str]:
        """All tables, in the order given."""
        return [self.path] if self.path is not None else list(self.paths)


class IngestConfig(StrictModel):
    """How source files become stores."""

    strict: bool = Field(False, description="Turn warnings of ingest into errors.")
    compression: Literal["none", "gzip", "lzf"] = Field(
        "gzip", description="Compression of the NWB file."
    )
    bids: BidsConfig = Field(default_factory=BidsConfig, description="Sidecars of BIDS data sets.")
    timing: TimingConfig = Field(default_factory=TimingConfig, description="Time in NWB files.")
    labels: LabelConfig = Field(default_factory=LabelConfig, description="Neuron names.")
    connectomes: dict[ConnectomeName, ConnectomeConfig] = Field(
        default_factory=dict,
        description="Connectome tables, by the name of their store, such as "
        "`{white: {path: tables/white_1986.csv}}`; `ntf` compares with one (input.connectome).",
    )
    readers: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of a reader for all its recordings, by reader name, such as "
        "`{suite2p: {rate_hz: 30}}`; `neuropipe list suite2p` shows them.",
    )
    overrides: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of one recording, by recording name, such as `{sub-01_eeg: {units: "
        "uV}}`: the keys that `neuropipe list ingest` shows, and those of its reader, which are "
        "laid over `readers` key by key.",
    )


class NeuropilConfig(StrictModel):
    """Neuropil correction ``F - coefficient * Fneu``."""

    coefficient: Fraction | Literal["fit"] = Field(
        0.7, description="Share of the neuropil taken off; `fit`: per roi, by least squares."
    )


class DffConfig(StrictModel):
    """Relative fluorescence change ``(F - F0) / F0``."""

    baseline: Literal["percentile", "F20", "ratio"] = Field(
        "percentile",
        description="F0: running percentile, 20th percentile of the trace (F20), "
        "or F divided by it (ratio).",
    )
    percentile: Annotated[float, Field(gt=0, lt=100)] = Field(
        8, description="Percentile of the running baseline."
    )
    window_s: Positive = Field(60, description="Window of the running baseline, seconds.")


class SmoothConfig(StrictModel):
    """Smoothing along time."""

    kind: Literal["gaussian", "moving", "exponential"] = Field(description="Kernel.")
    sigma_s: Positive | None = Field(None, description="SD of the gaussian, seconds.")
    window_s: Positive | None = Field(None, description="Width of the moving mean, seconds.")
    tau_s: Positive | None = Field(None, description="Time constant of the exponential, seconds.")
    causal: bool = Field(False, description="Use samples at or before each time only.")

    @model_validator(mode="after")
    def _one_width(self) -> SmoothConfig:
        key = {"gaussian": "sigma_s", "moving": "window_s", "exponential": "tau_s"}[self.kind]
        given = [k for k in ("sigma_s", "window_s", "tau_s") if getattr(self, k) is not None]
        if given != [key]:
            raise ValueError(f"kind {self.kind!r} needs exactly `{key}`, found {given or 'none'}")
        return self


class ResampleConfig(StrictModel):
    """Resampling to a uniform grid on the recording's own span."""

    dt_s: Positive = Field(description="Step of the target grid, seconds.")
    max_gap_steps: Positive = Field(
        3, description="Grid points between samples further apart than this many steps are NaN."
    )
    method: Literal["auto", "linear", "mean", "polyphase"] = Field(
        "auto", description="`auto`: linear when upsampling, overlap mean when downsampling."
    )


class CalciumPreprocess(StrictModel):
    """Steps between the calcium store and an analysis, in this order; null = off."""

    source: Literal["auto", "fluorescence", "dff", "deconvolved"] = Field(
        "auto", description="Series to use; `auto`: dF/F if present or computable."
    )
    neuropil: NeuropilConfig | None = Field(
        default_factory=NeuropilConfig, description="Neuropil correction of raw fluorescence."
    )
    dff: DffConfig | None = Field(default_factory=DffConfig, description="dF/F.")
    max_nan_fraction: Fraction = Field(
        0.05, description="A roi with a longer NaN run (share of the recording) is not ok."
    )
    min_samples: Annotated[int, Field(ge=1)] = Field(
        1, description="Recordings with fewer raw samples are left out of cohorts."
    )
    derivative: Literal["central"] | None = Field(
        None, description="Derivative by central differences on real timestamps; `ntf` needs null."
    )
    smooth: SmoothConfig | None = Field(None, description="Smoothing along time.")
    resample: ResampleConfig | None = Field(None, description="Resampling to a uniform grid.")
    normalise: Literal["zscore", "causal_zscore", "robust"] | None = Field(
        None, description="Scale of each trace over its valid samples."
    )
    burn_in: Annotated[int, Field(ge=1)] = Field(
        30, description="First samples that `causal_zscore` leaves NaN."
    )


class ParcellationConfig(StrictModel):
    """Means over the regions of an atlas."""

    atlas: str = Field(description="Label image, relative to the study folder.")
    names: str | None = Field(
        None,
        description="Table with columns `index` and `name`, and `hemisphere`, `network` where "
        "known; null: the .tsv of the atlas' name beside it, else names by number.",
    )
    min_coverage: Fraction = Field(
        0.5, description="Parcels with a smaller share of their volume in the data are NaN."
    )


class FmriPreprocess(StrictModel):
    """Cleaning of fMRI: all regressions in one model, fitted to the volumes that are kept."""

    confounds: Literal["none", "6p", "24p"] = Field(
        "24p",
        description="Motion regressors: none, the 6 parameters, or with derivatives and squares.",
    )
    csf_wm: bool = Field(True, description="Regress the mean signals of CSF and white matter.")
    detrend: bool = Field(True, description="Regress a linear trend.")
    high_pass_hz: Positive | None = Field(
        0.008, description="Cut-off of the cosine regressors, Hz; null: none."
    )
    fd_threshold_mm: Positive | None = Field(
        0.5, description="Volumes with a larger framewise displacement are censored; null: none."
    )
    standardise: Literal["zscore_sample", "psc", "none"] = Field(
        "zscore_sample",
        description="Scale of each row over the kept volumes: z score, percent change, or none.",
    )
    parcellation: ParcellationConfig | None = Field(
        None, description="Mean signals of an atlas' regions; null: rows as ingested."
    )


class PreprocessConfig(StrictModel):
    """Preprocessing, one block per modality."""

    keep_steps: bool = Field(False, description="Keep each step's result under /proc.")
    write_nwb: bool = Field(False, description="Also write preprocessed/<recording>.nwb.")
    calcium: CalciumPreprocess = Field(
        default_factory=CalciumPreprocess, description="Calcium imaging."
    )
    fmri: FmriPreprocess = Field(default_factory=FmriPreprocess, description="Functional MRI.")
    eeg: EegPreprocess = Field(default_factory=EegPreprocess, description="EEG.")
    meg: MegPreprocess = Field(default_factory=MegPreprocess, description="MEG.")
    ieeg: IeegPreprocess = Field(
        default_factory=IeegPreprocess, description="Intracranial recordings."
    )
    steps: dict[str, dict[str, Any] | None] = Field(
        default_factory=dict,
        description="Steps of installed packages (entry-point group neuropipe.steps), by name.",
    )


class UnitSelection(StrictModel):
    """Which rows (units, rois, channels, parcels) enter an analysis."""

    where: str | None = Field(
        None,
        description="Comparison over per-row coordinates, such as \"neuron_class != 'motor'\".",
    )
    min_rate_hz: Positive | None = Field(None, description="Least mean rate (spikes).")
    min_spikes: Annotated[int, Field(ge=1)] | None = Field(None, description="Least spike count.")


class InputConfig(StrictModel):
    """Keys of ``input:`` common to every analysis; each assembler adds its own.

    Attributes
    ----------
    shared_names : bool
        The rows of a cohort must have names that mean the same in every subject.
    ingested : tuple of str
        Modalities whose ingested store is read and not the preprocessed one; the assembler gets
        their block of ``preprocess`` under their name.
    seeded : bool
        The assembler draws random numbers and takes a ``seed``.
    """

    shared_names: ClassVar[bool] = False
    ingested: ClassVar[tuple[str, ...]] = ()
    seeded: ClassVar[bool] = False

    scope: Literal["recording", "session", "subject", "cohort"] | None = Field(
        None, description="What one job gets; null: the first scope of the analysis."
    )
    recordings: dict[str, str | int | list[str | int]] = Field(
        default_factory=dict,
        description="Rows of the recordings table to use: column -> value or list of values.",
    )
    units: UnitSelection = Field(default_factory=UnitSelection, description="Rows to use.")
    span_s: tuple[float, float] | None = Field(
        None, description="Part of each recording to use, [start, stop] in seconds; null: all."
    )

    @property
    def files(self) -> tuple[str, ...]:
        """Files that the input dataset is made of beside stores, relative to the study folder."""
        return ()

    @property
    def results(self) -> tuple[str, ...]:
        """Labels of other analyses whose results enter the input dataset."""
        return ()


class ExecutionConfig(StrictModel):
    """Keys that never change a result and never cause a rerun."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity written to the logs."
    )
    progress: Literal["auto", "bar", "lines", "off"] = Field(
        "auto", description="Progress display; `auto`: bars on a terminal, else log lines."
    )


class ReportConfig(StrictModel):
    """The HTML page."""

    title: str = Field("", description="Title of the page; empty: the study's name.")
    anonymise_subjects: bool = Field(
        False, description="Show subjects as S1, S2, ... instead of their labels."
    )


class StudyConfig(StrictModel):
    """The whole configuration but the analyses, whose models come from the registry."""

    study: Annotated[str, Field(min_length=1)] = Field(description="Name of the study.")
    recordings: str = Field(
        "config/recordings.tsv", description="Recordings table, relative to the study folder."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Every random number derives from it.")
    preset: str | None = Field(
        None, description="Partial configuration merged under this one; null: none."
    )
    ingest: IngestConfig = Field(default_factory=IngestConfig, description="Source to store.")
    preprocess: PreprocessConfig = Field(
        default_factory=PreprocessConfig, description="Store to preprocessed store."
    )
    analyses: dict[str, Any] = Field(
        default_factory=dict,
        description="Analyses to run, by label; `{}` = all defaults. `neuropipe list NAME` shows "
        "the settings of one.",
    )
    execution: ExecutionConfig = Field(
        default_factory=ExecutionConfig, description="Never changes results."
    )
    report: ReportConfig = Field(default_factory=ReportConfig, description="The HTML page.")
