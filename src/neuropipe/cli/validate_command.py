"""Check a study (configuration, table, files, readers), or a store or NWB file given by path."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.cli.validate_contents import (
    Contents,
    confound_issues,
    contents_of,
    file_issues,
    filter_issues,
    label_issues,
)
from neuropipe.errors import DataError, IngestError, Issue, MissingInput, NeuropipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from neuropipe.config.models import IngestOverride
    from neuropipe.config.recordings import Recording
    from neuropipe.store.series import RecordingHandle
    from neuropipe.study import Study

__all__ = ["add_arguments", "run", "study_issues"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("store", nargs="?", type=Path, help="a .zarr store or an .nwb file")
    parser.add_argument("--directory", default=".", help="study folder")
    parser.add_argument("--profile", help="also compare what jobs ask for with the cluster")


def run(arguments: argparse.Namespace) -> int:
    """Print issues; errors end with exit code 2."""
    if arguments.store is not None:
        issues = _store_issues(arguments.store)
        what = str(arguments.store)
    else:
        from neuropipe.study import load_study

        study = load_study(arguments.directory)
        issues = study_issues(study)
        if arguments.profile:
            issues += _cluster_issues(study, arguments.profile)
        jobs = sum(len(run.collections) for run in study.runs)
        left_out = sum(recording.exclude for recording in study.recordings)
        count = _count(len(study.recordings), "recording")
        count += f" ({left_out} excluded)" * bool(left_out)
        what = f"{study.config.study}: {count}, {_count(jobs, 'analysis job')}"
    print_issues(issues)
    errors = [issue for issue in issues if issue.severity == "error"]
    if errors:
        raise DataError(f"{what}: {len(errors)} of {_count(len(issues), 'issue')} are errors")
    print(f"{what}: valid" + (f", {_count(len(issues), 'issue')}" if issues else ""))
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_issues(issues: Sequence[Issue]) -> None:
    """Print each issue; what several recordings share stands once, with their names."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for issue in issues:
        key = (issue.severity, issue.code, issue.message, issue.hint)
        alike.setdefault(key, []).append(issue.path)
    for (severity, code, message, hint), paths in alike.items():
        tail = message + (f" ({hint})" if hint else "")
        if len(paths) == 1:
            print(f"{severity}: {code}: {paths[0]}: {tail}")
            continue
        print(f"{severity}: {code}: {len(paths)} times: {tail}")
        print("".join(f"  {path}\n" for path in paths), end="")


def _cluster_issues(study: Study, profile: str) -> list[Issue]:
    from neuropipe.cli.slurm import partitions, request_issues, slurm_arguments, uses_slurm
    from neuropipe.cli.snakemake_command import profile_folder
    from neuropipe.plan import make_plan

    folder = profile_folder(profile)
    if not uses_slurm(folder):
        return []
    slurm_arguments(folder)
    return request_issues(make_plan(study), folder, partitions())


def _store_issues(path: Path) -> list[Issue]:
    from neuropipe.store.validate import validate_store

    if not path.exists():
        raise MissingInput(f"{path}: no such store")
    return validate_store(path)


def _source_issues(
    study: Study, recording: Recording, contents: dict[str, Contents]
) -> list[Issue]:
    """Look at the header of one source, and at the settings that will read it.

    What it holds beside signals is put into ``contents``, unless tables elsewhere add events.
    """
    from neuropipe.io.registry import match, reader_settings

    source, where = recording.source(study.root), f"{recording.name}: {recording.path}"
    if not source.exists():
        hint = "correct the column path of the recordings table"
        if (study.root / "config" / "recipe.yaml").is_file():
            hint = f"`neuropipe fetch {study.root}/config --directory {study.root}` downloads it"
        return [Issue("MISSING_FILE", where, "the file does not exist", hint, "error")]
    try:
        reader, _ = match(source, modality=recording.modality, name=recording.reader or None)
        settings, override = reader_settings(reader, study.config.ingest, recording.name)
        table = getattr(settings, "names_table", None)
        if table and not (source.parent / table).is_file():
            text = f"names_table: {table} does not exist in {source.parent}"
            hint = "correct names_table under ingest"
            return [Issue("MISSING_FILE", where, text, hint, "error")]
        handle = reader.open_recording(source, settings, override, recording.modality)
        try:
            _read_tables(handle, source, settings, override)
            found = contents_of(handle, recording.modality)
        finally:
            getattr(handle, "close", lambda: None)()
    except IngestError as error:
        # Remedies stand under `ingest.overrides.<recording>`, so its name is needed.
        at = f"{recording.name}: {error.path.removeprefix(f'{recording.name}: ')}"
        return [Issue(error.code, at, error.message, error.hint, "error")]
    except NeuropipeError as error:
        text = str(error).removeprefix(f"{source}: ")
        return [Issue("SETTINGS", where, text, severity="error")]
    if override.events is None and not recording.exclude:
        contents[recording.name] = found
    # What the reader missed before it knew the settings is settled: it opens.
    if recording.exclude:
        return []
    return confound_issues(study, recording, found) + filter_issues(study, recording, found)


