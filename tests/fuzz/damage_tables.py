"""Damages of text: encodings, columns, cells and lines of tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from damage import BINARY, Damage, text_of

__all__ = ["TABLE", "TEXT"]

Generator = np.random.Generator
Rows = list[list[str]]


def _encoded(name: str, mark: bytes = b"") -> Callable[[Path, Generator], None]:
    def apply(path: Path, rng: Generator) -> None:
        path.write_bytes(mark + path.read_bytes().decode("utf-8").encode(name))

    return apply


def _latin1(path: Path, rng: Generator) -> None:
    data = path.read_bytes()
    at = len(data) // 2
    path.write_bytes(data[:at] + "ä".encode("latin-1") + data[at:])


def _table(change: Callable[[Rows, Generator], Rows]) -> Callable[[Path, Generator], None]:
    """Return a damage of the cells of a table without quotes."""

    def apply(text: str, rng: Generator) -> str:
        lines = [line for line in text.split("\n") if line]
        separator = max("\t,;", key=lines[0].count)
        rows = change([line.split(separator) for line in lines], rng)
        return "\n".join(separator.join(row) for row in rows) + "\n"

    return text_of(apply)


def _row(rows: Rows, rng: Generator) -> int:
    return int(rng.integers(1, len(rows)))


def _column(rows: Rows, rng: Generator) -> int:
    return int(rng.integers(len(rows[0])))


def _cell(text: str) -> Callable[[Rows, Generator], Rows]:
    def change(rows: Rows, rng: Generator) -> Rows:
        rows[_row(rows, rng)][_column(rows, rng)] = text
        return rows

    return change


def _drop_column(rows: Rows, rng: Generator) -> Rows:
    k = _column(rows, rng)
    return [row[:k] + row[k + 1 :] for row in rows]


def _repeat_column(rows: Rows, rng: Generator) -> Rows:
    k = _column(rows, rng)
    return [[*row, row[k]] for row in rows]


def _same_name(rows: Rows, rng: Generator) -> Rows:
    names = rows[0]
    k = int(rng.integers(1, len(names))) if len(names) > 1 else 0
    names[k] = names[k - 1]
    return rows


def _rename_column(rows: Rows, rng: Generator) -> Rows:
    rows[0][_column(rows, rng)] = "Spalte"
    return rows


def _empty_name(rows: Rows, rng: Generator) -> Rows:
    rows[0][_column(rows, rng)] = ""
    return rows


def _swap_columns(rows: Rows, rng: Generator) -> Rows:
    a, b = _column(rows, rng), _column(rows, rng)
    for row in rows[1:]:
        row[a], row[b] = row[b], row[a]
    return rows


def _repeat_row(rows: Rows, rng: Generator) -> Rows:
    k = _row(rows, rng)
    return [*rows[:k], list(rows[k]), *rows[k:]]


def _swap_rows(rows: Rows, rng: Generator) -> Rows:
    a, b = _row(rows, rng), _row(rows, rng)
    rows[a], rows[b] = rows[b], rows[a]
    return rows


def _drop_row(rows: Rows, rng: Generator) -> Rows:
    del rows[_row(rows, rng)]
    return rows


def _ragged(rows: Rows, rng: Generator) -> Rows:
    k = _row(rows, rng)
    rows[k] = rows[k][:-1] if rng.integers(2) else [*rows[k], "1"]
    return rows


def _quoted(rows: Rows, rng: Generator) -> Rows:
    k, c = _row(rows, rng), _column(rows, rng)
    rows[k][c] = f'"{rows[k][c]}'
    return rows


def _decimal_comma(text: str, rng: Generator) -> str:
    return text.replace(".", ",")


def _other_separator(text: str, rng: Generator) -> str:
    used = max("\t,;", key=text.split("\n")[0].count)
    return text.replace(used, {",": "|", "\t": " ", ";": "|"}[used])


TEXT = (
    *(damage for damage in BINARY if damage.name != "header byte flipped"),
    Damage("byte order mark", _encoded("utf-8", b"\xef\xbb\xbf"), "same"),
    Damage("UTF-16", _encoded("utf-16"), "refused"),
    Damage("UTF-16 without mark", _encoded("utf-16-le"), "refused"),
    Damage("UTF-32", _encoded("utf-32"), "refused"),
    Damage("latin-1", _latin1, "refused"),
    Damage("lines end in CR LF", text_of(lambda text, rng: text.replace("\n", "\r\n")), "same"),
    Damage("no end of line at the end", text_of(lambda text, rng: text.rstrip("\n")), "same"),
)
TABLE = (
    *TEXT,
    Damage("lines end in CR", text_of(lambda text, rng: text.replace("\n", "\r")), "content"),
    Damage("blank lines", text_of(lambda text, rng: text.replace("\n", "\n\n")), "content"),
    Damage("decimal comma", text_of(_decimal_comma), "content"),
    Damage("other separator", text_of(_other_separator), "content"),
    Damage("header only", text_of(lambda text, rng: text.split("\n")[0] + "\n"), "told"),
    Damage("no header", text_of(lambda text, rng: text.split("\n", 1)[1]), "told"),
    Damage("column dropped", _table(_drop_column), "content", 3),
    Damage("column twice", _table(_repeat_column), "told", 3),
    Damage("two columns of one name", _table(_same_name), "told", 3),
    Damage("column renamed", _table(_rename_column), "content", 3),
    Damage("column without name", _table(_empty_name), "content", 2),
    Damage("columns swapped", _table(_swap_columns), "content", 3),
    Damage("row twice", _table(_repeat_row), "content", 2),
    Damage("rows swapped", _table(_swap_rows), "content", 2),
    Damage("row dropped", _table(_drop_row), "content", 2),
    Damage("ragged row", _table(_ragged), "content", 4),
    Damage("open quote", _table(_quoted), "content", 3),
    *(
        Damage(f"cell {text or 'empty'}", _table(_cell(text)), "content", 2)
        for text in ("", "n/a", "inf", "1e400", "0x1F", "1_000", "few", "nan", "-1", "1e17")
    ),
)
