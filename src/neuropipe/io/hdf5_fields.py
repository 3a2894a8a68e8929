"""Fields of an HDF5 file by their paths, with faults that name what is there."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.checks import decode_texts, open_hdf5
from neuropipe.io.field_map import no_matrix, no_numbers

__all__ = ["Fields"]


class Fields:
    """An open HDF5 file, seen from one of its groups.

    Parameters
    ----------
    path : Path
        The file.
    group : str
        Group that relative paths start from; empty for the root.

    Raises
    ------
    IngestError
        The file is damaged or of another format.
    ConfigError
        There is no such group.
    """

    def __init__(self, path: Path, group: str = "") -> None:
        import h5py

        self.path = path
        self._file = open_hdf5(path)
        root = self._file.get(group) if group else self._file
        if not isinstance(root, h5py.Group):
            groups = [str(k) for k, v in self._file.items() if isinstance(v, h5py.Group)]
            self.close()
            close = difflib.get_close_matches(group, groups, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Groups: {', '.join(groups)}."
            raise ConfigError(f"{path}: there is no group {group!r}. {hint}")
        self._root = root

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def where(self, name: str) -> str:
        """Return file and field for a message."""
        full = name if name.startswith("/") else f"{self._root.name.rstrip('/')}/{name}"
        return f"{self.path}: {full}"

    def _refuse_external(self, name: str) -> None:
        import h5py

        at = self._file if name.startswith("/") else self._root
        for part in name.strip("/").split("/"):
            link = at.get(part, getlink=True) if isinstance(at, h5py.Group) else None
            if isinstance(link, h5py.ExternalLink):
                target = (self.path.parent / link.filename).resolve()
                if not target.is_relative_to(self.path.parent.resolve()):
                    raise IngestError(
                        "UNSAFE",
                        self.where(name),
                        f"links to {link.filename!r}, outside the folder of the file",
                        "copy the linked file beside this one",
                    )
            at = at.get(part) if isinstance(at, h5py.Group) else None

    def array(self, name: str) -> Any:
        """Return a data set, unread.

        Raises
        ------
        IngestError
            ``MISSING_SIDECAR`` when there is none of this name, ``UNSAFE`` when it lies in a
            file elsewhere.
        """
        import h5py

        self._refuse_external(name)
        found = self._root.get(name)
        if not isinstance(found, h5py.Dataset):
            names = self.names()
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"data sets: {', '.join(names[:20])}"
            raise IngestError("MISSING_SIDECAR", self.where(name), "no such data set", hint)
        if found.external:
            raise IngestError(
                "UNSAFE",
                self.where(name),
                f"its samples lie in {found.external[0][0]!r}",
                "repack the file so that it holds its own data",
            )
        return found

    def numbers(self, name: str) -> Any:
        """Return a data set of numbers, unread."""
        found = self.array(name)
        if found.dtype.kind not in "biuf":
            raise no_numbers(self, name, found.dtype)
        return found

    def traces(self, name: str) -> Any:
        """Return a two-dimensional data set of numbers, unread."""
        found = self.numbers(name)
        if found.ndim != 2:
            raise no_matrix(self, name, found.shape)
        return found

    def attribute(self, name: str) -> str:
        """Return an attribute of the group, or of the file, as text."""
        for holder in (self._root, self._file):
            if name in holder.attrs:
                return decode_texts([holder.attrs[name]], self.where(name))[0]
        raise IngestError(
            "MISSING_SIDECAR",
            self.where(name),
            "no such attribute",
            f"attributes: {', '.join([*self._root.attrs, *self._file.attrs]) or 'none'}",
        )

    def names(self) -> list[str]:
        """Return the data sets below the group, sorted."""
        import h5py

        found: list[str] = []

        def add(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found.append(name)

        self._root.visititems(add)
        return sorted(found)

    def matrices(self) -> list[str]:
        """Return the two-dimensional data sets below the group with their shapes."""
        items = [(name, self._root[name]) for name in self.names()]
        return [f"{name} {item.shape}" for name, item in items if item.ndim == 2]
