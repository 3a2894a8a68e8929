"""What it takes to repeat the study: configuration, hashes, versions, commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from neuropipe.report.markup import format_duration
from neuropipe.report.sources import Table, read_json
from neuropipe.store.layout import preprocessed_marker, report_marker, result_file

if TYPE_CHECKING:
    from neuropipe.report.anonymise import Names
    from neuropipe.study import Study

__all__ = ["Provenance", "provenance"]


@dataclass(frozen=True)
class Provenance:
    """What it takes to repeat the study."""

    config: str
    seed: int
    commits: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    results: Table
    sources: Table
    code: Table
    wall_s: float
    commands: str


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    texts = tuple(tuple(str(cell) for cell in row) for row in rows)
    return Table(tuple(columns), texts, len(texts))


def provenance(study: Study, names: Names) -> Provenance:
    """Return configuration, hashes, versions, commits, seeds, wall times and commands."""
    import yaml

    raw = names.settings(getattr(study, "raw", None) or study.config.model_dump(mode="json"))
    files = [
        (
            run.label,
            c.name,
            read_json(study.root / result_file(c.name, run.label, "provenance.json")),
        )
        for run in study.runs
        for c in run.collections
    ]
    markers = [
        (
            r,
            read_json(study.root / report_marker(r)),
            read_json(study.root / preprocessed_marker(r)),
        )
        for r in study.recordings
    ]
    everything = [p for _, _, p in files] + [p for _, *pair in markers for p in pair]
    versions: dict[str, str] = {"neuropipe": version("neuropipe")}
    code: dict[str, str] = {}
    for entry in everything:
        versions |= {str(k): str(v) for k, v in (entry.get("versions") or {}).items()}
        code |= {str(k): str(v) for k, v in (entry.get("code") or {}).items()}
    commits = dict.fromkeys(str(p["git_commit"]) for p in everything if p.get("git_commit"))
    return Provenance(
        config=yaml.safe_dump(_plain(raw), sort_keys=False, allow_unicode=True, width=88),
        seed=study.config.seed,
        commits=tuple(commits),
        versions=tuple(sorted(versions.items())),
        results=_results_table(files),
        sources=_sources_table(markers),
        code=_table(("module", "hash"), sorted(code.items())),
        wall_s=float(sum(_wall_s(p) or 0.0 for p in everything)),
        commands=_commands(tuple(commits), version("neuropipe")),
    )


def _wall_s(record: Mapping[str, Any]) -> float | None:
    """Return the seconds of all jobs behind a product."""
    found = record.get("total_wall_s", record.get("wall_s"))
    return float(found) if isinstance(found, int | float) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _results_table(files: Sequence[tuple[str, str, Mapping[str, Any]]]) -> Table:
    rows = [
        (
            label,
            name,
            p.get("seed", ""),
            format_duration(_wall_s(p)),
            {None: "", 0: "no", 1: "yes"}.get(p.get("converged"), ""),
            p.get("content_sha256") or "",
            p.get("git_commit") or "",
        )
        for label, name, p in files
        if p
    ]
    columns = ("label", "collection", "seed", "time", "converged", "content sha256", "commit")
    return _table(columns, rows)


def _sources_table(markers: Sequence[tuple[Any, Mapping[str, Any], Mapping[str, Any]]]) -> Table:
    rows = []
    for recording, ingest, processed in markers:
        sources: list[dict[str, Any]] = list(ingest.get("source") or [{}])
        for source in sources:
            rows.append(
                (
                    recording.name,
                    source.get("path", recording.path),
                    source.get("bytes", ""),
                    source.get("sha256", ""),
                    ingest.get("content_sha256", ""),
                    processed.get("content_sha256", ""),
                )
            )
    columns = ("recording", "source", "bytes", "source sha256", "store sha256",
               "preprocessed sha256")  # fmt: skip
    return _table(columns, rows)


def _commands(commits: Sequence[str], version: str) -> str:
    lines = []
    if len(commits) == 1:
        lines += [
            "# in a checkout of neuropipe",
            f"git checkout {commits[0].removesuffix('-dirty')}",
        ]
    else:
        lines += [f"pip install 'neuropipe=={version}'"]
    return "\n".join([*lines, "# in the study folder", "neuropipe run"])
