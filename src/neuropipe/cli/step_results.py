"""Steps from stores to the report: assemble, the stages, figures, table, report."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from neuropipe import logs
from neuropipe.analyses.registry import Analysis, get_analysis, load_object
from neuropipe.cli.step_stores import checked
from neuropipe.code_sets import assemble_code, figure_code
from neuropipe.errors import ConfigError, NeuropipeError
from neuropipe.store.atomic import atomic_path, write_json, write_text
from neuropipe.store.code import module_fingerprints
from neuropipe.store.file_facts import file_facts
from neuropipe.store.provenance import (
    Stopwatch,
    input_hashes,
    read_dataset,
    read_provenance,
    write_dataset,
    write_provenance,
)

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import InputConfig
    from neuropipe.plotting.figure import ReportFigure

__all__ = ["assemble", "figures", "report", "stage", "table"]

TABLE_COLUMNS = (
    "collection", "subject", "session", "cohort", "modality",
    "metric", "value", "unit", "low", "high", "n", "input_sha256",
)  # fmt: skip


def _log_issues(dataset: xr.Dataset) -> None:
    for issue in json.loads(str(dataset.attrs.get("issues", "[]"))):
        logs.get_logger(__name__).warning("%s %s", issue["code"], issue["message"])


def assemble(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Turn the stores of a collection into the input dataset of an analysis."""
    from neuropipe.store.zarr import open_store

    watch, analysis = Stopwatch(), get_analysis(arguments.name)
    inputs = checked(analysis.input_model, settings.get("input", {}), "input")
    trees = [open_store(Path(path)) for path in arguments.inputs]
    used, further = [Path(path) for path in arguments.inputs], {}
    if arguments.connectome:
        from neuropipe.store.connectome import open_connectome

        used.append(Path(arguments.connectome))
        further["connectome"] = open_connectome(arguments.connectome)
    if inputs.results:
        results, files = _read_results(arguments.results, settings.get("results", {}))
        further["results"] = results
        used += files
    further |= _further(arguments, settings, inputs)
    facts = file_facts(Path(), inputs.files)
    dataset = load_object(analysis.assemble)(trees, inputs, **further)
    _log_issues(dataset)
    write_dataset(
        dataset,
        arguments.output,
        {
            "settings": dict(settings),
            "code": module_fingerprints(assemble_code(analysis)),
            "inputs": input_hashes(
                [path if path.suffix == ".nc" else _marker(path) for path in used]
            ),
            "files": facts,
            "wall_s": watch.wall_s,
            "cpu_s": watch.cpu_s,
        },
    )


def _read_results(
    paths: list[str], named: Mapping[str, Mapping[str, str]]
) -> tuple[list[Any], list[Path]]:
    """Return the results that enter an input dataset, and the files they were read from.

    Parameters
    ----------
    paths : list of str
        ``results/<collection>/<label>/result.nc``; the input of each stands in ``inputs``.
    named : mapping
        Label -> analysis and variable.
    """
    from neuropipe.assemble.result_series import Result
    from neuropipe.store import layout

    found, files = [], []
    for path in map(Path, paths):
        label, collection = path.parent.name, path.parent.parent.name
        if label not in named:
            raise ConfigError(f"--results {path}: {label!r} is not among the settings' `results`")
        source = Path(layout.input_file(collection, label))
        result = read_dataset(path)
        if hasattr(result, "children"):  # a tree: its root holds the summary
            result = result.to_dataset()
        one = named[label]
        found.append(Result(label, one["analysis"], one["series"], result, read_dataset(source)))
        files += [path, source]
    return found, files


def _further(
    arguments: argparse.Namespace, settings: Mapping[str, Any], inputs: InputConfig
) -> dict[str, Any]:
    """Return what an assembler takes beside stores and its settings."""
    from neuropipe.config.models import PreprocessConfig

    found: dict[str, Any] = {}
    if inputs.ingested:
        steps = checked(PreprocessConfig, settings.get("preprocess", {}), "preprocess")
        found |= {modality: getattr(steps, modality) for modality in inputs.ingested}
    if inputs.seeded:
        seed = settings.get("seed", arguments.seed)
        found["seed"] = 0 if seed is None else int(seed)
    return found


def _marker(store: Path) -> Path:
    """Return the completion marker beside a store."""
    beside = store.with_suffix(".json")
    return beside if beside.exists() else store.with_suffix(".report.json")


def _settings_of(analysis: Analysis, settings: Mapping[str, Any]) -> BaseModel:
    values = settings.get("settings", settings if "seed" not in settings else {})
    return checked(analysis.settings, values, "settings")


