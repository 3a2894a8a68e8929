"""Write the pages that come from the code: settings, formats, faults and the map of packages."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import product
from pathlib import Path

from neuropipe.analyses.registry import analyses
from neuropipe.config.models import StudyConfig
from neuropipe.config.template import settings_rows
from neuropipe.io.registry import Reader, readers
from neuropipe.study import section_model

__all__ = ["write_pages"]

SOURCE = Path(str(import_module("neuropipe").__file__)).parent
FAULTS = ("IngestError", "Issue")
ELLIPSIS = "…"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _settings(rows: Iterable[tuple[str, str, str]]) -> str:
    shown = [(f"`{key}`", f"`{default}`" if default else "", text) for key, default, text in rows]
    return _table(("key", "default", "meaning"), shown)


def _template(node: ast.expr) -> str:
    """Return the text of a string expression, with an ellipsis for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else ELLIPSIS for part in node.values
        )
    return ELLIPSIS


def _bound(tree: ast.AST) -> dict[str, list[tuple[int, str]]]:
    """Return the texts that are bound to a name, with their lines, in order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append((node.lineno, _template(node.value)))
    return {name: sorted(texts) for name, texts in found.items()}


def _faults(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield code, message, remedy and kind of every fault that a module names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bound = _bound(tree)

    def text(node: ast.expr | None) -> str:
        if not isinstance(node, ast.Name):
            return "" if node is None else _template(node)
        earlier = [words for line, words in bound.get(node.id, []) if line < node.lineno]
        return earlier[-1] if earlier else ELLIPSIS

    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in FAULTS:
            continue
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        given = dict(zip(("code", "path", "message", "hint", "severity"), node.args, strict=False))
        given |= {key: value for key, value in named.items() if key}
        code = text(given.get("code"))
        if code.isupper():
            kind = "error" if getattr(node.func, "id", "") == "IngestError" else "issue"
            yield code, text(given.get("message")), text(given.get("hint")), kind


def _modules_of(reader: Reader) -> list[Path]:
    """Return the files that a reader names, and what they import from their own folder."""
    found: dict[Path, None] = {}
    for target in (reader.open, reader.probe):
        spec = importlib.util.find_spec(target.partition(":")[0])
        if spec is None or spec.origin is None:
            continue
        path = Path(spec.origin)
        found[path] = None
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("neuropipe.io."):
                near = Path(str(importlib.util.find_spec(str(node.module)).origin))  # type: ignore[union-attr]
                if near.parent == path.parent:
                    found[near] = None
    return list(found)


def _format_page(reader: Reader) -> str:
    module = import_module(reader.open.partition(":")[0])
    about = (module.__doc__ or "").strip()
    looks = ", ".join(f"`{one}`" if one else "a folder" for one in reader.extensions)
    rows = {(code, message, hint) for path in _modules_of(reader)
            for code, message, hint, kind in _faults(path) if kind == "error"}  # fmt: skip
    told = sorted(row for row in rows if row[1].strip(ELLIPSIS + " "))
    stated = (
        "\nTaken only where the table states the modality or the reader.\n"
        if reader.stated_only
        else ""
    )
    settings = _settings(settings_rows(reader.settings)) if reader.settings.model_fields else ""
    return (
        f"# {reader.name}\n\n{about}\n\n"
        f"Reads {', '.join(reader.modalities)} from {looks}.\n{stated}"
        f"\n## Settings\n\n`ingest.readers.{reader.name}`:\n\n{settings or 'None.'}\n"
        "\n## What it refuses\n\nBesides what [every reader refuses](../../faq.md):\n\n"
        + _table(("code", "found", "remedy"), told)
    )


def _fault_page() -> str:
    rows: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for code, message, hint, kind in _faults(path):
            if message.strip(ELLIPSIS + " ") or hint.strip(ELLIPSIS + " "):
                rows[code, message] = (f"`{code}`", kind, message, hint)
    return _table(("code", "kind", "found", "remedy"), [rows[key] for key in sorted(rows)])


def _packages() -> dict[str, set[str]]:
    """Return the packages of neuropipe with those that their modules import."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        inner = path.relative_to(SOURCE)
        own = inner.parts[0].removesuffix(".py")
        if own.startswith("__"):
            continue
        used = found.setdefault(own, set())
        # Imports inside functions keep start-up short; packages build on what modules import.
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("neuropipe."):
                used.add(str(node.module).split(".")[1])
    return {name: used - {name} for name, used in found.items()}


def _draw_packages(path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "neuropipe"
    import networkx as nx
    from matplotlib.figure import Figure

    packages = _packages()
    folders = {name for name in packages if (SOURCE / name).is_dir()}
    graph = nx.DiGraph((name, used) for name in folders for used in packages[name] & folders)
    graph.add_nodes_from(folders)
    condensed = nx.condensation(graph)
    at: dict[str, tuple[float, int]] = {}
    for height, parts in enumerate(nx.topological_generations(condensed.reverse())):
        row = sorted(name for part in parts for name in condensed.nodes[part]["members"])
        at |= {name: (i - (len(row) - 1) / 2, height) for i, name in enumerate(row)}
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    axes = figure.subplots()
    line = {"arrowstyle": "-|>", "color": "0.55", "shrinkA": 14, "shrinkB": 14}
    for source, target in nx.transitive_reduction(condensed).edges:
        pairs = product(*(condensed.nodes[part]["members"] for part in (source, target)))
        for name, used in pairs:
            if graph.has_edge(name, used):
                axes.annotate("", at[used], at[name], arrowprops=line)
    box = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": "0.3"}
    for name, (x, y) in at.items():
        axes.text(x, y, name, ha="center", va="center", fontsize=10, bbox=box)
    axes.set_xlim(-2.2, 2.2)
    axes.set_ylim(-0.5, max(y for _, y in at.values()) + 0.5)
    axes.axis("off")
    figure.savefig(path, metadata={"Date": None})


def write_pages(folder: Path) -> None:
    """Write all pages from the code.

    Parameters
    ----------
    folder : Path
        ``docs/generated``; made if it is not there. Pages whose text is the same stay untouched.
    """
    included, formats = folder / "included", folder / "formats"
    included.mkdir(parents=True, exist_ok=True)
    formats.mkdir(exist_ok=True)
    pages = {
        included / "faults.md": _fault_page(),
        folder / "settings.md": "# Settings of a study\n\nEvery key of `config/config.yaml` but "
        "those of analyses and readers, which have pages of their own.\n\n"
        + _settings(settings_rows(StudyConfig)),
    }
    for name, analysis in analyses().items():
        pages[included / f"{name}.md"] = _settings(settings_rows(section_model(analysis)))
    for name, reader in readers().items():
        pages[formats / f"{name}.md"] = _format_page(reader)
    names = "\n".join(f"formats/{name}" for name in sorted(readers()))
    rows = [(f"[{name}](formats/{name}.md)", ", ".join(reader.modalities),
             ", ".join(one or "a folder" for one in reader.extensions))
            for name, reader in sorted(readers().items())]  # fmt: skip
    pages[folder / "formats.md"] = (
        "# Formats\n\n" + _table(("reader", "modalities", "looks at"), rows)
        + f"\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
    )  # fmt: skip
    for path, text in pages.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    _draw_packages(folder / "packages.svg")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
