"""Damages of files of named arrays: fields gone, renamed, of other kinds, shapes and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from damage import Damage

__all__ = ["HDF5", "NPY"]

Generator = np.random.Generator
Change = Callable[[np.ndarray, Generator], np.ndarray]


def _nan(values: np.ndarray, rng: Generator) -> np.ndarray:
    values = values.astype(np.float64)
    values.reshape(-1)[int(rng.integers(values.size))] = (np.nan, np.inf, -np.inf)[rng.integers(3)]
    return values


def _all_nan(values: np.ndarray, rng: Generator) -> np.ndarray:
    return np.full(values.shape, np.nan)


def _shorter(values: np.ndarray, rng: Generator) -> np.ndarray:
    axis = int(rng.integers(values.ndim))
    return np.delete(values, -1, axis)


def _longer(values: np.ndarray, rng: Generator) -> np.ndarray:
    axis = int(rng.integers(values.ndim))
    return np.concatenate([values, np.take(values, [-1], axis)], axis)


def _reversed(values: np.ndarray, rng: Generator) -> np.ndarray:
    return np.flip(values, int(rng.integers(values.ndim))).copy()


def _thousandfold(values: np.ndarray, rng: Generator) -> np.ndarray:
    return values * 1000 if values.dtype.kind == "f" else values.astype(np.int64) * 1000


def _one_value(values: np.ndarray, rng: Generator) -> np.ndarray:
    return values.reshape(-1)[0].reshape(())


ARRAYS: tuple[tuple[str, Change, int], ...] = (
    ("values became text", lambda v, rng: v.astype("S8"), 2),
    ("values became complex", lambda v, rng: v.astype(np.complex128), 1),
    ("values became bool", lambda v, rng: v.astype(bool), 1),
    ("values became float16", lambda v, rng: v.astype(np.float16), 1),
    ("values became big endian", lambda v, rng: v.astype(v.dtype.newbyteorder(">")), 2),
    ("values became integers", lambda v, rng: np.nan_to_num(v).astype(np.int32), 2),
    ("one not finite", _nan, 3),
    ("none finite", _all_nan, 2),
    ("transposed", lambda v, rng: v.T.copy(), 2),
    ("one shorter", _shorter, 3),
    ("one longer", _longer, 2),
    ("back to front", _reversed, 2),
    ("no values", lambda v, rng: v[:0].copy(), 2),
    ("one value", _one_value, 2),
    ("one dim more", lambda v, rng: v[None].copy(), 2),
    ("flat", lambda v, rng: v.reshape(-1).copy(), 1),
    ("a thousand times", _thousandfold, 2),
)


def _npy(change: Change) -> Callable[[Path, Generator], None]:
    def apply(path: Path, rng: Generator) -> None:
        np.save(path, change(np.load(path), rng))

    return apply


def _objects(path: Path, rng: Generator) -> None:
    np.save(path, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)


NPY = (
    *(Damage(name, _npy(change), "content", n) for name, change, n in ARRAYS),
    Damage("became a pickle", _objects, "refused"),
)


def _datasets(file: object) -> list[str]:
    import h5py

    names: list[str] = []
    file.visititems(
        lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return sorted(names)


def _pick(file: object, rng: Generator, numbers: bool) -> str:
    """Return a data set; those of numbers with values only, if so asked."""
    names = _datasets(file)
    if numbers:
        names = [n for n in names if file[n].dtype.kind in "iuf" and file[n].ndim and file[n].size]
    return names[int(rng.integers(len(names)))]


def _hdf5(change: Change) -> Callable[[Path, Generator], None]:
    def apply(path: Path, rng: Generator) -> None:
        import h5py

        with h5py.File(path, "r+") as file:
            name = _pick(file, rng, numbers=True)
            values, attrs = file[name][...], dict(file[name].attrs)
            del file[name]
            changed = file.create_dataset(name, data=change(values, rng))
            for key, value in attrs.items():
                changed.attrs[key] = value

    return apply


def _hdf5_drop(path: Path, rng: Generator) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        del file[_pick(file, rng, numbers=False)]


def _hdf5_rename(path: Path, rng: Generator) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        name = _pick(file, rng, numbers=False)
        file.move(name, f"{name}_old")


def _hdf5_drop_group(path: Path, rng: Generator) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda n, item: names.append(n) if isinstance(item, h5py.Group) else None)
        if names:
            del file[sorted(names)[int(rng.integers(len(names)))]]


def _hdf5_group(path: Path, rng: Generator) -> None:
    """Put a group where a data set was."""
    import h5py

    with h5py.File(path, "r+") as file:
        name = _pick(file, rng, numbers=False)
        del file[name]
        file.create_group(name)


def _hdf5_attribute(path: Path, rng: Generator) -> None:
    """Remove an attribute, or make it another value."""
    import h5py

    with h5py.File(path, "r+") as file:
        holders = [file]
        file.visititems(lambda _, item: holders.append(item))
        found = [(h, key) for h in holders for key in sorted(h.attrs)]
        if not found:
            return
        holder, key = found[int(rng.integers(len(found)))]
        values = (None, "", "nonsense", -1.0, 0, np.nan, b"\xff\xfe", [1, 2, 3])
        value = values[int(rng.integers(len(values)))]
        del holder.attrs[key]
        if value is not None:
            holder.attrs[key] = value


def _hdf5_loop(path: Path, rng: Generator) -> None:
    """Let a data set be a link to a group above it, or to nothing."""
    import h5py

    with h5py.File(path, "r+") as file:
        name = _pick(file, rng, numbers=False)
        del file[name]
        file[name] = h5py.SoftLink("/") if rng.integers(2) else h5py.SoftLink("/nowhere")


HDF5 = (
    *(Damage(name, _hdf5(change), "content", n) for name, change, n in ARRAYS),
    Damage("data set dropped", _hdf5_drop, "content", 6),
    Damage("data set renamed", _hdf5_rename, "content", 4),
    Damage("group dropped", _hdf5_drop_group, "content", 4),
    Damage("group in place of data", _hdf5_group, "content", 4),
    Damage("attribute changed", _hdf5_attribute, "content", 10),
    Damage("link in place of data", _hdf5_loop, "content", 4),
)
