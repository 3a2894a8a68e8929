"""Damages of any file: bytes cut, flipped, zeroed, and files that are something else.

A damage changes one file in place (or what stands in its place) with a generator of its own. What
may come of it is its `rule`:

``same``
    No damage to the eye of a reader: the store must hold the undamaged values.
``refused``
    Must end in an error.
``cut``
    Something is gone. A store must hold what is left of the undamaged values, or tell.
``content``
    What is there may be another content: a store must hold what another library reads, or the
    undamaged values where those are what it needs.
``told``
    As ``content``, but a store needs an issue that the undamaged source does not have.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["ANY_FILE", "BINARY", "Damage", "swapped", "text_of"]

Generator = np.random.Generator
HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>gone</body></html>\n"
LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
ANNEX = b"/annex/objects/SHA256E-s12345--4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2.dat\n"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(64)


@dataclass(frozen=True)
class Damage:
    """One kind of damage.

    Attributes
    ----------
    name : str
        Shown in the table of results.
    apply : callable
        ``apply(path, generator)``.
    rule : str
        See the module.
    repeats : int
        How many seeds in a full run.
    """

    name: str
    apply: Callable[[Path, Generator], None]
    rule: str = "content"
    repeats: int = 1


def _bytes_damage(change: Callable[[bytearray, Generator], bytes]) -> Callable[..., None]:
    def apply(path: Path, rng: Generator) -> None:
        path.write_bytes(bytes(change(bytearray(path.read_bytes()), rng)))

    return apply


def _cut(low: float, high: float) -> Callable[[bytearray, Generator], bytes]:
    """Return a change that keeps a share of the bytes."""
    return lambda data, rng: data[: int(len(data) * rng.uniform(low, high))]


def _cut_head(data: bytearray, rng: Generator) -> bytes:
    return data[: int(rng.integers(1, min(len(data), 1024) + 1))]


def _cut_tail(data: bytearray, rng: Generator) -> bytes:
    return data[: -int(rng.integers(1, max(2, min(64, len(data)))))]


def _cut_blocks(data: bytearray, rng: Generator) -> bytes:
    """Keep whole blocks of 512 bytes, as an interrupted copy does."""
    return data[: 512 * int(rng.integers(0, len(data) // 512 + 1))] or data[:1]


def _flip_bit(data: bytearray, rng: Generator) -> bytes:
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return data


def _flip_head(data: bytearray, rng: Generator) -> bytes:
    """Flip a byte, the more probable the nearer to the beginning."""
    at = int(len(data) ** rng.uniform(0, 1)) - 1
    data[min(at, len(data) - 1)] = int(rng.integers(256))
    return data


def _flip_burst(data: bytearray, rng: Generator) -> bytes:
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(2, 65)))
    data[start:stop] = rng.integers(0, 256, stop - start, dtype=np.uint8).tobytes()
    return data


def _zero(data: bytearray, rng: Generator) -> bytes:
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, max(2, len(data) // 4))))
    data[start:stop] = bytes(stop - start)
    return data


def _zero_head(data: bytearray, rng: Generator) -> bytes:
    stop = min(len(data), int(rng.integers(1, 513)))
    data[:stop] = bytes(stop)
    return data


def _delete(data: bytearray, rng: Generator) -> bytes:
    start = int(rng.integers(len(data)))
    del data[start : start + int(rng.integers(1, max(2, len(data) // 8)))]
    return data or bytearray(b"\x00")


def _insert(data: bytearray, rng: Generator) -> bytes:
    at = int(rng.integers(len(data)))
    data[at:at] = rng.integers(0, 256, int(rng.integers(1, 257)), dtype=np.uint8).tobytes()
    return data


def _append(data: bytearray, rng: Generator) -> bytes:
    return data + rng.integers(0, 256, int(rng.integers(1, 4097)), dtype=np.uint8).tobytes()


def _noise(data: bytearray, rng: Generator) -> bytes:
    return rng.integers(0, 256, len(data), dtype=np.uint8).tobytes()


def _content(data: bytes) -> Callable[[Path, Generator], None]:
    def apply(path: Path, rng: Generator) -> None:
        path.write_bytes(data)

    return apply


def _remove(path: Path, rng: Generator) -> None:
    path.unlink()


def _folder(path: Path, rng: Generator) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path, rng: Generator) -> None:
    path.unlink()
    path.symlink_to(".git/annex/objects/Xk/9f/SHA256E-s1--00/SHA256E-s1--00")


def swapped(file: str) -> Callable[[Path, Generator], None]:
    """Return a damage that puts the file of another recording in place; see `Format`."""

    def apply(path: Path, rng: Generator) -> None:
        root = path
        while not (root / ".other").is_dir():
            root = root.parent
        shutil.copyfile(root / ".other" / file, path)

    return apply


def text_of(change: Callable[[str, Generator], str]) -> Callable[[Path, Generator], None]:
    """Return a damage that changes text in UTF-8."""

    def apply(path: Path, rng: Generator) -> None:
        path.write_bytes(change(path.read_bytes().decode("utf-8"), rng).encode("utf-8"))

    return apply


ANY_FILE = (
    Damage("empty file", _content(b""), "refused"),
    Damage("HTML page", _content(HTML), "refused"),
    Damage("LFS pointer", _content(LFS), "refused"),
    Damage("annex pointer", _content(ANNEX), "refused"),
    Damage("PNG image", _content(PNG), "refused"),
    Damage("folder of that name", _folder, "refused"),
    Damage("dangling link", _dangling, "refused"),
    Damage("noise", _bytes_damage(_noise), "refused"),
)
REMOVED = Damage("removed", _remove, "refused")
BINARY = (
    Damage("cut in the header", _bytes_damage(_cut_head), "cut", 4),
    Damage("cut anywhere", _bytes_damage(_cut(0, 1)), "cut", 6),
    Damage("cut at a block", _bytes_damage(_cut_blocks), "cut", 4),
    Damage("last bytes cut", _bytes_damage(_cut_tail), "cut", 4),
    Damage("bit flipped", _bytes_damage(_flip_bit), "content", 8),
    Damage("header byte flipped", _bytes_damage(_flip_head), "content", 12),
    Damage("burst flipped", _bytes_damage(_flip_burst), "content", 8),
    Damage("range zeroed", _bytes_damage(_zero), "content", 6),
    Damage("header zeroed", _bytes_damage(_zero_head), "content", 3),
    Damage("range deleted", _bytes_damage(_delete), "content", 4),
    Damage("bytes inserted", _bytes_damage(_insert), "content", 3),
    Damage("bytes appended", _bytes_damage(_append), "content", 2),
)
