"""A study: configuration, recordings, and what each enabled analysis works on."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field, create_model

from neuropipe.analyses.registry import Analysis, analyses
from neuropipe.config.load import check_model, read_yaml, validate_study, with_preset
from neuropipe.config.models import InputConfig, StudyConfig
from neuropipe.config.recordings import Recording, read_recordings
from neuropipe.errors import ConfigError, NeuropipeError
from neuropipe.seeds import job_seed
from neuropipe.store import layout

__all__ = ["CONFIG_FILE", "Collection", "Run", "Study", "load_study", "section_model", "table_rows"]

CONFIG_FILE = "config/config.yaml"
_LABEL = r"[a-z][a-z0-9_]*"
# Words that are folders or rules of their own and so cannot be labels.
_RESERVED = ("all", "stores", "analyses", "report", "validate", "table")


@dataclass(frozen=True)
class Collection:
    """The recordings that one job gets.

    Attributes
    ----------
    name : str
        The recording's name, ``sub-<l>[_ses-<l>]``, ``sub-<l>`` or ``cohort-<l>``.
    scope : str
        recording, session, subject or cohort.
    recordings : tuple of Recording
        Members, in the order of the table.
    """

    name: str
    scope: str
    recordings: tuple[Recording, ...]


@dataclass(frozen=True)
class Run:
    """One label under ``analyses``: an analysis with its input, settings and collections.

    Attributes
    ----------
    label : str
        Key in the configuration; folder of the results.
    analysis : Analysis
        What runs.
    settings : pydantic.BaseModel
        Resolved settings.
    input : InputConfig
        Resolved ``input:`` block, ``scope`` filled in.
    collections : tuple of Collection
        One job each.
    given : mapping
        The block as the user wrote it (preset included).
    """

    label: str
    analysis: Analysis
    settings: BaseModel
    input: InputConfig
    collections: tuple[Collection, ...]
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def connectome(self) -> str | None:
        """Name of the connectome that enters the input dataset, if its assembler takes one."""
        return getattr(self.input, "connectome", None)


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes
    ----------
    root : Path
        The study folder.
    config : StudyConfig
        Resolved configuration without the analyses.
    recordings : tuple of Recording
        Rows of the recordings table.
    runs : tuple of Run
        Enabled analyses, in the order of the configuration.
    raw : mapping
        The merged configuration as written.
    """

    root: Path
    config: StudyConfig
    recordings: tuple[Recording, ...]
    runs: tuple[Run, ...]
    raw: Mapping[str, Any] = field(default_factory=dict)

    def recording(self, name: str) -> Recording:
        """Return a recording by name, or raise `ConfigError` with the closest name."""
        for recording in self.recordings:
            if recording.name == name:
                return recording
        raise ConfigError(_unknown("recording", name, [r.name for r in self.recordings]))

    def run(self, label: str) -> Run:
        """Return a run by label."""
        for run in self.runs:
            if run.label == label:
                return run
        raise ConfigError(_unknown("analysis", label, [run.label for run in self.runs]))

    def results_for(self, run: Run, collection: Collection) -> list[tuple[str, str]]:
        """Return collection and label of the results that enter the input of a collection."""
        members = {recording.name for recording in collection.recordings}
        return [
            (other.name, label)
            for label in run.input.results
            for other in self.run(label).collections
            if members & {recording.name for recording in other.recordings}
        ]

    def seed(self, collection: str, run: Run) -> int:
        """Return the ``seed`` argument of one job; a renamed label does not change it."""
        return job_seed(self.config.seed, collection, run.analysis.name)


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known) or 'none'}."
    return f"{name}: no such {what} in this study. {hint}"


def section_model(analysis: Analysis) -> type[BaseModel]:
    """Return the model of a label's block: the settings, ``use`` and ``input``."""
    fields: dict[str, Any] = {
        "use": (
            str | None,
            Field(None, description="Analysis to run under this label; null: the label's own."),
        ),
        "input": (
            analysis.input_model,
            Field(analysis.input_model(), description="Which recordings enter, and how."),
        ),
    }
    return create_model(analysis.name, __base__=analysis.settings, **fields)


