"""From lists of edges to weights over canonical neurons: one table, or the consensus of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.connectome.tables import EdgeTable
from neuropipe.store.atlas import Atlas
from neuropipe.store.connectome import KINDS
from neuropipe.store.labels import canonical_name

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TableWeights", "consensus", "table_weights"]

SHOWN = 8


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(list(values), dtype=object)


@dataclass(frozen=True)
class TableWeights:
    """One table over canonical neurons.

    Attributes
    ----------
    path : str
        The file.
    weight : mapping of str to numpy.ndarray
        Kind -> weights ``(n_neurons, n_neurons)``, float64, 0 where `present` is False.
    present : mapping of str to numpy.ndarray
        Kind -> whether the pair was measured.
    other : tuple of (pre, post, kind, weight)
        Edges with a partner that is no canonical neuron.
    counts : mapping of str to int
        What was merged: rows, duplicate_rows, gap_rows, gap_rows_without_mirror, gap_self_rows,
        gap_conflicts, other_edges, neurons.
    issues : tuple of Issue
    """

    path: str
    weight: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    other: tuple[tuple[str, str, str, float], ...]
    counts: Mapping[str, int]
    issues: tuple[Issue, ...]


@dataclass
class _Merging:
    """The edges of one table on their way to one weight per pair."""

    table: EdgeTable
    conflict: str
    counts: dict[str, int] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)

    def note(self, code: str, message: str, hint: str = "", severity: Any = "info") -> None:
        self.issues.append(Issue(code, self.table.path, message, hint, severity))

    def directed(self, known: Mapping[str, str]) -> dict[tuple[str, str, str], float]:
        """Return ``(kind, pre, post)`` -> weight; rows that repeat a pair are summed."""
        total: dict[tuple[str, str, str], float] = {}
        repeated: list[tuple[str, str, str]] = []
        for edge in self.table.edges:
            pair = (edge.kind, known[edge.pre] or edge.pre, known[edge.post] or edge.post)
            if pair in total:
                repeated.append(pair)
            total[pair] = total.get(pair, 0.0) + edge.weight
        self.counts |= {"rows": len(self.table.edges), "duplicate_rows": len(repeated)}
        functional = [pair for pair in repeated if pair[0] == "functional"]
        if functional:
            raise IngestError(
                "DUPLICATE_EDGES",
                self.table.path,
                f"functional weight {functional[0][1]} -> {functional[0][2]} is listed twice",
                "keep one row; functional weights cannot be summed",
            )
        if repeated:
            names = ", ".join(f"{kind} {pre} -> {post}" for kind, pre, post in repeated[:SHOWN])
            text = f"{len(repeated)} rows repeat a pair and were added to it: {names}"
            self.note("DUPLICATE_EDGES", text)
        return total

    def undirected(
        self, total: Mapping[tuple[str, str, str], float]
    ) -> dict[tuple[str, str, str], float]:
        """Return the edges with one weight per unordered pair of a gap junction.

        A pair listed in both directions counts once; the two never add up but by choice.
        """
        gaps = {(pre, post): value for (kind, pre, post), value in total.items() if kind == "gap"}
        merged = {key: value for key, value in total.items() if key[0] != "gap"}
        conflicts = []
        for (pre, post), value in gaps.items():
            if ("gap", post, pre) in merged and pre != post:
                continue
            mirror = gaps.get((post, pre), value)
            if mirror != value:
                conflicts.append((pre, post, value, mirror))
            merged["gap", pre, post] = _settle(value, mirror, self.conflict)
        alone = sum((post, pre) not in gaps for pre, post in gaps)
        own = sum(pre == post for pre, post in gaps)
        self.counts |= {
            "gap_rows": len(gaps),
            "gap_rows_without_mirror": alone,
            "gap_self_rows": own,
            "gap_conflicts": len(conflicts),
        }
        if conflicts:
            self._tell_conflicts(conflicts)
        return merged

    def _tell_conflicts(self, conflicts: Sequence[tuple[str, str, float, float]]) -> None:
        named = ", ".join(f"{a} - {b}: {v:g} and {w:g}" for a, b, v, w in conflicts[:SHOWN])
        text = f"{len(conflicts)} gap junctions have two weights, one per direction: {named}"
        if self.conflict == "error":
            hint = "correct the table, or set `gap_conflict: mean`, `max` or `sum`"
            raise IngestError("GAP_CONFLICT", self.table.path, text, hint)
        self.note("GAP_CONFLICT", text, f"settled by `gap_conflict: {self.conflict}`", "warning")


def _settle(value: float, mirror: float, rule: str) -> float:
    if value == mirror:
        return value
    rules = {"mean": (value + mirror) / 2, "max": max(value, mirror), "sum": value + mirror}
    return rules.get(rule, value)


def table_weights(table: EdgeTable, atlas: Atlas, gap_conflict: str = "mean") -> TableWeights:
    """Return one table over the canonical neurons of an atlas.

    Parameters
    ----------
    table : EdgeTable
        What a file states.
    atlas : Atlas
        Canonical names; zero padding of motor neuron numbers is dropped (``VB02``).
    gap_conflict : {"mean", "max", "sum", "error"}
        What to do with a gap junction that has different weights in its two directions.

    Returns
    -------
    TableWeights
        Rows that repeat a pair are summed. Gap junctions are symmetric. A pair is present when
        the table names both neurons, for every kind that the table has.

    Raises
    ------
    IngestError
        ``GAP_CONFLICT`` under ``error``; ``DUPLICATE_EDGES`` for functional weights; ``EMPTY``
        when no pair of canonical neurons is left.
    """
    listed = {name for pair in table.names.values() for side in pair for name in side}
    known = {name: canonical_name(name, atlas) for name in listed}
    merging = _Merging(table, gap_conflict, issues=list(table.issues))
    merged = merging.undirected(merging.directed(known))
    shape = (len(atlas), len(atlas))
    weight = {kind: np.zeros(shape) for kind in KINDS if kind in table.names}
    other = []
    for (kind, pre, post), value in merged.items():
        if pre not in atlas or post not in atlas:
            other.append((pre, post, kind, value))
            continue
        i, j = atlas.index[pre], atlas.index[post]
        weight[kind][i, j] = value
        if kind == "gap":
            weight[kind][j, i] = value
    present = {kind: _present(table, kind, known, atlas) for kind in weight}
    neurons = sorted({name for name in known.values() if name})
    merging.counts |= {"other_edges": len(other), "neurons": len(neurons), "blanks": table.blanks}
    if not neurons:
        text = f"none of {len(listed)} names is in the atlas {atlas.name}"
        raise IngestError("EMPTY", table.path, text, "set `ingest.labels.atlas`")
    if other:
        names = sorted(name for name in listed if not known[name])
        text = (
            f"{len(other)} edges have a partner that is no neuron of {atlas.name}; kept in the "
            f"table `other`: {', '.join(names[:SHOWN])}" + (" ..." if len(names) > SHOWN else "")
        )
        merging.note("OTHER_TARGETS", text)
    if table.blanks:
        merging.note("BLANK_CELLS", f"{table.blanks} empty cells were taken as zero")
    return TableWeights(
        table.path, weight, present, tuple(other), merging.counts, tuple(merging.issues)
    )


def _present(table: EdgeTable, kind: str, known: Mapping[str, str], atlas: Atlas) -> np.ndarray:
    sides = []
    for names in table.names[kind]:
        measured = np.zeros(len(atlas), dtype=bool)
        measured[[atlas.index[known[name]] for name in names if known[name]]] = True
        sides.append(measured)
    present = np.outer(*sides)
    for other, pre, post in table.missing:
        if other == kind and known[pre] and known[post]:
            present[atlas.index[known[pre]], atlas.index[known[post]]] = False
    return present | present.T if kind == "gap" else present


def consensus(tables: Sequence[TableWeights], atlas: Atlas) -> xr.Dataset:
    """Return mean and standard deviation over the tables that measured each pair.

    Parameters
    ----------
    tables : sequence of TableWeights
        One or more; equal values from different tables count separately.
    atlas : Atlas
        That of the tables.

    Returns
    -------
    xarray.Dataset
        ``weight``, ``weight_std`` (ddof 0) float32, NaN where no table measured the pair;
        ``present``, ``n_tables``, all ``(kind, pre, post)``; ``neuron_class``, ``neuron_type``,
        ``dv``, ``lr`` ``(neuron)``; the edges with other partners along ``other``. Kinds are
        never mixed.
    """
    import xarray as xr

    kinds = [kind for kind in KINDS if any(kind in table.weight for table in tables)]
    dims = ("kind", "pre", "post")
    layers = [_layer([t for t in tables if kind in t.weight], kind) for kind in kinds]
    weight, spread, number = (np.stack(parts) for parts in zip(*layers, strict=True))
    names = _texts(atlas.names)
    other = [(*row, table.path) for table in tables for row in table.other]
    columns = list(zip(*other, strict=True)) or [()] * 5
    return xr.Dataset(
        {
            "weight": (dims, weight.astype(np.float32)),
            "weight_std": (dims, spread.astype(np.float32)),
            "present": (dims, number > 0),
            "n_tables": (dims, number.astype(np.int16)),
            "neuron_class": ("neuron", _texts(atlas.classes)),
            "neuron_type": ("neuron", _texts(atlas.types)),
            "dv": ("neuron", _texts(atlas.dv)),
            "lr": ("neuron", _texts(atlas.lr)),
            "other_pre": ("other", _texts(columns[0])),
            "other_post": ("other", _texts(columns[1])),
            "other_kind": ("other", _texts(columns[2])),
            "other_weight": ("other", np.array(columns[3], np.float32)),
            "other_table": ("other", _texts(columns[4])),
        },
        coords={
            "kind": ("kind", _texts(kinds)),
            "pre": ("pre", names),
            "post": ("post", names.copy()),
            "neuron": ("neuron", names.copy()),
        },
    )


def _layer(tables: Sequence[TableWeights], kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, standard deviation and number of tables of one kind."""
    present = np.stack([table.present[kind] for table in tables])
    values = np.where(present, np.stack([table.weight[kind] for table in tables]), 0.0)
    number = present.sum(axis=0)
    divisor = np.where(number > 0, number, np.nan)
    mean = values.sum(axis=0) / divisor
    squares = np.where(present, (values - np.where(number > 0, mean, 0.0)) ** 2, 0.0)
    return mean, np.sqrt(squares.sum(axis=0) / divisor), number
