"""Canonical lists of neuron names: shipped atlases, and files of the same form."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from neuropipe.errors import ConfigError, MissingInput

__all__ = ["Atlas", "load_atlas", "shipped_atlases"]

FOLDER = Path(__file__).parent / "atlases"
COLUMNS = ("name", "class", "type", "lr", "dv", "role")


@dataclass(frozen=True)
class Atlas:
    """Canonical names in plain string order, with what is known of each.

    Attributes
    ----------
    name, version : str
        Identity of the list; both go into the provenance of every store that used it.
    names : tuple of str
        Canonical names, sorted as plain strings (``AS1, AS10, AS11, AS2``).
    classes, types, lr, dv : tuple of str
        Per name: class (``AVA``), type (``sensory``, ``inter``, ``motor``, ``other``), side
        (``L``, ``R`` or empty), and ``D``, ``V`` or empty.
    """

    name: str
    version: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    types: tuple[str, ...]
    lr: tuple[str, ...]
    dv: tuple[str, ...]
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {name: i for i, name in enumerate(self.names)})

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.index

    def class_of(self, name: str) -> str:
        """Return the class of a canonical name, empty for any other text."""
        position = self.index.get(name)
        return "" if position is None else self.classes[position]

    def type_of(self, name: str) -> str:
        """Return the type of a canonical name, empty for any other text."""
        position = self.index.get(name)
        return "" if position is None else self.types[position]


def shipped_atlases() -> list[str]:
    """Return the names of the atlases that come with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.tsv"))


def _locate(name_or_path: str | Path) -> Path:
    shipped = FOLDER / f"{name_or_path}.tsv"
    if str(name_or_path) in shipped_atlases():
        return shipped
    path = Path(name_or_path)
    if path.suffix == ".tsv":
        if path.is_file():
            return path
        raise MissingInput(f"atlas {path}: no such file")
    known = ", ".join(shipped_atlases())
    raise ConfigError(
        f"ingest.labels.atlas: {str(name_or_path)!r} is neither a shipped atlas ({known}) "
        "nor the path of a .tsv file"
    )


def _header(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.lstrip("# ").split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _check(path: Path, rows: list[dict[str, str]], columns: Iterable[str]) -> None:
    missing = [column for column in ("name", "class") if column not in columns]
    if missing:
        raise ConfigError(f"atlas {path}: column {missing[0]!r} is missing")
    names = [row["name"] for row in rows]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(f"atlas {path}: {repeated[0]!r} is listed more than once")
    if not rows:
        raise ConfigError(f"atlas {path}: no names")


@lru_cache(maxsize=16)
def _load(path: Path, include_can: bool) -> Atlas:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    table = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t")
    rows = [{key: (row.get(key) or "").strip() for key in COLUMNS} for row in table]
    _check(path, rows, table.fieldnames or ())
    if not include_can:
        rows = [row for row in rows if row["role"] != "optional"]
    rows.sort(key=lambda row: row["name"])
    columns = {key: tuple(row[key] for row in rows) for key in COLUMNS}
    return Atlas(
        name=path.stem,
        version=_header(comments).get("version", ""),
        names=columns["name"],
        classes=columns["class"],
        types=columns["type"],
        lr=columns["lr"],
        dv=columns["dv"],
    )


def load_atlas(name_or_path: str | Path = "celegans-300", include_can: bool = False) -> Atlas:
    """Return a canonical list of neuron names.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped atlas, or a tab separated file with the columns ``name``, ``class`` and, where
        known, ``type``, ``lr``, ``dv``, ``role``; lines that begin with ``#`` are comments, one
        of which may state ``version:``.
    include_can : bool
        Keep the rows whose role is ``optional``: CANL and CANR in ``celegans-300``.

    Returns
    -------
    Atlas
        The names in plain string order.

    Raises
    ------
    ConfigError
        The name is unknown, or the file has no such columns or repeated names.
    MissingInput
        The file does not exist.

    Examples
    --------
    >>> atlas = load_atlas("celegans-300")
    >>> len(atlas), len(load_atlas("celegans-300", include_can=True))
    (300, 302)
    """
    return _load(_locate(name_or_path), include_can)
