"""Connectome files as lists of edges: edge lists, JSON lists, adjacency matrices."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.errors import ConfigError, IngestError, Issue, MissingInput
from neuropipe.io.checks import read_text, refuse_pointers
from neuropipe.io.delimited import check_cells, last_line_open, refuse_same_names, text_rows
from neuropipe.store.connectome import KINDS

if TYPE_CHECKING:
    from neuropipe.config.models import ConnectomeConfig

__all__ = ["Edge", "EdgeTable", "read_table"]

PRE_COLUMNS = ("pre", "presynaptic", "source", "from", "sender")
POST_COLUMNS = ("post", "postsynaptic", "target", "to", "receiver")
KIND_COLUMNS = ("type", "typ", "kind")
WEIGHT_COLUMNS = ("synapses", "weight", "count", "n", "syn")
KIND_WORDS = {
    "chemical": "chemical",
    "0": "chemical",
    "electrical": "gap",
    "gap": "gap",
    "gap junction": "gap",
    "2": "gap",
    "functional": "functional",
}
MISSING = {"n/a", "na", "nan", "null", "none"}
SPREADSHEETS = (".xlsx", ".xlsm")


@dataclass(frozen=True)
class Edge:
    """One row of a table, or one cell of a matrix."""

    pre: str
    post: str
    kind: str
    weight: float


@dataclass(frozen=True)
class EdgeTable:
    """What one file states.

    Attributes
    ----------
    path : str
        The file.
    edges : tuple of Edge
        Weights, zeros of matrices left out.
    names : mapping of str to (tuple of str, tuple of str)
        Kind -> who was reconstructed as sender and as receiver.
    missing : frozenset of (str, str, str)
        Cells ``(kind, pre, post)`` of matrices that state no value.
    blanks : int
        Empty cells of matrices that were taken as zero.
    issues : tuple of Issue
        About the file as text.
    """

    path: str
    edges: tuple[Edge, ...]
    names: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]
    missing: frozenset[tuple[str, str, str]] = frozenset()
    blanks: int = 0
    issues: tuple[Issue, ...] = ()


def _weight(value: Any, where: str, signed: bool) -> float:
    text = str(value).strip()
    try:
        weight = float(text) if "_" not in text else math.nan  # 1_000 is one to Python alone
    except ValueError:
        weight = math.nan
    if math.isfinite(weight) and (signed or weight >= 0):
        return weight
    raise IngestError(
        "BAD_WEIGHT",
        where,
        f"weight {value!r}, expected a number{'' if signed else ' of 0 or more'}",
        "correct the table",
    )


def _kind(word: Any, where: str) -> str:
    kind = KIND_WORDS.get(str(word).strip().lower())
    if kind is None:
        raise IngestError(
            "NOT_THIS_FORMAT",
            where,
            f"type {word!r}, expected one of {', '.join(KIND_WORDS)}",
            "correct the table",
        )
    return kind


def _from_edges(path: Path, edges: Sequence[Edge]) -> EdgeTable:
    """Return an edge list: whoever it names was reconstructed, for every kind that it has."""
    names = tuple(dict.fromkeys(name for edge in edges for name in (edge.pre, edge.post)))
    kinds = [kind for kind in KINDS if any(edge.kind == kind for edge in edges)]
    return EdgeTable(str(path), tuple(edges), dict.fromkeys(kinds, (names, names)))


def _find(usual: Sequence[str], header: Sequence[str]) -> int | None:
    lower = [name.strip().lower() for name in header]
    return next((lower.index(name) for name in usual if name in lower), None)


def _edge_list(
    path: Path, header: Sequence[str], rows: Iterable[list[str]], given: str | None
) -> EdgeTable:
    pre, post = _find(PRE_COLUMNS, header), _find(POST_COLUMNS, header)
    kind, weight = _find(KIND_COLUMNS, header), _find(WEIGHT_COLUMNS, header)
    if weight is None or pre is None or post is None:
        raise IngestError(
            "NOT_THIS_FORMAT",
            path,
            f"no column of weights ({', '.join(WEIGHT_COLUMNS)}); it has {', '.join(header)}",
            "name the column `synapses`",
        )
    if kind is None and given is None:
        raise ConfigError(
            f"{path}: no column `type` says what the weights are; set `kind: chemical`, "
            "`kind: gap` or `kind: functional` under ingest.connectomes"
        )
    used = [None if k is None else header[k] for k in (pre, post, kind, weight)]
    refuse_same_names(header, used, path)
    edges = []
    for number, row in enumerate(rows, start=2):
        where = f"{path}: line {number}"
        word = given if kind is None else _kind(row[kind], where)
        edges.append(_edge(row[pre], row[post], str(word), row[weight], where))
    return _from_edges(path, edges)


def _edge(pre: Any, post: Any, kind: str, weight: Any, where: str) -> Edge:
    sender, receiver = str(pre).strip(), str(post).strip()
    if not sender or not receiver:
        raise IngestError("NOT_THIS_FORMAT", where, "a neuron without name", "correct the table")
    return Edge(sender, receiver, kind, _weight(weight, where, signed=kind == "functional"))


def _matrix(path: Path, rows: Sequence[Sequence[Any]], kind: str, blank: str | None) -> EdgeTable:
    """Return a matrix with the senders in its first column and the receivers in its first row.

    An empty cell of synapse counts is zero, of functional weights not measured, unless `blank`
    says otherwise.
    """
    receivers = [_text(cell) for cell in rows[0][1:]]
    senders = [_text(row[0]) for row in rows[1:]]
    for what, names in (("rows", senders), ("columns", receivers)):
        if not all(names) or len(set(names)) < len(names):
            text = f"the {what} of the matrix have empty or repeated names"
            raise IngestError("NOT_THIS_FORMAT", path, text, "correct the table")
    blank = blank or ("missing" if kind == "functional" else "zero")
    edges, missing, blanks = [], [], 0
    for sender, row in zip(senders, rows[1:], strict=True):
        for receiver, cell in zip(receivers, _padded(row, len(receivers)), strict=True):
            text = _text(cell)
            if text.lower() in MISSING or (not text and blank == "missing"):
                missing.append((kind, sender, receiver))
            elif text:
                edge = _edge(sender, receiver, kind, text, f"{path}: {sender}, {receiver}")
                edges += [edge] if edge.weight else []
            else:
                blanks += 1
    measured = {kind: (tuple(senders), tuple(receivers))}
    return EdgeTable(str(path), tuple(edges), measured, frozenset(missing), blanks)


def _padded(row: Sequence[Any], length: int) -> list[Any]:
    cells = list(row[1 : length + 1])
    return cells + [""] * (length - len(cells))


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _read_text_table(path: Path, config: ConnectomeConfig) -> EdgeTable:
    text = read_text(path)
    first = text.split("\n", 1)[0]
    delimiter = max("\t,;", key=first.count)
    rows = list(text_rows(io.StringIO(text, newline=""), delimiter, path))
    if len(rows) < 2:
        raise IngestError("EMPTY", path, "no rows below the header", "give a table with edges")
    issues = tuple(last_line_open(text, path))
    if _find(PRE_COLUMNS, rows[0]) is not None:
        check_cells(rows, path, cut=bool(issues))
    return replace(_table_of(path, rows, config), issues=issues)


def _table_of(path: Path, rows: list[list[str]], config: ConnectomeConfig) -> EdgeTable:
    header = rows[0]
    if _find(PRE_COLUMNS, header) is not None and _find(POST_COLUMNS, header) is not None:
        return _edge_list(path, header, rows[1:], config.kind)
    if len(header) < 2 or not _looks_square(rows):
        raise IngestError(
            "NOT_THIS_FORMAT",
            path,
            f"neither columns pre and post nor a matrix; it has {', '.join(header[:12])}",
            "an edge list has the columns pre, post, type, synapses; a matrix has names in its "
            "first row and column",
        )
    if config.kind is None:
        raise ConfigError(
            f"{path}: is a matrix; set `kind: chemical`, `kind: gap` or `kind: functional` under "
            "ingest.connectomes"
        )
    return _matrix(path, rows, config.kind, config.blank)


def _looks_square(rows: Sequence[Sequence[str]]) -> bool:
    """Tell whether the cells beside the names of a table are numbers, or empty."""
    for row in rows[1:4]:
        for cell in row[1:]:
            text = cell.strip().lower()
            try:
                float(text or "0")
            except ValueError:
                if text not in MISSING:
                    return False
    return True


def _read_json(path: Path, config: ConnectomeConfig) -> EdgeTable:
    try:
        rows = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        text = f"not JSON: {error}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the file") from error
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        text = "expected a list of {pre, post, typ, syn}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the file")
    edges = []
    for number, row in enumerate(rows):
        where = f"{path}: entry {number}"
        absent = [key for key in ("pre", "post", "typ", "syn") if key not in row]
        if absent:
            text = f"no key {absent[0]!r}; it has {', '.join(map(str, row))}"
            raise IngestError("NOT_THIS_FORMAT", where, text, "correct the file")
        sizes = row["syn"] if isinstance(row["syn"], list) else [row["syn"]]
        kind = _kind(row["typ"], where)
        signed = kind == "functional"
        total = math.fsum(_weight(size, where, signed) for size in sizes)
        edges.append(_edge(row["pre"], row["post"], kind, total, where))
    if not edges:
        raise IngestError("EMPTY", path, "no edges", "give a list with edges")
    return _from_edges(path, edges)


def _read_spreadsheet(path: Path, config: ConnectomeConfig) -> EdgeTable:
    import openpyxl

    refuse_pointers(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl promises no type of exception for damaged files
        text = f"cannot be opened as a spreadsheet ({type(error).__name__}: {error})"
        raise IngestError("NOT_THIS_FORMAT", path, text, "save it as .xlsx again") from error
    try:
        sheets = dict(config.sheets)
        if not sheets and config.kind is not None and len(book.sheetnames) == 1:
            sheets = {config.kind: book.sheetnames[0]}
        if not sheets:
            raise ConfigError(
                f"{path}: say which sheet holds what with `sheets: {{chemical: ..., gap: ...}}`; "
                f"it has {', '.join(book.sheetnames)}"
            )
        parts = [_sheet(path, book, kind, sheet, config.blank) for kind, sheet in sheets.items()]
    finally:
        book.close()
    return EdgeTable(
        path=str(path),
        edges=tuple(edge for part in parts for edge in part.edges),
        names={kind: names for part in parts for kind, names in part.names.items()},
        missing=frozenset(cell for part in parts for cell in part.missing),
        blanks=sum(part.blanks for part in parts),
    )


def _sheet(path: Path, book: Any, kind: str, sheet: str, blank: str | None) -> EdgeTable:
    if sheet not in book.sheetnames:
        raise ConfigError(f"{path}: no sheet {sheet!r}; it has {', '.join(book.sheetnames)}")
    rows = [list(row) for row in book[sheet].iter_rows(values_only=True)]
    rows = [row for row in rows if any(_text(cell) for cell in row)]
    if len(rows) < 2:
        where = f"{path}: sheet {sheet}"
        raise IngestError("EMPTY", where, "no rows below the header", "name another sheet")
    while len(rows[0]) > 1 and not _text(rows[0][-1]):
        rows[0].pop()
    return _matrix(Path(f"{path}: sheet {sheet}"), rows, kind, blank)


def read_table(path: Path, config: ConnectomeConfig) -> EdgeTable:
    """Read one connectome file.

    Parameters
    ----------
    path : Path
        ``.json``: a list of ``{pre, post, typ, syn}`` (``typ`` 0 chemical, 2 electrical; the
        weight is the sum of ``syn``). ``.xlsx``: adjacency matrices, one sheet per kind. Else
        text with tabs or commas: an edge list ``pre, post, type, synapses``, or a matrix with
        senders in the first column and receivers in the first row.
    config : ConnectomeConfig
        ``kind``, ``sheets`` and ``blank`` where the file cannot say it.

    Raises
    ------
    IngestError
        A damaged or unknown format, a weight that is no count, an unknown type of edge.
    ConfigError
        The file does not say what its weights are, and nor do the settings.
    MissingInput
        There is no such file.
    """
    if not path.exists() and not path.is_symlink():
        raise MissingInput(f"{path}: no such file; correct ingest.connectomes")
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _read_json(path, config)
    if suffix in SPREADSHEETS:
        return _read_spreadsheet(path, config)
    return _read_text_table(path, config)
