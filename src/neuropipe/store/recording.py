"""Stream a recording into its store: checks, masks, observed time and hashes on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuropipe.errors import DataError, IngestError, Issue, issues_to_json
from neuropipe.store.atomic import atomic_path
from neuropipe.store.clock import Clock, RegularClock, describe_clock
from neuropipe.store.hashing import VariableDigest, combine_digests
from neuropipe.store.lazy_time import regular_time
from neuropipe.store.masks import ValidMask
from neuropipe.store.schema import (
    MODALITIES,
    SCHEMA_VERSION,
    ModalitySchema,
    attribute_names,
    parse_attributes,
)
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.spikes import BY_TIME, SpikeLedger
from neuropipe.store.variables import clean_dataset, plain_attrs
from neuropipe.store.zarr_arrays import (
    ArrayWriter,
    new_store,
    write_dataset,
    write_group_attrs,
    write_variable,
)

if TYPE_CHECKING:
    import zarr

__all__ = ["GROUPS", "write_recording"]

READER = "correct the source, or the reader that gave this"
GROUPS = ("events", "trials", "behavior", "provenance")
DTYPES = ("float32", "float64", *(f"{k}{n}" for k in ("int", "uint") for n in (8, 16, 32, 64)))


def write_recording(
    path: Path | str,
    *,
    modality: str,
    attrs: Mapping[str, Any],
    raw: xr.Dataset,
    series: Sequence[SeriesSpec],
    blocks: Iterator[Block],
    groups: Mapping[str, xr.Dataset | None],
    issues: Sequence[Issue] = (),
    clock: RegularClock | None = None,
) -> str:
    """Write the store of one recording; memory is bounded by blocks and chunks.

    Parameters
    ----------
    path : path
        The final ``.zarr`` folder. It appears when everything is written, or not at all.
    modality : str
        Key of `MODALITIES`.
    attrs : mapping
        Root attributes, and attributes of ``/raw`` that the modality has. Sampling, rate and
        hashes are found here.
    raw : xarray.Dataset
        Coordinates and small variables: ``time`` (float64 s from session start) unless `clock`
        is given, rows.
        A mask ``valid`` or ``<row>_ok`` is combined with what the samples show.
    series : sequence of SeriesSpec
        Series of ``/raw``. The first one with NaN-able samples decides `valid`.
    blocks : iterator of Block
        Samples of all series, each series in time order.
    groups : mapping
        ``events``, ``trials``, ``behavior``, ``provenance``; None or absent: no such group.
    issues : sequence of Issue
        Kept in the root attribute ``issues``, with those that the samples add.
    clock : RegularClock or None
        Start (s from session start), rate and number of the samples, in place of ``time``.

    Returns
    -------
    str
        ``content_sha256``: hash of the variables of ``/raw``.

    Raises
    ------
    IngestError
        ``BAD_TIME``, ``LENGTH_MISMATCH``, ``EMPTY``, ``NAN_IN_DATA``.
    DataError
        If attributes or variables do not fit the schema.
    """
    path = Path(path)
    schema = _modality(modality, path)
    root_attrs, raw_attrs = _split_attrs(attrs, schema, path)
    if clock is not None:
        raw = raw.assign_coords(xr.Coordinates({"time": regular_time(clock)}, indexes={}))
    raw = clean_dataset(raw, "/raw")
    raw.attrs = {**raw.attrs, **raw_attrs}
    _check_groups(groups, path)
    _check_shapes(raw, series, schema, path)
    raw, found = _with_clock(raw, clock, float(root_attrs.get("t0_source", 0.0)), path)
    root = {
        "schema": f"neuropipe.{modality}",
        "schema_version": SCHEMA_VERSION,
        **root_attrs,
        **found,
    }
    parse_attributes(root, path)
    with atomic_path(path) as partial, new_store(partial) as group, ExitStack() as stack:
        writer = _RawWriter(group.create_group("raw"), raw, series, schema, path)
        ledger = None
        if not schema.clocked:
            n_spikes = series[0].shape[0]
            ledger = stack.enter_context(SpikeLedger(raw, n_spikes, path.name, partial.parent))
        content = writer.write(blocks if ledger is None else ledger.watch(blocks))
        if ledger is not None:
            ledger.check()
            ledger.write_by_time(group.create_group(BY_TIME))
        for name in GROUPS:
            if (ds := groups.get(name)) is not None:
                write_dataset(group.create_group(name), clean_dataset(ds, f"/{name}"))
        root["content_sha256"] = content
        root["issues"] = issues_to_json([*issues, *writer.issues])
        write_group_attrs(group, parse_attributes(root, path).to_attrs(), ())
    return content


def _modality(modality: str, path: Path) -> ModalitySchema:
    if modality not in MODALITIES:
        known = ", ".join(MODALITIES)
        raise DataError(f"{path}: modality {modality!r} is unknown; expected one of {known}")
    return MODALITIES[modality]


def _split_attrs(
    attrs: Mapping[str, Any], schema: ModalitySchema, path: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    plain = plain_attrs(attrs, str(path))
    known = attribute_names()
    root = {key: value for key, value in plain.items() if key in known}
    raw = {key: value for key, value in plain.items() if key in schema.raw_attrs}
    unknown = sorted(set(plain) - set(root) - set(raw))
    if unknown:
        near = get_close_matches(unknown[0], [*known, *schema.raw_attrs], n=1)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{path}: unknown attributes {', '.join(unknown)}{hint}")
    for key in ("t0_source", "rate", "grid_rate", "clock_scale", "clock_offset"):
        if key in root and not isinstance(root[key], str):
            root[key] = float(root[key])
    return root, raw


def _check_groups(groups: Mapping[str, Any], path: Path) -> None:
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        known = ", ".join(GROUPS)
        raise DataError(f"{path}: unknown groups {', '.join(unknown)}; expected {known}")


def _check_shapes(
    raw: xr.Dataset, series: Sequence[SeriesSpec], schema: ModalitySchema, path: Path
) -> None:
    if not series:
        raise IngestError("EMPTY", path, "no series", "the source holds no recording to ingest")
    for spec in series:
        if spec.name not in schema.series:
            known = ", ".join(schema.series)
            raise DataError(f"{path}: series {spec.name!r} is unknown; expected one of {known}")
        if np.dtype(spec.dtype).name not in DTYPES:
            raise IngestError(
                "DTYPE",
                f"{path}: /raw/{spec.name}",
                f"samples are {np.dtype(spec.dtype)}, expected integers, float32 or float64",
                "convert the source",
            )
        for dim, length in zip(spec.dims, spec.shape, strict=True):
            where = f"{path}: /raw/{spec.name}"
            if length == 0:
                raise IngestError(
                    "EMPTY", where, f"length 0 along {dim}, expected at least 1", READER
                )
            if dim in raw.sizes and raw.sizes[dim] != length:
                text = f"{length} along {dim}, but the coordinates have {raw.sizes[dim]}"
                raise IngestError("LENGTH_MISMATCH", where, text, "set trim: 1 if one is too many")
    for dim in {dim for spec in series for dim in spec.dims if schema.clocked}:
        if dim not in raw.coords:
            found = ", ".join(str(name) for name in raw.coords) or "none"
            raise DataError(f"{path}: /raw: no coordinate {dim!r}; found {found}")


def _with_clock(
    raw: xr.Dataset, given: RegularClock | None, t0: float, path: Path
) -> tuple[xr.Dataset, dict[str, Any]]:
    """Check `time`; return /raw with observed time, and the root attributes of the clock."""
    if "time" not in raw.coords:
        return raw, {}
    clock = _checked_clock(raw, t0, path) if given is None else given.describe()
    added: dict[str, Any] = {}
    if "observed" not in raw.variables:
        added["observed"] = (("interval", "edge"), clock.observed, {"units": "s"})
    if clock.sampling == "gaps" and "segment_start" not in raw.variables:
        added["segment_start"] = (("segment",), clock.segment_start, {"units": "s"})
    found = {"sampling": clock.sampling, "rate": clock.rate, "grid_rate": clock.grid_rate}
    return raw.assign(added), found


def _checked_clock(raw: xr.Dataset, t0: float, path: Path) -> Clock:
    time = np.asarray(raw["time"].values)
    where = f"{path}: /raw/time"
    if time.dtype != np.float64:
        raise IngestError(
            "BAD_TIME", where, f"dtype {time.dtype}, expected float64 seconds", READER
        )
    if not np.all(np.isfinite(time)):
        bad = int(np.flatnonzero(~np.isfinite(time))[0])
        raise IngestError(
            "BAD_TIME", where, f"sample {bad} is {time[bad]}, expected a number", READER
        )
    steps = np.diff(time)
    if len(steps) and steps.min() <= 0:
        bad = int(np.flatnonzero(steps <= 0)[0])
        text = (
            f"sample {bad + 1} is {time[bad + 1]!r} s after {time[bad]!r} s, expected an increase"
        )
        raise IngestError("BAD_TIME", where, text, "the clock was reset or samples were repeated")
    return describe_clock(time, t0)


class _RawWriter:
    """Write ``/raw``: small variables, then series, then what the samples told."""

    def __init__(
        self,
        group: zarr.Group,
        raw: xr.Dataset,
        series: Sequence[SeriesSpec],
        schema: ModalitySchema,
        path: Path,
    ) -> None:
        self._group, self._raw, self._path = group, raw, path
        self._specs = {spec.name: spec for spec in series}
        self._main = series[0] if schema.clocked else None
        self._row = series[0].dims[-1] if schema.clocked else schema.row
        self._digests: dict[str, VariableDigest] = {}
        self.issues: list[Issue] = []

    def write(self, blocks: Iterator[Block]) -> str:
        """Write everything and return the hash of ``/raw``."""
        derived = {"valid", f"{self._row}_ok"} if self._main else set()
        small = self._raw.drop_vars(derived, errors="ignore")
        self._digests = write_dataset(self._group, small)
        writers = {name: self._series_writer(spec) for name, spec in self._specs.items()}
        mask, mask_writer = self._open_mask(next(iter(writers.values())).chunks)
        # Integers cannot be NaN: only a mask that the reader gives says anything of them.
        may_miss = np.dtype(next(iter(self._specs.values())).dtype).kind == "f"
        masked = next(iter(self._specs)) if may_miss or "valid" in self._raw else ""
        for block in blocks:
            values = self._checked(block, writers)
            writers[block.name].add(values)
            if mask is not None and mask_writer is not None and block.name == masked:
                mask_writer.add(mask.of(block.start, values))
        for name, writer in writers.items():
            self._finish(name, writer)
        attrs = dict(small.attrs)
        coords = [str(name) for name in small.coords]
        if mask is not None and mask_writer is not None:
            attrs["all_valid"] = self._finish_mask(mask, mask_writer)
            coords.append(f"{self._row}_ok")
        write_group_attrs(self._group, attrs, coords)
        return combine_digests(self._digests)

    def _series_writer(self, spec: SeriesSpec) -> ArrayWriter:
        return ArrayWriter(
            self._group, spec.name, spec.dims, spec.shape, spec.dtype, attrs=spec.attrs
        )

    def _open_mask(self, chunks: tuple[int, ...]) -> tuple[ValidMask | None, ArrayWriter | None]:
        """Return mask and writer; the mask has the chunks of the samples that it is read with."""
        main = self._main
        if main is None or len(main.dims) != 2:
            return None, None
        given = None
        if "valid" in self._raw:
            known = self._raw["valid"].transpose(*main.dims).variable
            given = lambda start, stop: known[start:stop].values.astype(bool)  # noqa: E731
        mask = ValidMask((main.shape[0], main.shape[1]), given)
        writer = ArrayWriter(
            self._group, "valid", main.dims, main.shape, np.dtype(bool),
            fill_value=True, chunks=chunks,
        )  # fmt: skip
        return mask, writer

    def _checked(self, block: Block, writers: Mapping[str, ArrayWriter]) -> np.ndarray:
        where = f"{self._path}: /raw/{block.name}"
        if block.name not in writers:
            raise DataError(f"{where}: samples of a series that the schema of the reader lacks")
        spec, values = self._specs[block.name], np.asarray(block.values)
        if block.start != writers[block.name].length:
            text = f"block starts at sample {block.start}, expected {writers[block.name].length}"
            raise IngestError("LENGTH_MISMATCH", where, text, "the reader skips or repeats samples")
        if values.shape[1:] != tuple(spec.shape[1:]) or len(values) + block.start > spec.shape[0]:
            text = f"block of shape {values.shape} at sample {block.start}, expected {spec.shape}"
            raise IngestError("LENGTH_MISMATCH", where, text, "the reader states another shape")
        if values.dtype.name != np.dtype(spec.dtype).name:
            raise DataError(f"{where}: samples are {values.dtype}, the reader states {spec.dtype}")
        return values

    def _finish(self, name: str, writer: ArrayWriter) -> None:
        expected = self._specs[name].shape[0]
        if writer.length != expected:
            text = f"{writer.length} samples came, {expected} were announced"
            where = f"{self._path}: /raw/{name}"
            raise IngestError("LENGTH_MISMATCH", where, text, "the source ends before its header")
        writer.close()
        self._digests[name] = writer.digest

    def _finish_mask(self, mask: ValidMask, writer: ArrayWriter) -> bool:
        """Write ``<row>_ok``, drop a `valid` that says nothing; return whether all is valid."""
        row_ok = mask.row_ok
        name = f"{self._row}_ok"
        # The issue stays in the store: a name, not the place where the store was written.
        where = f"{self._path.name}: /raw/{self._main.name}" if self._main else self._path.name
        if not row_ok.any():
            text = "more than half of the samples of every row are NaN"
            raise IngestError("NAN_IN_DATA", where, text, "nothing usable is left")
        self._report_missing(mask, where)
        if name in self._raw:
            row_ok = row_ok & self._raw[name].values.astype(bool)
        variable = xr.Variable((self._row,), row_ok)
        self._digests[name] = write_variable(self._group, name, variable)
        if mask.all_valid:
            del self._group["valid"]
            return True
        writer.close()
        self._digests["valid"] = writer.digest
        return False

    def _report_missing(self, mask: ValidMask, where: str) -> None:
        bad = np.flatnonzero(~mask.row_ok)
        if not mask.all_valid:
            rows = int(np.count_nonzero(mask.missing_fraction))
            text = f"samples are missing in {rows} rows, more than half in {len(bad)}"
            issue = Issue("NAN_IN_DATA", where, text, "masked by `valid`", "info")
            self.issues.append(replace(issue, severity="warning") if len(bad) else issue)
