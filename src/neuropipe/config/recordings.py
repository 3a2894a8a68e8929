"""The recordings table: one row per recording, names composed from BIDS entities."""

from __future__ import annotations

import csv
import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from neuropipe.errors import ConfigError, MissingInput

__all__ = [
    "COLUMNS",
    "MODALITIES",
    "REQUIRED",
    "Recording",
    "read_recordings",
    "write_recordings",
]

MODALITIES = ("calcium", "spikes", "eeg", "meg", "ieeg", "fmri")
COLUMNS = (
    "subject", "session", "task", "acq", "run", "modality", "path", "recording", "cohort",
    "exclude", "reader", "species", "sex", "age", "session_start",
)  # fmt: skip
REQUIRED = ("subject", "modality", "path")
_MISSING = {"", "n/a", "na", "nan", "none", "null"}
_TRUE, _FALSE = {"true", "yes", "1"}, {"false", "no", "0", ""}
# Snakemake reads these in a path as wildcards.
_UNUSABLE = set("<>{}")
_LABEL = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True)
class Recording:
    """One row of the recordings table; every absent text is ``""``.

    Attributes
    ----------
    name : str
        ``sub-<l>[_ses-<l>][_task-<l>][_acq-<l>][_run-<n>]_<modality>``.
    subject, session, task, acq, run : str
        BIDS entities.
    modality : str
        One of `MODALITIES`.
    path : str
        Source file or folder, relative to the study folder unless absolute.
    cohort : str
        Cohort label; empty stands for ``all``.
    exclude : bool
        Left out of everything, its row kept.
    reader : str
        Reader to use when the file does not tell.
    species, sex, age, session_start : str
        Metadata that the source may not state.
    extra : mapping of str to str
        Free columns, for selection.
    """

    name: str
    subject: str
    modality: str
    path: str
    session: str = ""
    task: str = ""
    acq: str = ""
    run: str = ""
    cohort: str = ""
    exclude: bool = False
    reader: str = ""
    species: str = ""
    sex: str = ""
    age: str = ""
    session_start: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> str | None:
        """Return the text of one column, or None when there is no such column."""
        if name == "recording":
            return self.name
        if name in COLUMNS:
            value = getattr(self, name)
            return str(value).lower() if isinstance(value, bool) else value
        return self.extra.get(name)

    def source(self, root: Path) -> Path:
        """Return the path of the source, resolved against the study folder."""
        return root / self.path

    def to_dict(self) -> dict[str, object]:
        """Return plain JSON values."""
        return asdict(self) | {"extra": dict(self.extra)}


def compose_name(row: Mapping[str, str]) -> str:
    """Return the name of a recording from its entities."""
    parts = [f"sub-{row['subject']}"]
    keys = (("ses", "session"), ("task", "task"), ("acq", "acq"), ("run", "run"))
    parts += [f"{key}-{row[column]}" for key, column in keys if row.get(column)]
    return "_".join([*parts, row["modality"]])


def _cell(text: str | None) -> str:
    text = (text or "").strip()
    return "" if text.lower() in _MISSING else text