def _keys(words: list[str]) -> dict[str, int | str]:
    """Return scatter keys: integers, but for the label of a subject."""
    try:
        pairs = [word.split("=") for word in words]
        return {key: value if key == "subject" else int(value) for key, value in pairs}
    except ValueError as error:
        raise ConfigError(
            f"--key {' '.join(words)}: expected NAME=INTEGER or subject=LABEL"
        ) from error


def _load_parts(paths: list[str]) -> dict[str, list[xr.Dataset]]:
    """Return stage -> parts, from ``work/<collection>/<label>/<stage>/<part>``."""
    parts: dict[str, list[xr.Dataset]] = {}
    for path in paths:
        parts.setdefault(Path(path).parent.name, []).append(read_dataset(path))
    return parts


def _compute(
    analysis: Analysis, arguments: argparse.Namespace, settings: Mapping[str, Any]
) -> tuple[xr.Dataset, int]:
    data, seed = read_dataset(arguments.input), settings.get("seed", arguments.seed)
    seed = 0 if seed is None else int(seed)
    model, keys = _settings_of(analysis, settings), _keys(arguments.key)
    name = arguments.name or "fit"
    first = bool(analysis.stages) and name == analysis.stages[0]
    if not analysis.stages or (name == "fit" and not arguments.parts and not first):
        return load_object(analysis.fit)(data, model, seed), seed
    if name not in analysis.stages:
        raise ConfigError(
            f"{analysis.name} has no stage {name!r}; it has {', '.join(analysis.stages)}"
        )
    module = importlib.import_module(f"{analysis.package}.stages")
    parts = _load_parts(arguments.parts)
    if not first and not parts:
        earlier = ", ".join(analysis.stages[: analysis.stages.index(name)])
        raise ConfigError(f"step {analysis.name} {name}: --parts is missing: files of {earlier}")
    further: dict[str, Any] = dict(keys)
    if name in analysis.checkpointed:
        further["checkpoint"] = _checkpoint(arguments)
    return getattr(module, name)(data, model, seed, parts, **further), seed


def _checkpoint(arguments: argparse.Namespace) -> Path:
    """Return ``work/<collection>/<label>/checkpoint/<stage>_<part>`` of a part of a stage."""
    output = Path(arguments.output)
    return output.parent.parent / "checkpoint" / f"{arguments.name}_{output.stem}"


def _spent(output: str, watch: Stopwatch, parts: Sequence[str]) -> dict[str, list[float]]:
    """Return wall and CPU seconds of this stage and of every stage before it, by output."""
    before: dict[str, list[float]] = {}
    for part in parts:
        before |= read_provenance(part).get("spent_s", {})
    return before | {output: [watch.wall_s, watch.cpu_s]}


