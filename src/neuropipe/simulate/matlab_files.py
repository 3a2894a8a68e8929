"""MATLAB files of both formats, for the simulated recordings of every modality."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["write_matlab"]


def write_matlab(path: Path, content: Mapping[str, Mapping[str, Any]], version: str = "5") -> None:
    """Write structs of numbers, texts and cell arrays.

    Parameters
    ----------
    path : Path
        The ``.mat`` file.
    content : mapping
        Struct -> field -> array, number, or a list for a cell array of texts or vectors.
    version : {"5", "7.3"}
        Format.
    """
    {"5": _write_5, "7.3": _write_73}[version](path, content)


def _cells(items: list[Any]) -> np.ndarray:
    """Return a cell array; arrays of one length would else become a matrix."""
    cells = np.empty(len(items), dtype=object)
    for k, item in enumerate(items):
        cells[k] = item
    return cells


def _write_5(path: Path, content: Mapping[str, Mapping[str, Any]]) -> None:
    from scipy.io import savemat

    cells = {
        key: {k: _cells(v) if isinstance(v, list) else v for k, v in part.items()}
        for key, part in content.items()
    }
    savemat(path, cells)


def _write_73(path: Path, content: Mapping[str, Mapping[str, Any]]) -> None:
    import h5py

    def mark(item: Any, kind: str) -> Any:
        item.attrs["MATLAB_class"] = np.bytes_(kind)
        return item

    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")
        for key, part in content.items():
            group = mark(file.create_group(key), "struct")
            for name, value in part.items():
                if not isinstance(value, list):
                    mark(group.create_dataset(name, data=np.asarray(value).T), "double")
                    continue
                cells = []
                for k, item in enumerate(value):
                    cells.append(_cell(refs, f"{name}{k}", item, mark).ref)
                data = np.array(cells, dtype=h5py.ref_dtype)[:, None]
                mark(group.create_dataset(name, data=data, dtype=h5py.ref_dtype), "cell")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124)
    with path.open("r+b") as stream:
        stream.write(header + b"\x00\x02IM")


def _cell(refs: Any, name: str, item: Any, mark: Any) -> Any:
    """Write one cell: text, or a column of numbers; what is empty has its size as its values."""
    is_text = isinstance(item, str)
    if is_text:
        values = np.frombuffer(item.encode("utf-16-le"), np.uint16)
    else:
        values = np.asarray(item, dtype=np.float64)
    empty = values.size == 0
    values = (
        np.zeros(2, np.uint64) if empty else values[None, :] if not is_text else values[:, None]
    )
    cell = mark(refs.create_dataset(name, data=values), "char" if is_text else "double")
    if is_text:
        cell.attrs["MATLAB_int_decode"] = np.int32(2)
    if empty:
        cell.attrs["MATLAB_empty"] = np.uint8(1)
    return cell
