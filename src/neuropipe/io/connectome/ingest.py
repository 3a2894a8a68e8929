"""From connectome tables to their store and its report: both, or none."""

from __future__ import annotations

import json
import logging
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import Issue, issues_to_json
from neuropipe.io.connectome.tables import read_table
from neuropipe.io.connectome.weights import TableWeights, consensus, table_weights
from neuropipe.io.publish import publish, refuse_other_content, refuse_warnings, staging, versions

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import ConnectomeConfig, LabelConfig
    from neuropipe.store.file_facts import FileFacts

__all__ = ["ingest_connectome", "read_connectome"]

logger = logging.getLogger(__name__)


def read_connectome(config: ConnectomeConfig, labels: LabelConfig | None = None) -> xr.Dataset:
    """Read the tables of one connectome into weights over canonical neurons.

    Parameters
    ----------
    config : ConnectomeConfig
        The entry under ``ingest.connectomes``; paths relative to the current folder.
    labels : LabelConfig, optional
        ``atlas`` and ``include_can``; default: the 300 names of C. elegans.

    Returns
    -------
    xarray.Dataset
        As `consensus` describes it, with the attributes ``tables`` (what each file held),
        ``gap_conflict``, ``atlas``, ``atlas_version`` and ``issues`` (JSON).

    Raises
    ------
    IngestError
        A fault of a table.
    ConfigError
        The settings do not say what a table holds.
    MissingInput
        A table does not exist.
    """
    from neuropipe.config.models import LabelConfig
    from neuropipe.store.atlas import load_atlas

    labels = labels or LabelConfig.model_validate({})
    atlas = load_atlas(labels.atlas, labels.include_can)
    tables = [
        table_weights(read_table(Path(path), config), atlas, config.gap_conflict)
        for path in config.tables
    ]
    tables = [replace(t, path=path) for t, path in zip(tables, config.tables, strict=True)]
    ds = consensus(tables, atlas)
    return ds.assign_attrs(
        gap_conflict=config.gap_conflict,
        atlas=atlas.name,
        atlas_version=atlas.version,
        tables=json.dumps([_summary(table) for table in tables], ensure_ascii=False),
        issues=issues_to_json(_issues(tables)),
    )


def _summary(table: TableWeights) -> dict[str, Any]:
    """Return what one file held; a gap junction is one connection, not two."""
    connections = {
        kind: int(np.count_nonzero(np.triu(weight) if kind == "gap" else weight))
        for kind, weight in table.weight.items()
    }
    return {"path": table.path, "connections": connections, **table.counts}


def _issues(tables: Sequence[TableWeights]) -> list[Issue]:
    return [issue for table in tables for issue in table.issues]


def ingest_connectome(
    config: ConnectomeConfig,
    output: Path,
    *,
    labels: LabelConfig | None = None,
    strict: bool = False,
    code: Mapping[str, str] | None = None,
    record_settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    files: FileFacts | None = None,
) -> dict[str, Any]:
    """Read the tables of one connectome and write its store and its report.

    Parameters
    ----------
    config, labels
        As for `read_connectome`.
    output : Path
        ``stores/connectome/<name>.zarr``; ``<name>.report.json`` beside it is written last and
        marks completion.
    strict : bool
        Turn warnings into errors.
    code, record_settings : mapping, optional
        Module -> hash, and the settings of the job, kept in the report.
    overwrite : bool
        Replace an existing store of other content.
    files : mapping, optional
        Facts of the tables, kept in the report.

    Returns
    -------
    dict
        The report.
    """
    from neuropipe.errors import issues_from_json
    from neuropipe.store.connectome import root_attributes, write_connectome
    from neuropipe.store.hashing import combine_files, file_sha256

    started, output = clock.perf_counter(), Path(output)
    first = Path(config.tables[0])
    ds = read_connectome(config, labels)
    issues = issues_from_json(ds.attrs["issues"])
    if strict:
        refuse_warnings(issues, first)
    sources: list[dict[str, Any]] = [
        {"path": path, "sha256": file_sha256(path), "bytes": Path(path).stat().st_size}
        for path in config.tables
    ]
    own = {
        **root_attributes(output.stem),
        "source_sha256": combine_files((Path(s["path"]).name, s["sha256"]) for s in sources),
    }
    with staging(output, first) as folder:
        content = write_connectome(ds.assign_attrs(own), folder / output.name)
        refuse_other_content(output, content, overwrite)
        report = {
            "connectome": output.stem,
            "source": sources,
            "content_sha256": content,
            "sizes": {str(name): int(size) for name, size in ds.sizes.items()},
            "tables": json.loads(ds.attrs["tables"]),
            "settings": dict(record_settings or {"connectome": config.model_dump(mode="json")}),
            "code": dict(code or {}),
            "files": dict(files or {}),
            "issues": [asdict(issue) for issue in issues],
            "versions": versions(),
            "wall_s": round(clock.perf_counter() - started, 3),
        }
        publish(folder, output, report)
    logger.info("%s: %d tables; %s", output.stem, len(sources), content[:12])
    return report