def stage(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Run one stage of an analysis, or the whole chain on a dataset made elsewhere."""
    watch, analysis = Stopwatch(), get_analysis(arguments.step)
    files = file_facts(Path(), getattr(_settings_of(analysis, settings), "files", ()))
    result, seed = _compute(analysis, arguments, settings)
    _log_issues(result)
    inputs = [arguments.input, *arguments.parts]
    spent = _spent(arguments.output, watch, arguments.parts)
    record: dict[str, Any] = {
        "analysis": analysis.name,
        "settings": dict(settings),
        "seed": seed,
        "code": module_fingerprints(analysis.code_modules),
        "inputs": input_hashes(inputs),
        "files": files,
        "wall_s": watch.wall_s,
        "cpu_s": watch.cpu_s,
        "spent_s": spent,
    }
    output = Path(arguments.output)
    record = write_dataset(result, output, record)
    if arguments.name in analysis.checkpointed:
        shutil.rmtree(_checkpoint(arguments), ignore_errors=True)
    if output.name == "result.nc":
        label, collection = output.parent.name, output.parent.parent.name
        assembled = read_provenance(arguments.input)
        write_provenance(
            output.with_name("provenance.json"),
            record
            | {
                "collection": collection,
                "label": label,
                "input": assembled.get("settings", {}).get("input", {}),
                "assembled_from": assembled.get("inputs", {}),
                "converged": int(result.attrs.get("converged", 1)),
                "issues": json.loads(str(result.attrs.get("issues", "[]"))),
                "wall_s": watch.wall_s,
                "total_wall_s": round(sum(wall for wall, _ in spent.values()), 3),
                "total_cpu_s": round(sum(cpu for _, cpu in spent.values()), 3),
                "parts_wall_s": {p: read_provenance(p).get("wall_s") for p in arguments.parts},
            },
        )


def figures(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Draw the figures of one result and write its summary and methods text."""
    from neuropipe.plotting.save import save_figure

    analysis, folder = get_analysis(arguments.name), Path(arguments.output)
    result = read_dataset(arguments.input)
    drawn = load_object(analysis.figures)(result)
    extra = tuple(slug for slug in analysis.optional_slugs if slug in drawn)
    if tuple(drawn) != (*analysis.figure_slugs, *extra):
        raise NeuropipeError(
            f"{analysis.name}: figures returned {', '.join(drawn)}, "
            f"declared are {', '.join((*analysis.figure_slugs, *analysis.optional_slugs))}"
        )
    for slug in set(analysis.optional_slugs) - set(extra):
        # Snakemake does not know these files: those of an earlier configuration would stay.
        for old in folder.glob(f"fig-{slug}.*"):
            old.unlink()
    drawn = _with_truth(analysis, result, arguments.truth, folder) | drawn
    cards = []
    for slug, figure in drawn.items():
        save_figure(figure, folder, slug)
        cards.append({"slug": slug, "title": figure.title, "caption": figure.caption})
    summary = load_object(analysis.summary)(result)
    write_text(folder / "summary.tsv", summary.to_csv(sep="\t", index=False, na_rep="n/a"))
    tables = load_object(analysis.tables)(result) if analysis.tables else {}
    if tuple(tables) != analysis.table_files:
        raise NeuropipeError(
            f"{analysis.name}: tables returned {', '.join(tables)}, "
            f"declared are {', '.join(analysis.table_files)}"
        )
    for name, table in tables.items():
        separator = "," if name.endswith(".csv") else "\t"
        write_text(folder / name, table.to_csv(sep=separator, index=False, na_rep="n/a"))
    maps = _write_maps(analysis, result, folder)
    text = load_object(analysis.methods)(_settings_of(analysis, settings), result)
    write_text(folder / "methods.md", text.rstrip() + "\n")
    write_json(
        folder / "figures.json",
        {
            "headline": load_object(analysis.headline)(result),
            "figures": cards,
            "maps": maps,
            "settings": dict(settings),
            "code": module_fingerprints(figure_code(analysis)),
            "inputs": {
                path: read_provenance(path).get("content_sha256")
                for path in (arguments.input, arguments.truth)
                if path
            },
        },
    )


def _with_truth(
    analysis: Analysis, result: xr.Dataset, truth: str | None, folder: Path
) -> dict[str, ReportFigure]:
    """Write how the result compares with what was planted; return the figure of it, if known."""
    if truth is None:
        for old in (folder / "truth.tsv", *folder.glob("fig-truth.*")):
            old.unlink(missing_ok=True)
        return {}
    found = load_object(analysis.truth)(result, read_dataset(truth))
    write_text(folder / "truth.tsv", found.table.to_csv(sep="\t", index=False))
    return {"truth": found.figure}


def _write_maps(analysis: Analysis, result: xr.Dataset, folder: Path) -> list[str]:
    """Write the images of a result, remove those of an earlier one, and return their names."""
    if not analysis.maps:
        return []
    made = load_object(analysis.maps)(result)
    for old in folder.glob(analysis.map_pattern):
        if old.name not in made:
            old.unlink()
    for name, content in made.items():
        with atomic_path(folder / name) as part:
            part.write_bytes(content)
    return sorted(made)


def _error_code(row: Mapping[str, str]) -> str:
    """Return why a collection has no result: the code of the first failed job of its log."""
    from neuropipe.status import failure_of

    return failure_of(Path(), row["collection"]) or "MISSING"


def table(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Write the metrics of all collections of one label; a failed one stays, without a value."""
    import pandas as pd

    analysis, rows = get_analysis(arguments.name), []
    for row in settings.get("rows", []):
        identity = {key: row[key] for key in TABLE_COLUMNS[:5]}
        if not Path(row["result"]).exists():
            rows.append(identity | {"metric": _error_code(row)})
            continue
        inputs = read_provenance(row["result"]).get("inputs", {})
        sha = next((digest for path, digest in inputs.items() if path.startswith("inputs/")), "")
        for metric in load_object(analysis.metrics)(read_dataset(row["result"])):
            rows.append(identity | metric | {"input_sha256": sha})
    frame = pd.DataFrame(rows, columns=list(TABLE_COLUMNS))
    write_text(arguments.output, frame.to_csv(sep="\t", index=False, na_rep=""))


def report(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Build the HTML page of the study in the current folder."""
    from neuropipe.report.page import build_pages
    from neuropipe.status import study_cells
    from neuropipe.study import load_study

    study = load_study(Path(), settings["config"]) if "config" in settings else load_study()
    output = Path(arguments.output)
    for name, html in build_pages(study, study_cells(study)).items():
        write_text(output if name == "index.html" else output.parent / name, html)
    logs.get_logger(__name__).info("page written to %s", output)
