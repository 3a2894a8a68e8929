"""Hashes depend on content, and on nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from neuropipe.errors import MissingInput
from neuropipe.store.chunks import BUFFER_BYTES, CHUNK_BYTES, ChunkBuffer, chunk_shape
from neuropipe.store.clock import describe_clock, is_regular
from neuropipe.store.hashing import VariableDigest, content_sha256, file_sha256, source_sha256
from neuropipe.store.nwb.clock import expand_clock, rate_form


@pytest.fixture
def ds():
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    label = np.array(["AVAL", "ä", ""], dtype=object)
    return xr.Dataset(
        {"dff": (("time", "roi"), values)},
        {"time": np.arange(4.0), "roi": np.arange(3), "label": ("roi", label)},
    )


def test_file_hash_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 1_000_000)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 1_000_000).hexdigest()
    with pytest.raises(MissingInput):
        file_sha256(tmp_path / "b")


def test_source_hash_ignores_place_and_order(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder / "data" / "sub").mkdir(parents=True)
        (tmp_path / folder / "data" / "sub" / "x").write_text("x")
        (tmp_path / folder / "data" / "y").write_text("y")
        (tmp_path / folder / "z").write_text("z")
    one = [tmp_path / "one" / "data", tmp_path / "one" / "z"]
    two = [tmp_path / "two" / "z", tmp_path / "two" / "data"]
    digest = source_sha256(one)
    assert digest == source_sha256(two)
    (tmp_path / "two" / "data" / ".snakemake_timestamp").touch()
    assert digest == source_sha256(two)
    (tmp_path / "two" / "data" / "y").write_text("Y")
    assert digest != source_sha256(two)
    (tmp_path / "one" / "z").rename(tmp_path / "one" / "w")
    assert digest != source_sha256([one[0], tmp_path / "one" / "w"])


def test_content_hash_ignores_order_chunks_attributes_and_kind_of_text(ds):
    digest = content_sha256(ds)
    assert content_sha256(ds[["label", "dff"]]) == digest
    assert content_sha256(ds.assign_attrs(a=1)) == digest
    assert content_sha256(ds.chunk(time=3)) == digest
    for dtype in ("U4", "T", object):
        text = ("roi", ds["label"].values.astype(dtype))
        assert content_sha256(ds.assign_coords(label=text)) == digest
    big_endian = ds["dff"].variable.astype(">f4")
    assert content_sha256(ds.assign(dff=big_endian)) == digest
    fortran = xr.Variable(ds["dff"].dims, np.asfortranarray(ds["dff"].values))
    assert content_sha256(ds.assign(dff=fortran)) == digest


def test_content_hash_sees_names_dims_dtypes_and_values(ds):
    changed = [
        ds.rename(dff="f"),
        ds.rename(time="t"),
        ds.transpose(),
        ds.astype("float64"),
        ds.assign(dff=ds["dff"].copy(data=ds["dff"].values + 1)),
        ds.assign_coords(label=("roi", np.array(["AVA", "Lä", ""], dtype=object))),
        ds.isel(time=slice(3)),
        ds.drop_vars("label"),
    ]
    hashes = {content_sha256(one) for one in [ds, *changed]}
    assert len(hashes) == len(changed) + 1


def test_content_hash_of_empty_and_scalar_variables():
    empty = xr.Dataset({"a": ("x", np.zeros(0)), "b": ((), 3.5), "c": ((), "ä")})
    assert content_sha256(empty) == content_sha256(empty.copy())
    assert content_sha256(empty) != content_sha256(empty.drop_vars("a"))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_digest_does_not_depend_on_blocks(lengths):
    values = np.random.default_rng(0).integers(0, 99, (sum(lengths), 2), dtype=np.int16)
    whole = VariableDigest(("t", "u"), values.shape, values.dtype)
    whole.update(values)
    parts = VariableDigest(("t", "u"), values.shape, values.dtype)
    for part in np.split(values, np.cumsum(lengths)[:-1]):
        parts.update(part)
    assert parts.digest() == whole.digest()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 9))
def test_buffer_passes_whole_chunks_on(lengths, chunk):
    values = np.arange(sum(lengths))
    written = []
    buffer = ChunkBuffer(chunk, lambda start, part: written.append((start, part.copy())))
    for part in np.split(values, np.cumsum(lengths)[:-1]):
        buffer.add(part)
    buffer.flush()
    assert all(start % chunk == 0 for start, _ in written)
    assert all(len(part) % chunk == 0 for _, part in written[:-1])
    np.testing.assert_array_equal(np.concatenate([part for _, part in written]), values)


@given(st.integers(0, 10**7), st.integers(0, 300_000), st.sampled_from([1, 2, 4, 8]))
def test_chunks_fit_the_array_and_the_buffer(n_times, n_rows, itemsize):
    shape = chunk_shape((n_times, n_rows), itemsize)
    assert 1 <= shape[0] <= max(1, n_times)
    assert 1 <= shape[1] <= max(1, n_rows)
    assert shape[0] * shape[1] * itemsize <= CHUNK_BYTES
    assert shape[0] * n_rows * itemsize <= max(BUFFER_BYTES, n_rows * itemsize)


def test_chunks_are_as_specified():
    assert chunk_shape((800, 140), 4) == (800, 140)
    assert chunk_shape((10**6, 130), 2) == (65_536, 64)
    assert chunk_shape((10**7,), 8) == (1_048_576,)
    assert chunk_shape((), 8) == ()


def test_clock_of_a_day_at_1_khz_is_regular_in_spite_of_rounding():
    time = 86_400 + np.arange(10_000) / 1000
    # The steps differ by more than 1e-9 relative although nothing is irregular.
    assert np.ptp(np.diff(time)) > 1e-9 * 1e-3
    assert describe_clock(time).sampling == "regular"
    assert describe_clock(time).rate == 1000.0


def test_clock_of_a_large_source_time_keeps_its_rounding():
    time = (1.8e6 + np.arange(1000) / 30.0) - 1.8e6
    assert not is_regular(time)
    assert is_regular(time, t0=1.8e6)


def test_missing_samples_are_gaps_and_jitter_is_irregular():
    time = np.delete(np.arange(100) / 4.0, [10, 11, 50])
    clock = describe_clock(time)
    assert (clock.sampling, clock.grid_rate) == ("gaps", 4.0)
    np.testing.assert_array_equal(clock.observed, [[0, 2.25], [3, 12.25], [12.75, 24.75]])
    assert np.isnan(clock.rate)
    jitter = np.arange(100) / 4.0 + np.random.default_rng(0).uniform(0, 1e-3, 100)
    assert describe_clock(jitter).sampling == "irregular"
    assert describe_clock(jitter).observed.shape == (1, 2)
    jitter[60:] += 5
    observed = describe_clock(jitter).observed
    np.testing.assert_array_equal(observed[:, 1], jitter[[59, 99]])


@pytest.mark.parametrize("n", [0, 1])
def test_clocks_without_a_step(n):
    clock = describe_clock(np.full(n, 2.5))
    assert clock.sampling == "irregular"
    assert clock.observed.tolist() == [[2.5, 2.5]][:n]
    assert rate_form(xr.Variable("time", np.full(n, 2.5))) is None


@pytest.mark.parametrize("rate", [10.0, 30.0, 7.3, 1000.0, 59.94])
def test_regular_clocks_are_rebuilt_bit_for_bit(rate):
    n = 5000
    clocks = [
        np.arange(n) / rate,
        12.5 + np.arange(n) / rate,
        np.arange(n) * (1 / rate),
        np.arange(100, n) / rate,
        np.linspace(0, (n - 1) / rate, n),
    ]
    for time in clocks:
        form = rate_form(xr.Variable("time", time))
        assert form["rate"] == rate
        assert form["formula"]
        expanded = xr.Variable("time", expand_clock(form, len(time)))
        np.testing.assert_array_equal(expanded.values, time)
