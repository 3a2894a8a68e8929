"""The `Analysis` object and the discovery of analyses through entry points."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from neuropipe.errors import ConfigError

__all__ = ["Analysis", "Resources", "analyses", "at_most", "get_analysis", "load_object"]

GROUP = "neuropipe.analyses"
LONGEST_MIN = 2880


@dataclass(frozen=True)
class Resources:
    """What one job asks of the machine.

    Attributes
    ----------
    cpus : int
        Threads.
    mem_mb : int
        Memory in MB at the first attempt.
    minutes : int
        Wall time at the first attempt.
    gpu : int
        GPUs; declared to the scheduler only when not 0.
    """

    cpus: int = 1
    mem_mb: int = 2000
    minutes: int = 30
    gpu: int = 0


def at_most(minutes: float) -> int:
    """Return whole minutes, two days at most: longer jobs resume from their checkpoints."""
    return min(math.ceil(minutes), LONGEST_MIN)


def _no_scatter(settings: Any) -> dict[str, list[dict[str, int]]]:
    return {}


def _no_problems(settings: Any, inputs: Any, other: Any) -> list[str]:
    return []


@dataclass(frozen=True)
class Analysis:
    """Everything that the rest of neuropipe needs to know of one analysis.

    References to code are strings ``"module:object"``, so that listing analyses imports no
    numerical library.

    Attributes
    ----------
    name : str
        Config key, rule prefix, folder and report anchor.
    title : str
        Heading in the report.
    about : str
        What the analysis asks and how its answer is to be read, in a few plain sentences.
    scopes : tuple of str
        What one job may get, out of recording, session, subject, cohort; the first is the default.
    assemble : str
        ``stores -> input dataset``; the module also holds the model ``Input`` of the ``input:``
        block.
    accepts : mapping
        Modality -> variable of the input dataset.
    settings : type
        Pydantic model of the settings.
    fit : str
        ``fit(data, settings, seed) -> Dataset``; the chain of all stages in one process.
    figures : str
        ``figures(result) -> {slug: Figure}``; each figure carries title, caption and table.
    figure_slugs : tuple of str
        The slugs that ``figures`` returns, in report order.
    optional_slugs : tuple of str
        Slugs of figures that exist only if the result has what they show. They follow the others
        and are no outputs of the rule, which are the same for every study.
    tables : str
        ``tables(result) -> {file name: pandas.DataFrame}`` beside ``summary.tsv``; "" if none.
    table_files : tuple of str
        The names that ``tables`` returns, ``.csv`` or ``.tsv``.
    maps : str
        ``maps(result) -> {file name: bytes}``, images for other programs beside ``summary.tsv``;
        which there are depends on the result, so that they are no outputs of the rule. "" if none.
    map_pattern : str
        Names of such files as a pattern of the shell; those of an earlier result are removed.
    methods : str
        ``text(settings, result) -> str``, the methods paragraph with references.
    summary : str
        ``summary(result) -> pandas.DataFrame``, the tidy table ``summary.tsv``.
    headline : str
        ``headline(result) -> str``, one claim-free sentence with numbers.
    metrics : str
        ``metrics(result) -> list of dict`` with ``metric value unit low high n``.
    truth : str
        ``compare(result, truth) -> plotting.truth.Comparison``; called where the study holds what a
        simulator planted (``truth/<collection>/<label>.nc``, as the ``simulate`` of the analysis
        returns it). "" if the analysis knows no truth.
    courses : str
        ``courses(result, subject) -> list of plotting.courses.Course``: states or trajectories on
        the clock of the session, which the report draws with those of other analyses; "" if none.
    check : callable
        ``(settings, inputs, modalities) -> messages``: what the stages would refuse whatever the
        recordings hold; each message begins with a key of the label's block.
    series : str
        Variable of the result with rows along ``time`` (or ``trial, time``), such as latents or
        states, that other analyses may take in place of recordings; "" if none.
    check_files : callable
        ``(settings, inputs, root) -> messages``: the same for what the files hold that settings
        name, as far as their heads tell; files that are not there are told elsewhere.
    stages : tuple of str
        Stages in order, each a function of the package's module ``stages``; () means one job.
    scatter : callable
        ``settings -> {stage: [{key: integer}, ...]}`` for stages that run once per key. A stage
        mapped to an empty list does not run.
    subject_stages : tuple of str
        Stages that run once per subject of the collection, with the key ``subject``; called
        without it they work on all subjects.
    part_suffix : mapping
        Stage -> file suffix of its part, ``.nc`` unless given.
    checkpointed : tuple of str
        Stages that take ``checkpoint``, a folder beside the parts from which a killed job resumes;
        it is removed when the part is written.
    stage_settings : mapping
        Stage -> settings keys that it uses; absent stages use all. A changed key reruns the
        stages that use it, and those after.
    kernels : tuple of str
        Modules outside the analysis' package whose code also counts for its fingerprint.
    resources : callable
        ``(settings, sizes) -> Resources``; ``sizes`` holds ``input_mb``, the size of the input
        dataset, once that exists. Memory and time grow with it, and with the settings that cost.
    """

    name: str
    title: str
    scopes: tuple[str, ...]
    assemble: str
    accepts: Mapping[str, str]
    settings: type[BaseModel]
    fit: str
    figures: str
    figure_slugs: tuple[str, ...]
    methods: str
    summary: str
    headline: str
    metrics: str
    about: str = ""
    optional_slugs: tuple[str, ...] = ()
    tables: str = ""
    table_files: tuple[str, ...] = ()
    truth: str = ""
    courses: str = ""
    maps: str = ""
    map_pattern: str = ""
    series: str = ""
    check_files: Callable[[Any, Any, Path], list[str]] = _no_problems
    check: Callable[[Any, Any, Sequence[str]], list[str]] = _no_problems
    stages: tuple[str, ...] = ()
    scatter: Callable[[Any], dict[str, list[dict[str, int]]]] = _no_scatter
    subject_stages: tuple[str, ...] = ()
    part_suffix: Mapping[str, str] = field(default_factory=dict)
    checkpointed: tuple[str, ...] = ()
    stage_settings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kernels: tuple[str, ...] = ()
    resources: Callable[[Any, Mapping[str, float]], Resources] = lambda settings, sizes: Resources()

    @property
    def package(self) -> str:
        """Package that holds the analysis' code."""
        return self.fit.partition(":")[0].rpartition(".")[0]

    @property
    def code_modules(self) -> tuple[str, ...]:
        """Packages and modules whose code decides the result."""
        return (self.package, *self.kernels)

    @property
    def input_model(self) -> type[BaseModel]:
        """Model of the ``input:`` block: ``Input`` of the assembler's module."""
        module = self.assemble.partition(":")[0]
        return load_object(f"{module}:Input")

    def for_stage(self, settings: BaseModel, stage: str) -> dict[str, Any]:
        """Return the part of the settings that a stage uses, as plain JSON values."""
        values = settings.model_dump(mode="json")
        keys = self.stage_settings.get(stage)
        return values if keys is None else {key: values[key] for key in keys}


def load_object(reference: str) -> Any:
    """Import ``"module:object"``."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def analyses() -> dict[str, Analysis]:
    """Return every installed analysis by name, in name order.

    Raises
    ------
    ConfigError
        If two packages offer the same name, or an entry point does not hold an `Analysis`.
    """
    found: dict[str, Analysis] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        analysis = entry.load()
        if not isinstance(analysis, Analysis):
            raise ConfigError(
                f"entry point {entry.name!r} of {GROUP}: {entry.value} is no Analysis"
            )
        if analysis.name in found:
            raise ConfigError(f"two installed packages offer the analysis {analysis.name!r}")
        found[analysis.name] = analysis
    return found


def get_analysis(name: str) -> Analysis:
    """Return one analysis, or raise `ConfigError` with the closest name."""
    import difflib

    known = analyses()
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known) or 'none'}."
    raise ConfigError(f"{name}: no such analysis. {hint}")