def _resolve_run(label: str, given: Any, where: str) -> tuple[Run | None, list[str]]:
    import re

    prefix = f"analyses.{label}"
    if not re.fullmatch(_LABEL, label):
        return None, [f"{where}: {prefix}: not a label; lower-case letters, digits and _ only"]
    if label in _RESERVED:
        return None, [f"{where}: {prefix}: the word is reserved for a target; choose another label"]
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        return None, [f"{where}: {prefix}: expected `key: value` lines or {{}}, found {given!r}"]
    name = given.get("use") or label
    if name not in analyses():
        hint = _unknown("analysis", str(name), list(analyses()))
        return None, [f"{where}: {prefix}: {hint.replace(' in this study', ' installed')}"]
    analysis = analyses()[name]
    model, problems = check_model(section_model(analysis), dict(given), prefix)
    if model is None:
        return None, [f"{where}: {text}" for text in problems]
    inputs = cast("InputConfig", getattr(model, "input"))  # noqa: B009 - a dynamic field
    scope = inputs.scope or analysis.scopes[0]
    if scope not in analysis.scopes:
        text = (
            f"{where}: {prefix}.input.scope: {scope!r} is not one of {', '.join(analysis.scopes)}"
        )
        return None, [text]
    faults = _check_where(inputs.units.where, f"{where}: {prefix}")
    if faults:
        return None, faults
    values = {key: getattr(model, key) for key in analysis.settings.model_fields}
    settings = analysis.settings.model_construct(**values)
    inputs = inputs.model_copy(update={"scope": scope})
    return Run(label, analysis, settings, inputs, (), dict(given)), []


def _check_where(where: str | None, prefix: str) -> list[str]:
    from neuropipe.assemble.selection import check_where

    try:
        if where is not None:
            check_where(where)
    except ConfigError as error:
        return [f"{prefix}.{error}"]
    return []


def _matches(recording: Recording, wanted: Mapping[str, Any]) -> bool:
    for column, values in wanted.items():
        allowed = values if isinstance(values, list) else [values]
        if recording.column(column) not in {str(value) for value in allowed}:
            return False
    return True


def _collection_name(recording: Recording, scope: str) -> str:
    session = f"_ses-{recording.session}" if recording.session else ""
    return {
        "recording": recording.name,
        "session": f"sub-{recording.subject}{session}",
        "subject": f"sub-{recording.subject}",
        "cohort": f"cohort-{recording.cohort or 'all'}",
    }[scope]


def _check_selection(run: Run, recordings: Sequence[Recording], prefix: str) -> list[str]:
    problems = []
    columns = {"recording", *Recording.__dataclass_fields__} - {"name", "extra"}
    columns |= {key for recording in recordings for key in recording.extra}
    for column in run.input.recordings:
        if column not in columns:
            problems.append(f"{prefix}.{column}: " + _unknown("column", column, sorted(columns)))
    wanted = run.input.recordings.get("modality", [])
    for modality in wanted if isinstance(wanted, list) else [wanted]:
        if modality not in run.analysis.accepts:
            accepted = ", ".join(run.analysis.accepts)
            problems.append(
                f"{prefix}.modality: {run.analysis.name} does not take {modality!r} recordings; "
                f"it takes {accepted}"
            )
    return problems


def _check_names(modality: str, prefix: str) -> list[str]:
    """Refuse a cohort of rows that have no names that mean the same in every subject."""
    from neuropipe.assemble.rows import UNNAMED, refuse_unnamed

    try:
        if modality in UNNAMED:
            refuse_unnamed(modality, "")
    except ConfigError as error:
        return [f"{prefix}.{error}"]
    return []


def _with_collections(
    run: Run, recordings: Sequence[Recording], where: str
) -> tuple[Run, list[str]]:
    prefix = f"{where}: analyses.{run.label}.input.recordings"
    problems = _check_selection(run, recordings, prefix)
    scope = cast("str", run.input.scope)
    members: dict[str, list[Recording]] = {}
    for recording in recordings:
        accepted = recording.modality in run.analysis.accepts and not recording.exclude
        if accepted and _matches(recording, run.input.recordings):
            members.setdefault(_collection_name(recording, scope), []).append(recording)
    for name, group in members.items():
        modalities = sorted({recording.modality for recording in group})
        if scope == "cohort" and len(modalities) > 1:
            problems.append(
                f"{prefix}: {name} has members of {' and '.join(modalities)}; "
                f"choose one, such as recordings: {{modality: {modalities[0]}}}"
            )
        elif scope == "cohort" and run.input.shared_names:
            problems += _check_names(modalities[0], f"{where}: analyses.{run.label}")
    if members:
        entering = sorted({r.modality for group in members.values() for r in group})
        own = run.analysis.check(run.settings, run.input, entering)
        problems += [f"{where}: analyses.{run.label}.{text}" for text in own]
    collections = tuple(Collection(name, scope, tuple(group)) for name, group in members.items())
    values = {key: getattr(run, key) for key in ("label", "analysis", "settings", "input", "given")}
    return Run(**values, collections=collections), problems


