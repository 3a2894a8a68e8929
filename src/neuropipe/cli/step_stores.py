"""Steps on stores: ingest, connectome, index, preprocess, quality. They open, call and write."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from neuropipe import logs
from neuropipe.config.load import check_model
from neuropipe.config.models import (
    ConnectomeConfig,
    IngestConfig,
    LabelConfig,
    PreprocessConfig,
)
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError
from neuropipe.store.atomic import atomic_path, write_json
from neuropipe.store.file_facts import file_facts
from neuropipe.store.provenance import Stopwatch, input_hashes, read_provenance, write_provenance

__all__ = ["connectome", "index", "ingest", "preprocess", "quality"]


def checked(model: type, values: Any, where: str) -> Any:
    checked, problems = check_model(model, values, where)
    if problems:
        raise ConfigError("\n".join(f"--settings: {problem}" for problem in problems))
    return checked


def _code(rule_modules: tuple[str, ...]) -> dict[str, str]:
    from neuropipe.store.code import module_fingerprints

    return module_fingerprints(rule_modules)


def ingest(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Read one source and write its Zarr store, NWB file and report."""
    from neuropipe.code_sets import ingest_code
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.sources import source_files

    row = settings.get("recording")
    if not isinstance(row, Mapping):
        raise ConfigError("--settings: recording: expected the row of the recordings table")
    recording = Recording(**row)
    config = cast("IngestConfig", checked(IngestConfig, settings.get("ingest", {}), "ingest"))
    files = file_facts(Path(), source_files(Path(), recording, config))
    ingest_recording(
        recording,
        Path(arguments.source),
        config,
        Path(arguments.output),
        code=_code(ingest_code(recording.modality)),
        record_settings=dict(settings),
        overwrite=arguments.overwrite,
        others=arguments.inputs,
        files=files,
    )


def connectome(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Read the tables of one connectome and write its store and its report."""
    from neuropipe.code_sets import CONNECTOME_CODE
    from neuropipe.io.connectome.ingest import ingest_connectome

    values = settings.get("connectome", {})
    config = cast("ConnectomeConfig", checked(ConnectomeConfig, values, "connectome"))
    labels = cast("LabelConfig", checked(LabelConfig, settings.get("labels", {}), "labels"))
    ingest_connectome(
        config,
        Path(arguments.output),
        labels=labels,
        strict=bool(settings.get("strict", False)),
        code=_code(CONNECTOME_CODE),
        record_settings=dict(settings),
        overwrite=arguments.overwrite,
        files=file_facts(Path(), config.tables),
    )


def index(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Write ``stores/dataset.json``: every recording with its hashes."""
    from neuropipe.store.schema import SCHEMA_VERSION

    entries = []
    for path in arguments.inputs:
        report = read_provenance(path)
        keys = ("recording", "modality", "content_sha256", "sizes")
        source = report.get("attrs", {}).get("source_sha256", "")
        entries.append({key: report.get(key) for key in keys} | {"source_sha256": source})
    write_json(
        arguments.output,
        {
            "name": settings.get("study", ""),
            "schema_version": SCHEMA_VERSION,
            "recordings": entries,
        },
    )


def preprocess(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Run the chain of steps of one recording and write the preprocessed store and its marker."""
    from neuropipe.code_sets import PREPROCESS_CODE
    from neuropipe.preprocess.chain import preprocess as run_chain
    from neuropipe.sources import atlas_files
    from neuropipe.store.hashing import content_sha256
    from neuropipe.store.zarr import open_store, write_tree

    watch, output = Stopwatch(), Path(arguments.output)
    values = settings.get("preprocess", {})
    config = cast("PreprocessConfig", checked(PreprocessConfig, values, "preprocess"))
    files = file_facts(Path(), atlas_files(Path(), config.fmri) if "fmri" in values else ())
    tree = open_store(Path(arguments.input))
    processed = run_chain(tree, config, seed=int(settings.get("seed", 0)))
    write_tree(processed, output)
    if config.write_nwb:
        from neuropipe.store.nwb import to_nwb

        to_nwb(tree, output.with_suffix(".nwb"), processed=processed)
    issues = json.loads(str(processed.attrs.get("issues", "[]")))
    for issue in issues:
        level = logging.INFO if issue.get("severity") == "info" else logging.WARNING
        logs.get_logger(__name__).log(level, "%s %s", issue["code"], issue["message"])
    marker = Path(arguments.input).with_suffix("").with_suffix(".report.json")
    write_provenance(
        output.with_suffix(".json"),
        {
            "recording": output.stem,
            "settings": dict(settings),
            "code": _code(PREPROCESS_CODE),
            "inputs": input_hashes([marker]),
            "files": files,
            "content_sha256": content_sha256(processed.to_dataset()),
            "issues": issues,
            "pipeline": json.loads(str(processed.attrs.get("pipeline", "[]"))),
            "sizes": {str(name): int(size) for name, size in processed.sizes.items()},
            "wall_s": watch.wall_s,
            "cpu_s": watch.cpu_s,
        },
    )


def quality(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Draw the data-quality figures of one recording into a folder of its own."""
    from neuropipe.code_sets import QUALITY_CODE
    from neuropipe.plotting.save import save_figure
    from neuropipe.report.quality import figures
    from neuropipe.store.zarr import open_store

    raw, processed = open_store(Path(arguments.raw)), None
    marker = Path(arguments.raw).with_suffix(".report.json")
    if arguments.processed:
        processed = open_store(Path(arguments.processed))
        marker = Path(arguments.processed).with_suffix(".json")
    with atomic_path(arguments.output) as folder:
        folder.mkdir()
        cards = []
        for slug, figure in figures(raw, processed).items():
            save_figure(figure, folder, slug)
            cards.append({"slug": slug, "title": figure.title, "caption": figure.caption})
        write_json(
            folder / "figures.json",
            {
                "figures": cards,
                "settings": dict(settings),
                "code": _code(QUALITY_CODE),
                "inputs": input_hashes([marker]),
            },
        )
