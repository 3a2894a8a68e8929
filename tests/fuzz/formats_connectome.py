"""Formats of connectome tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from formats import Format, Source

__all__ = ["FORMATS"]

ROWS = (
    [("AVAL", "AVAR", "chemical", 2), ("AVAR", "AVAL", "chemical", 1), ("AVAL", "VB2", "gap", 4),
     ("RID", "AVAR", "chemical", 3), ("VB2", "MUSCLE1", "chemical", 7), ("RID", "AVAL", "gap", 2)],
    [("AIBL", "AIBR", "chemical", 5), ("AIBL", "RMED", "gap", 1)],
)  # fmt: skip
TYP = {"chemical": 0, "gap": 2}


def _write_list(folder: Path, variant: int) -> Source:
    lines = ["pre\tpost\ttype\tsynapses"]
    lines += ["\t".join(str(cell) for cell in row) for row in ROWS[variant]]
    (folder / "a.tsv").write_text("\n".join(lines) + "\n")
    return Source("a.tsv")


def _write_json(folder: Path, variant: int) -> Source:
    rows = [{"pre": a, "post": b, "typ": TYP[t], "syn": [1] * n} for a, b, t, n in ROWS[variant]]
    (folder / "a.json").write_text(json.dumps(rows, indent=1))
    return Source("a.json")


def _matrix(variant: int) -> list[list[object]]:
    chosen = [row for row in ROWS[variant] if row[2] == "chemical"]
    names = sorted({name for row in chosen for name in row[:2]})
    weight = {row[:2]: row[3] for row in chosen}
    return [["", *names], *([a, *(weight.get((a, b), 0) for b in names)] for a in names)]


def _write_matrix(folder: Path, variant: int) -> Source:
    lines = [",".join(str(cell) for cell in row) for row in _matrix(variant)]
    (folder / "a.csv").write_text("\n".join(lines) + "\n")
    return Source("a.csv", {"kind": "chemical"})


def _write_sheet(folder: Path, variant: int) -> Source:
    import openpyxl

    book = openpyxl.Workbook()
    for row in _matrix(variant):
        book.active.append(row)
    book.save(folder / "a.xlsx")
    return Source("a.xlsx", {"kind": "chemical"})


def _edges(folder: Path, source: Source) -> list[tuple[str, str, str, float]]:
    import pandas as pd

    path = folder / source.path
    if path.suffix == ".json":
        kinds = {0: "chemical", 2: "gap", "0": "chemical", "2": "gap"}
        return [
            (r["pre"], r["post"], kinds[r["typ"]], float(np.sum(r["syn"])))
            for r in json.loads(path.read_text())
        ]
    if path.suffix == ".tsv":
        frame = pd.read_csv(path, sep="\t", index_col=False, keep_default_na=False)
        kinds = {"chemical": "chemical", "gap": "gap", "electrical": "gap"}
        return [
            (r.pre.strip(), r.post.strip(), kinds[r.type.strip().lower()], float(r.synapses))
            for r in frame.itertuples()
        ]
    frame = pd.read_excel(path, index_col=0) if path.suffix == ".xlsx" else pd.read_csv(
        path, index_col=0)  # fmt: skip
    values = frame.fillna(0).to_numpy(dtype=np.float64)
    return [
        (str(a), str(b), "chemical", values[i, j])
        for i, a in enumerate(frame.index)
        for j, b in enumerate(frame.columns)
    ]


def _read(folder: Path, source: Source) -> dict[str, np.ndarray]:
    """Return the weights of canonical neurons, chemical ones summed over repeated rows."""
    from neuropipe.store.atlas import load_atlas

    names = list(load_atlas("celegans-300", False).names)
    weight: dict[tuple[str, str, str], float] = {}
    for pre, post, kind, value in _edges(folder, source):
        if pre in names and post in names and value:
            weight[kind, pre, post] = weight.get((kind, pre, post), 0.0) + value
    found = sorted((k, a, b, w) for (k, a, b), w in weight.items() if k == "chemical")
    return {"chemical": np.array([f"{a}>{b}={np.float32(w)!r}" for _, a, b, w in found],
                                 dtype=object)}  # fmt: skip


FORMATS = (
    Format("connectome edge list", "connectome", "", _write_list, _read, {"a.tsv": "table"}),
    Format("connectome JSON", "connectome", "", _write_json, _read, {"a.json": "text"}),
    Format("connectome matrix", "connectome", "", _write_matrix, _read, {"a.csv": "table"}),
    Format("connectome spreadsheet", "connectome", "", _write_sheet, _read,
           {"a.xlsx": "binary"}, share=0.6),
)  # fmt: skip
