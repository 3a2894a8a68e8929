"""Pieces of a long job, each kept when it is done: a job that was killed goes on after the last.

A piece is what a restart, a fold or a resampling gives. What is read back has the values and the
memory layout of what was computed, so that a job that was resumed ends in the same bits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from neuropipe.store.atomic import atomic_path

__all__ = ["Pieces", "signature_of"]

Value = TypeVar("Value")

LEAST_S = 5.0  # a piece that took less is computed again
_PLAIN = (bool, int, float, str)


def signature_of(*parts: str | int | float | np.ndarray | None) -> str:
    """Return one hash over texts, numbers and arrays, in this order.

    Examples
    --------
    >>> signature_of("a", np.zeros(2)) == signature_of("a", np.zeros(2))
    True
    >>> signature_of("a", np.zeros(2)) == signature_of("a", np.zeros((2, 1)))
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"array {part.dtype} {part.shape} ".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(f"{type(part).__name__} {part!r} ".encode())
    return digest.hexdigest()


class Pieces:
    """The finished pieces of one job, in a folder of its own.

    Parameters
    ----------
    folder : Path or None
        Where they lie; None: nothing is kept.
    signature : str
        `signature_of` all that the job depends on; pieces with another one are ignored.
    kinds : sequence of type
        Data classes and named tuples that a piece may be made of, beside arrays, tuples and plain
        values.
    """

    def __init__(
        self, folder: Path | None, signature: str = "", kinds: Sequence[type] = ()
    ) -> None:
        self.folder, self.signature = folder, signature
        self.kinds = {kind.__name__: kind for kind in kinds}

    def __call__(self, name: str, compute: Callable[[], Value]) -> Value:
        """Return the piece of a name: read, or computed and kept.

        Parameters
        ----------
        name : str
            A file name without its suffix.
        compute : callable
            Gives the same whenever it is called. The pieces that it is made of, kept `within` the
            same name, are removed once it is kept as a whole.
        """
        if self.folder is None:
            return _settled(compute())
        found = self._load(self.folder / f"{name}.npz")
        if found is not None:
            return found[0]
        began = time.monotonic()
        value = _settled(compute())
        if time.monotonic() - began >= LEAST_S:
            self._save(self.folder / f"{name}.npz", value)
            shutil.rmtree(self.folder / name, ignore_errors=True)
        return value

    def within(self, name: str) -> Pieces:
        """Return the keeper of the pieces that one piece is made of."""
        folder = None if self.folder is None else self.folder / name
        return Pieces(folder, self.signature, tuple(self.kinds.values()))

    def _save(self, path: Path, value: Any) -> None:
        arrays: dict[str, np.ndarray] = {}
        form = {"signature": self.signature, "value": self._packed(value, arrays)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, Path(partial).open("wb") as file:
            arrays["form"] = np.array(json.dumps(form))
            np.savez(file, **arrays)  # type: ignore[arg-type] # names of arrays, no options

    def _load(self, path: Path) -> tuple[Any] | None:
        """Return the piece in a file; None if it is absent, of another job or damaged."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                form = json.loads(str(stored["form"]))
                if form["signature"] != self.signature:
                    return None
                return (self._unpacked(form["value"], stored),)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def _packed(self, value: Any, arrays: dict[str, np.ndarray]) -> Any:
        """Return the form of a value as JSON; its arrays go into `arrays`."""
        if isinstance(value, np.ndarray):
            key = f"a{len(arrays)}"
            arrays[key] = value
            return {"array": key}
        if value is None or type(value) in _PLAIN:
            return {"plain": value}
        if isinstance(value, np.generic):
            return {"scalar": value.item(), "dtype": value.dtype.str}
        if type(value) in (tuple, list):
            parts = [self._packed(one, arrays) for one in value]
            return {"list" if isinstance(value, list) else "tuple": parts}
        kind = type(value).__name__
        if self.kinds.get(kind) is not type(value):
            raise TypeError(f"a piece holds a {kind}, which is none of {', '.join(self.kinds)}")
        named = {name: self._packed(one, arrays) for name, one in _members(value).items()}
        return {"kind": kind, "members": named}

    def _unpacked(self, form: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
        if "array" in form:
            return arrays[form["array"]]
        if "scalar" in form:
            return np.dtype(form["dtype"]).type(form["scalar"])
        if "kind" in form:
            members = {name: self._unpacked(one, arrays) for name, one in form["members"].items()}
            return self.kinds[form["kind"]](**members)
        for name, make in (("tuple", tuple), ("list", list)):
            if name in form:
                return make(self._unpacked(one, arrays) for one in form[name])
        return form["plain"]


def _members(value: Any) -> dict[str, Any]:
    """Return the fields of a data class or of a named tuple."""
    if is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in fields(value) if one.init}
    return dict(value._asdict())


def _settled(value: Any) -> Any:
    """Return a value whose arrays lie in memory as they will when they are read back."""
    if isinstance(value, np.ndarray):
        whole = value.flags.c_contiguous or value.flags.f_contiguous
        return value if whole else np.ascontiguousarray(value)
    if type(value) in (tuple, list):
        return type(value)(_settled(one) for one in value)
    if is_dataclass(value) or hasattr(value, "_asdict"):
        return type(value)(**{name: _settled(one) for name, one in _members(value).items()})
    return value
