"""Damaged MATLAB 5 files are told before SciPy reads them, which would end the process."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from neuropipe.errors import IngestError
from neuropipe.io.matlab_elements import check_matlab5

HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
INT8, UINT8, INT32, UINT32, DOUBLE, MATRIX, COMPRESSED = 1, 2, 5, 6, 9, 14, 15


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def array(cls, body, *, dims=(1, 2), flags=0, name=b"x", kind=MATRIX):
    """Return an array with these elements as its body."""
    parts = element(UINT32, struct.pack("<II", cls | flags, 0))
    parts += element(INT32, struct.pack(f"<{len(dims)}i", *dims)) + element(INT8, name)
    return element(kind, parts + body)


def doubles(*values, kind=DOUBLE):
    return element(kind, np.array(values, dtype="<f8").tobytes())


def int32(*values):
    return element(INT32, np.array(values, dtype="<i4").tobytes())


def check(tmp_path, body, header=HEADER):
    path = tmp_path / "a.mat"
    path.write_bytes(header + body)
    check_matlab5(path)
    return scipy.io.loadmat(path)


def packed(data):
    return struct.pack("<II", COMPRESSED, len(data)) + data


GOOD = doubles(1.0, 2.0)
SPARSE = {"cls": 5, "dims": (3, 2)}
FAULTS = {
    # SciPy takes these types as places in a table, and dies.
    "no type of numbers": (array(6, doubles(1.0, 2.0, kind=8)), "type 8, which may not"),
    "no type at all": (array(6, doubles(1.0, 2.0, kind=4000)), "type 4000, which may not"),
    "type 0": (array(6, element(0, b""), dims=(0, 0)), "type 0, which may not"),
    "text of no type": (array(4, element(0, b"ab")), "type 0, which may not"),
    "fewer values": (array(6, doubles(1.0)), "8 bytes of type 9, 2 values expected"),
    "wider than its class": (array(11, GOOD, dims=(1, 2)), "type 9 in an array of class 11"),
    "as wide, of another kind": (array(6, element(13, bytes(16))), "type 13 in an array of class"),
    "no imaginary part": (array(6, GOOD, flags=1 << 11), "8 bytes said to follow, 0 are left"),
    "negative dims": (array(6, GOOD, dims=(-1, -2)), "dims (-1, -2)"),
    "one dim": (array(6, GOOD, dims=(2,)), "dims (2,)"),
    "too many dims": (array(6, GOOD, dims=(1,) * 33), "expected 2 to 32"),
    "no class": (array(99, GOOD), "class 99, unknown"),
    "bytes left over": (array(6, GOOD + bytes(8)), "8 bytes left over"),
    "text too short": (array(4, element(16, b"a")), "1 characters, 2 expected"),
    "cells that are not there": (array(1, b"", dims=(1, 9)), "9 arrays do not fit"),
    "countless cells": (array(1, b"", dims=(1 << 30, 1 << 30)), "do not fit"),
    "no cell": (array(1, doubles(1.0) + doubles(2.0)), "type 9, expected 14"),
    "names of no width": (array(2, int32(0) + element(INT8, b"ab\0\0")), "names of 0 each"),
    "names cut": (array(2, int32(3) + element(INT8, b"ab\0\0")), "4 bytes of names of 3"),
    "name without end": (array(2, int32(4) + element(INT8, b"abcd")), "has no end"),
    "struct without fields": (
        array(2, int32(4) + element(INT8, b""), dims=(9999, 9999)), "without fields"
    ),
    "rows out of bounds": (
        array(body=int32(9) + int32(0, 1, 1) + doubles(1.0), **SPARSE), "rows 9 to 9, 3 expected"
    ),
    "starts that fall": (array(body=int32(0) + int32(0, 2, 1) + doubles(1.0), **SPARSE), "rise"),
    "too few starts": (array(body=int32(0) + int32(0, 1) + doubles(1.0), **SPARSE), "2 starts"),
    "too few values": (array(body=int32(0) + int32(0, 1, 1) + doubles(), **SPARSE), "for 1 values"),
    "a small element too large": (
        array(6, struct.pack("<HHI", UINT8, 5, 0)), "small element of 5 bytes"
    ),
    "flags of another size": (element(MATRIX, element(UINT32, bytes(4))), "4 bytes of flags"),
    "a variable of no bytes": (element(MATRIX, b""), "a variable of 0 bytes"),
    "another element": (element(9, bytes(16)), "type 9, expected 14 or 15"),
    "compressed and cut": (packed(zlib.compress(array(6, GOOD))[:-6]), "ends before its sum"),
    "compressed, more after it": (packed(zlib.compress(array(6, GOOD)) + b"ab"), "bytes follow"),
    "compressed, goes on": (packed(zlib.compress(array(6, GOOD) + b"ab")), "goes on after its end"),
    "compressed of nothing": (packed(zlib.compress(b"")), "is empty"),
    "compressed, cannot hold that": (
        packed(zlib.compress(struct.pack("<II", MATRIX, 1 << 31) + bytes(99))), "cannot come of"
    ),
    "not compressed": (packed(b"abcdefgh"), "cannot be unpacked"),
}  # fmt: skip


def deep(depth):
    body = array(6, GOOD)
    for _ in range(depth):
        body = array(1, body, dims=(1, 1))
    return body


@pytest.mark.parametrize(("body", "text"), FAULTS.values(), ids=FAULTS)
def test_a_damaged_element_is_named(tmp_path, body, text):
    with pytest.raises(IngestError) as caught:
        check(tmp_path, body)
    assert caught.value.code == "NOT_THIS_FORMAT"
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "128 bytes, at least one variable"),
        (array(6, GOOD)[:-1], "said to follow"),
        (array(6, GOOD) + b"\x0e", "8 bytes of a variable expected, 1 follow"),
        (packed(zlib.compress(array(6, GOOD)))[:-1], "said to follow"),
    ],
    ids=["no variable", "cut", "begun", "compressed"],
)
def test_a_file_that_ends_too_early_is_truncated(tmp_path, body, text):
    with pytest.raises(IngestError, match="TRUNCATED") as caught:
        check(tmp_path, body)
    assert text in str(caught.value)


def test_arrays_in_arrays_have_an_end(tmp_path):
    assert check(tmp_path, deep(20))["x"].shape == (1, 1)
    with pytest.raises(IngestError, match="deep"):
        check(tmp_path, deep(200))


def test_versions_and_orders(tmp_path):
    with pytest.raises(IngestError, match="version and order of bytes"):
        check(tmp_path, array(6, GOOD), HEADER[:124] + b"\x00\x01IN")
    big = HEADER[:124] + b"\x01\x00MI"
    body = struct.pack(">IIIIIIIIII", 6, 8, 6, 0, 5, 8, 1, 2, 1, 1) + b"x".ljust(8, b"\0")
    body += struct.pack(">IIdd", 9, 16, 1.0, 2.0)
    read = check(tmp_path, struct.pack(">II", MATRIX, len(body)) + body, big)
    np.testing.assert_array_equal(read["x"], [[1.0, 2.0]])
    path = tmp_path / "b.mat"  # 7.3 is HDF5, which tells its damages itself
    path.write_bytes(HEADER[:124] + b"\x00\x02IM")
    assert check_matlab5(path) is None


def everything():
    """Return a variable of each kind that SciPy writes."""
    events = np.zeros(3, dtype=[("type", object), ("latency", object)])
    for k in range(3):
        events[k] = (f"code{k}", float(k))
    cells = np.empty(4, object)
    cells[:] = ["AVAL", np.arange(3.0), "µV", np.array([])]
    return {
        "x": np.random.default_rng(0).standard_normal((5, 4)), "i": np.arange(7, dtype=np.int16),
        "z": np.array([1 + 2j, 3]), "s": {"events": events, "cells": cells, "text": "abc"},
        "sparse": scipy.sparse.csc_matrix(np.eye(4)), "logical": np.array([True, False]),
        "texts": np.array(["ab", "cde"]), "none": np.zeros((0, 3)), "one": np.uint8(3),
    }  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_whole_passes(tmp_path, compressed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, everything(), do_compression=compressed)
    assert check_matlab5(path) is None


def test_what_matlab_and_octave_wrote_passes():
    tests = pytest.importorskip("scipy.io.matlab.tests")
    folder = Path(tests.__file__).parent / "data"
    paths = [p for p in sorted(folder.glob("test*.mat")) if p.read_bytes()[:6] == b"MATLAB"]
    assert len(paths) >= 80
    for path in paths:
        check_matlab5(path)


# Damages files and reads what passes; the seed goes out first, so that the last one is known.
CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from scipy.io import loadmat
from neuropipe.errors import IngestError
from neuropipe.io.matlab_elements import check_matlab5

def numbers(value, found):
    if value.dtype.names:
        for name in value.dtype.names:
            numbers(value[name], found)
    elif value.dtype == object:
        for item in value.ravel():
            numbers(item, found)
    elif value.dtype.kind in "iufc":
        found.append(value)
    return found

def flat(path):
    content = {k: v for k, v in sorted(loadmat(path).items()) if k[0] != "_" and k != "sparse"}
    return {k: numbers(value, []) for k, value in content.items()}

def differing(found):
    pairs = [pair for k in whole if k in found for pair in zip(whole[k], found[k], strict=True)]
    return sum(a.shape != b.shape or not np.array_equal(a, b, equal_nan=True) for a, b in pairs)

source, path = Path(sys.argv[1]), Path(sys.argv[1] + ".damaged")
whole, data = flat(source), source.read_bytes()
ends = {"refused": 0, "same": 0, "one": 0, "more": 0, "renamed": 0, "raised": 0}
for seed in range(int(sys.argv[2])):
    rng = np.random.default_rng(seed)
    damaged, way = bytearray(data), int(rng.integers(4))
    at = int(rng.integers(124, len(data)))
    if way == 0:
        damaged[at] = int(rng.integers(256))
    elif way == 1:
        damaged[at] ^= 1 << int(rng.integers(8))
    elif way == 2:
        del damaged[max(at, 128):]
    else:
        damaged[at : at + 8] = rng.integers(0, 20, len(damaged[at : at + 8])).astype("u1").tobytes()
    path.write_bytes(damaged)
    print(seed, file=sys.stderr, flush=True)
    try:
        check_matlab5(path)
    except IngestError:
        ends["refused"] += 1
        continue
    try:
        found = flat(path)
    except (ValueError, TypeError):
        ends["raised"] += 1
        continue
    kinds = {0: "same" if set(found) == set(whole) else "renamed", 1: "one"}
    ends[kinds.get(differing(found), "more")] += 1
print(json.dumps(ends))
"""


def damaged(tmp_path, compressed, seeds):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, everything(), do_compression=compressed)
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(path), str(seeds)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-600:]
    return json.loads(child.stdout)


def test_no_damage_ends_the_process(tmp_path):
    """Without the check, 55 of these 2,000 ended it with signal 11."""
    ends = damaged(tmp_path, False, 2000)
    assert sum(ends.values()) == 2000
    assert ends["refused"] > 1000
    # Values have no sum here: what was damaged in one stays in that one.
    assert ends["more"] == 0
    print(ends)


def test_what_is_compressed_is_refused_or_the_same(tmp_path):
    ends = damaged(tmp_path, True, 1000)
    assert sum(ends.values()) == 1000
    assert ends["same"] == 1000 - ends["refused"]


def test_a_large_variable_is_checked_by_pieces(tmp_path):
    path = tmp_path / "a.mat"
    values = np.random.default_rng(0).standard_normal(200_000)
    for compressed in (False, True):
        scipy.io.savemat(path, {"x": values}, do_compression=compressed)
        check_matlab5(path)
        data = bytearray(path.read_bytes())
        data[-1000] ^= 1
        path.write_bytes(data)
        if compressed:
            with pytest.raises(IngestError, match="unpacked"):
                check_matlab5(path)