def _read_tables(
    handle: RecordingHandle, source: Path, settings: BaseModel, override: IngestOverride
) -> None:
    """Read the tables beside a recording as ingest does; they are small, samples are not read."""
    from neuropipe.io.behavior.sidecars import Sidecars
    from neuropipe.io.faults import readable

    tables = (override.events, override.trials)
    counted = any(table is not None and table.time_unit == "samples" for table in tables)
    times = None
    if counted or getattr(settings, "names_table", None):
        with readable(source):
            schema = handle.schema()  # it reads the table of names
        times = schema.clock or (schema.raw["time"].values if "time" in schema.raw else None)
    Sidecars(source, override, times)


def _connectome_issues(study: Study) -> list[Issue]:
    """Read the tables of the connectomes, which hold some hundred rows."""
    if not study.config.ingest.connectomes:
        return []
    from neuropipe.io.connectome.ingest import read_connectome

    issues = []
    for name, connectome in study.config.ingest.connectomes.items():
        where = f"ingest.connectomes.{name}"
        tables = [str(study.root / path) for path in connectome.tables]
        absent = [path for path in connectome.tables if not (study.root / path).is_file()]
        for path in absent:
            text, hint = "the file does not exist", "correct the path"
            issues.append(Issue("MISSING_FILE", f"{where}: {path}", text, hint, "error"))
        try:
            if not absent:
                here = {"path": tables[0]} if connectome.path else {"paths": tables}
                read_connectome(connectome.model_copy(update=here), study.config.ingest.labels)
        except IngestError as error:
            issues.append(Issue(error.code, error.path, error.message, error.hint, "error"))
        except NeuropipeError as error:
            issues.append(Issue("SETTINGS", where, str(error), severity="error"))
    return issues


def _column_issues(study: Study) -> list[Issue]:
    """Return columns of the user's own whose names are all but that of a known one."""
    from neuropipe.config.recordings import COLUMNS

    own = sorted({column for recording in study.recordings for column in recording.extra})
    close = {column: difflib.get_close_matches(column.lower(), COLUMNS, 1, 0.8) for column in own}
    return [
        Issue(
            "COLUMN",
            study.config.recordings,
            f"column {column!r} is taken for one of your own",
            f"did you mean {known[0]!r}?",
        )
        for column, known in close.items()
        if known
    ]


def study_issues(study: Study) -> list[Issue]:
    """Return what is wrong with the files of a study: missing sources, no reader, empty inputs.

    These concern single recordings or analyses; the others still run.
    """
    issues = _column_issues(study)
    contents: dict[str, Contents] = {}
    for recording in study.recordings:
        issues += _source_issues(study, recording, contents)
    issues += _connectome_issues(study)
    for run in study.runs:
        if not run.collections:
            text = f"analyses.{run.label}: no recording matches its input"
            hint = (
                f"{run.analysis.name} takes {', '.join(run.analysis.accepts)}; check "
                "input.recordings and the column exclude"
            )
            issues.append(Issue("NO_RECORDINGS", study.config.recordings, text, hint, "warning"))
        issues += file_issues(study, run) + label_issues(study, run, contents)
    return issues