def _check_entities(row: Mapping[str, str], where: str) -> list[str]:
    problems = [
        f"{where}: {column}: {row[column]!r} is not a label; letters and digits only"
        for column in ("subject", "session", "task", "acq", "run", "cohort")
        if row.get(column) and not _LABEL.fullmatch(row[column])
    ]
    modality = row.get("modality", "")
    if modality and modality not in MODALITIES:
        close = difflib.get_close_matches(modality, MODALITIES, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"One of {', '.join(MODALITIES)}."
        problems.append(f"{where}: modality: {modality!r} is unknown. {hint}")
    if set(row.get("path", "")) & _UNUSABLE:
        problems.append(
            f"{where}: path: {row['path']!r} holds one of {' '.join(sorted(_UNUSABLE))}, which "
            "stand for wildcards in the workflow; rename the file, or link to it"
        )
    problems += [
        f"{where}: {column}: is empty; every recording needs it"
        for column in REQUIRED
        if not row.get(column)
    ]
    return problems


def _check_session_start(text: str, where: str) -> list[str]:
    if not text:
        return []
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return [f"{where}: session_start: {text!r} is not ISO 8601, such as 2024-05-01T09:30+02:00"]
    if moment.tzinfo is None:
        return [
            f"{where}: session_start: {text!r} has no UTC offset; write it, such as {text}+00:00"
        ]
    return []


def _parse_row(raw: Mapping[str, str], where: str) -> tuple[Recording | None, list[str]]:
    row = {key: _cell(value) for key, value in raw.items()}
    problems = _check_entities(row, where)
    problems += _check_session_start(row.get("session_start", ""), where)
    exclude = row.get("exclude", "").lower()
    if exclude not in _TRUE | _FALSE:
        problems.append(
            f"{where}: exclude: {exclude!r} is neither true nor false; a reason goes into a "
            "column of your own"
        )
    if problems:
        return None, problems
    name = compose_name(row)
    if row.get("recording") and row["recording"] != name:
        problems.append(f"{where}: recording: {row['recording']!r} does not agree with {name!r}")
        return None, problems
    known = {key: row.get(key, "") for key in COLUMNS if key not in ("recording", "exclude")}
    extra = {key: value for key, value in sorted(row.items()) if key not in COLUMNS}
    return Recording(name=name, exclude=exclude in _TRUE, extra=extra, **known), []


def _check_header(header: Sequence[str], path: Path) -> None:
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise ConfigError(f"{path}: the column {', '.join(twice)} stands twice; keep one")
    missing = [column for column in REQUIRED if column not in header]
    if not missing:
        return
    hints = []
    for column in missing:
        close = difflib.get_close_matches(column, header, n=1)
        hints.append(f"{column} (found {close[0]!r})" if close else column)
    raise ConfigError(
        f"{path}: the table has no column {', '.join(hints)}; it needs {', '.join(REQUIRED)}, "
        "separated by tabs"
    )


def read_recordings(path: Path) -> tuple[Recording, ...]:
    """Read and check the recordings table (TSV, UTF-8 with or without BOM, ``n/a`` = absent).

    Parameters
    ----------
    path : Path
        The table.

    Returns
    -------
    tuple of Recording
        In the order of the table.

    Raises
    ------
    MissingInput
        If the file does not exist.
    ConfigError
        Naming every faulty row at once.
    """
    if not path.is_file():
        raise MissingInput(
            f"{path}: no recordings table. Write one with `neuropipe scan FOLDER`, "
            "or name it under `recordings:`"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error}); save the table as UTF-8") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(lines, delimiter="\t", restkey="_surplus", restval="")
    _check_header(reader.fieldnames or (), path)
    recordings: list[Recording] = []
    problems: list[str] = []
    for number, raw in enumerate(reader, start=1):
        where = f"{path}: row {number}"
        if "_surplus" in raw:
            problems.append(f"{where}: more cells than columns")
            continue
        recording, faults = _parse_row(raw, where)
        problems += faults
        if recording is not None:
            recordings.append(recording)
    counts = Counter(recording.name for recording in recordings)
    problems += [
        f"{path}: {name}: stands in {count} rows; tell them apart by session, task, acq or run"
        for name, count in counts.items()
        if count > 1
    ]
    if problems:
        raise ConfigError("\n".join(_rows_joined(problems, path)))
    return tuple(recordings)


def _rows_joined(problems: Sequence[str], path: Path) -> list[str]:
    """Return one line for a problem that several rows share, with the numbers of the rows."""
    row = re.compile(rf"{re.escape(str(path))}: row (\d+): ")
    rows: dict[str, list[int]] = {}
    for problem in problems:
        found = row.match(problem)
        text = problem[found.end() :] if found else problem
        rows.setdefault(text, []).extend([int(found[1])] if found else [])
    return [
        f"{path}: row{'s' * (len(numbers) > 1)} {_ranges(numbers)}: {text}" if numbers else text
        for text, numbers in rows.items()
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as ranges.

    Examples
    --------
    >>> _ranges([1, 2, 3, 7, 9, 10])
    '1-3, 7, 9-10'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def write_recordings(
    path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str] = REQUIRED
) -> None:
    """Write rows as a recordings table.

    Parameters
    ----------
    path : Path
        The table.
    rows : sequence of mapping
        Column -> text.
    columns : sequence of str
        Columns to write though they are empty everywhere, which others are not.
    """
    from neuropipe.store.atomic import write_text

    extra = sorted({*columns, *(key for row in rows for key in row)} - set(COLUMNS))
    used = [c for c in (*COLUMNS, *extra) if c in columns or any(row.get(c) for row in rows)]
    lines = ["\t".join(used)]
    lines += ["\t".join(str(row.get(column, "") or "") for column in used) for row in rows]
    write_text(path, "\n".join(lines) + "\n")