def table_rows(run: Run) -> list[dict[str, str]]:
    """Return one row of identifiers per collection, for ``table.tsv``."""
    rows = []
    for collection in run.collections:
        first = collection.recordings[0]
        modalities = sorted({recording.modality for recording in collection.recordings})
        alone = collection.scope != "cohort"
        rows.append(
            {
                "collection": collection.name,
                "subject": first.subject if alone else "",
                "session": first.session if collection.scope in ("recording", "session") else "",
                "cohort": first.cohort or "all",
                "modality": "+".join(modalities),
                "result": layout.result_file(collection.name, run.label),
            }
        )
    return rows


def load_study(
    root: Path | str = ".",
    raw: Mapping[str, Any] | None = None,
    where: str = CONFIG_FILE,
) -> Study:
    """Read and check a study.

    Parameters
    ----------
    root : Path or str
        The study folder.
    raw : mapping, optional
        A merged configuration (as Snakemake hands it over); read from `where` when absent.
    where : str
        Name of the configuration file, for the messages.

    Returns
    -------
    Study
        With every default filled in.

    Raises
    ------
    ConfigError
        Naming every problem at once: file, key, value found, remedy.
    MissingInput
        If the configuration or the recordings table does not exist.
    """
    root = Path(root)
    raw = with_preset(read_yaml(root / where) if raw is None else raw, where)
    config, problems = validate_study(raw, where)
    runs: list[Run] = []
    blocks = raw.get("analyses")
    for label, given in (blocks if isinstance(blocks, Mapping) else {}).items():
        run, faults = _resolve_run(str(label), given, where)
        problems += faults
        runs += [run] if run else []
    recordings: tuple[Recording, ...] = ()
    try:
        table = config.recordings if config else str(raw.get("recordings", "config/recordings.tsv"))
        recordings = read_recordings(root / table)
    except NeuropipeError as error:
        if not problems:
            raise
        problems.append(str(error))
    resolved = []
    for run in runs:
        run, faults = _with_collections(run, recordings, where)
        problems += faults if recordings else []
        resolved.append(run)
    if config is not None:
        problems += _check_readers(config, recordings, where)
        problems += _check_connectomes(config, runs, where)
        problems += _check_results(runs, where)
    if problems or config is None:
        raise ConfigError("\n".join(problems))
    return Study(root, config, recordings, tuple(resolved), raw)


def _check_results(runs: Sequence[Run], where: str) -> list[str]:
    """Check that results that enter an analysis are those of others with courses over time."""
    problems, known = [], {run.label: run for run in runs}
    for run in runs:
        prefix = f"{where}: analyses.{run.label}.input.result"
        for label in run.input.results:
            if label not in known:
                problems.append(f"{prefix}: {_unknown('analysis', label, list(known))}")
            elif not known[label].analysis.series:
                able = ", ".join(name for name, one in analyses().items() if one.series)
                problems.append(
                    f"{prefix}: results of {known[label].analysis.name} hold no latents or states "
                    f"over time; name a label of {able}"
                )
            elif known[label].input.results:
                problems.append(f"{prefix}: {label} takes results itself; name its source")
    return problems


def _check_connectomes(config: StudyConfig, runs: Sequence[Run], where: str) -> list[str]:
    """Check that every connectome that an analysis names is one that is ingested."""
    problems, known = [], list(config.ingest.connectomes)
    for run in runs:
        name = run.connectome
        if name is not None and name not in known:
            text = _unknown("connectome", name, known).replace(
                "in this study", "under ingest.connectomes"
            )
            problems.append(f"{where}: analyses.{run.label}.input.connectome: {text}")
    return problems


def _check_readers(config: StudyConfig, recordings: Sequence[Recording], where: str) -> list[str]:
    """Check names of readers and of overridden recordings; the readers check their own keys."""
    from neuropipe.io.registry import readers

    known, problems = readers(), []
    for name, settings in config.ingest.readers.items():
        if name not in known:
            text = _unknown("reader", name, list(known)).replace(" in this study", " installed")
            problems.append(f"{where}: ingest.readers.{text}")
            continue
        faults = check_model(known[name].settings, settings, f"ingest.readers.{name}")[1]
        problems += [f"{where}: {fault}" for fault in faults]
    names = [recording.name for recording in recordings]
    for name in config.ingest.overrides:
        if names and name not in names:
            problems.append(f"{where}: ingest.overrides.{_unknown('recording', name, names)}")
    for recording in recordings:
        if recording.reader and recording.reader not in known:
            problems.append(
                f"{config.recordings}: {recording.name}: reader: "
                + _unknown("reader", recording.reader, list(known)).replace(
                    " in this study", " installed"
                )
            )
    return problems
