"""The canonical schema of a store: root attributes, modalities, and a checker."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from neuropipe.errors import DataError, Issue
from neuropipe.store.hashing import iter_blocks

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "MODALITIES",
    "SCHEMA_VERSION",
    "ModalitySchema",
    "RootAttributes",
    "check_tree",
    "check_version",
    "modality_of",
    "parse_attributes",
]

SCHEMA_VERSION = "1.0.0"
LABEL = r"[A-Za-z0-9]*"
SEXES = ("", "M", "F", "U", "O", "XX", "XO")


@dataclass(frozen=True)
class ModalitySchema:
    """What is particular to a modality; a new modality is a new entry of `MODALITIES`.

    Attributes
    ----------
    row : str
        Row dim.
    series : tuple of str
        Variables with a time dim that may stand in ``/raw``; one of them must.
    raw_attrs : tuple of str
        Attributes of ``/raw`` beside those that every modality has.
    clocked : bool
        Whether the series share a ``time`` coordinate.
    """

    row: str
    series: tuple[str, ...]
    raw_attrs: tuple[str, ...] = ()
    clocked: bool = True


ELECTRODE_ATTRS = ("line_freq", "projectors", "compensation_grade", "dev_head_t", "coord_frame")
MODALITIES: dict[str, ModalitySchema] = {
    "calcium": ModalitySchema(
        "roi",
        ("fluorescence", "neuropil", "dff", "deconvolved"),
        ("imaging_rate", "indicator", "space"),
    ),
    "spikes": ModalitySchema("unit", ("spike_time", "spike_unit"), ("sample_rate",), clocked=False),
    "eeg": ModalitySchema("channel", ("signal",), ELECTRODE_ATTRS),
    "meg": ModalitySchema("channel", ("signal",), ELECTRODE_ATTRS),
    "ieeg": ModalitySchema(
        "channel", ("signal",), (*ELECTRODE_ATTRS, "impedance", "reference_scheme", "space")
    ),
    "fmri": ModalitySchema(
        "voxel", ("bold",), ("affine", "volume_shape", "space", "resolution", "source_files")
    ),
}


class RootAttributes(BaseModel):
    """Root attributes of every store; absent is "" or NaN, never None."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    schema_name: str = Field(alias="schema", description="`neuropipe.<modality>`.")
    schema_version: str = Field(SCHEMA_VERSION, description="Semantic version of the schema.")
    recording: str = Field("", description="Name of the recording.")
    subject_id: str = Field(pattern=rf"^{LABEL}$", min_length=1, description="BIDS subject.")
    session_id: str = Field("", pattern=rf"^{LABEL}$", description="BIDS session.")
    task: str = Field("", pattern=rf"^{LABEL}$", description="BIDS task.")
    acq: str = Field("", pattern=rf"^{LABEL}$", description="BIDS acquisition.")
    run: str = Field("", pattern=rf"^{LABEL}$", description="BIDS run.")
    species: str = Field("", description="Latin binomial.")
    sex: str = Field("", description="M, F, U or O; for C. elegans XX or XO.")
    age: str = Field("", description="ISO 8601 duration.")
    session_start: str = Field("", description="ISO 8601 with UTC offset.")
    dataset: str = Field("", description="Name of the data set.")
    dataset_version: str = Field("", description="Version of the data set.")
    t0_source: float = Field(0.0, description="First source timestamp, s on the source's clock.")
    clock: str = Field("session", description="Clock of `time`.")
    clock_scale: float = Field(1.0, description="a of t_session = a t_device + b.")
    clock_offset: float = Field(0.0, description="b of t_session = a t_device + b, s.")
    sampling: Literal["regular", "gaps", "irregular"] = Field(
        "irregular", description="`gaps`: regular but for missing samples."
    )
    rate: float = Field(float("nan"), description="Hz when regular, else NaN.")
    grid_rate: float = Field(float("nan"), description="Hz of the grid, also with gaps.")
    source_sha256: str = Field("", description="Hash of the source files.")
    content_sha256: str = Field("", description="Hash of the variables of /raw.")
    pipeline: str = Field("[]", description="JSON: versions, configuration hash, steps.")
    issues: str = Field("[]", description="JSON list of issues.")
    all_valid: bool = Field(False, description="No sample is missing, so there is no `valid`.")

    @field_validator("session_start")
    @classmethod
    def _with_offset(cls, value: str) -> str:
        if value and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("needs a UTC offset, such as 2022-08-02T10:00:00+00:00")
        return value

    @field_validator("pipeline", "issues")
    @classmethod
    def _json_text(cls, value: str) -> str:
        json.loads(value)
        return value

    @field_validator("schema_name")
    @classmethod
    def _known_modality(cls, value: str) -> str:
        if value.removeprefix("neuropipe.") not in MODALITIES or "." not in value:
            raise ValueError(f"must be neuropipe.<modality>, one of {', '.join(MODALITIES)}")
        return value

    @property
    def modality(self) -> str:
        """Modality that `schema` names."""
        return self.schema_name.removeprefix("neuropipe.")

    def to_attrs(self) -> dict[str, Any]:
        """Return the attributes under the names that the store uses."""
        attrs = self.model_dump(by_alias=True)
        if not attrs["all_valid"]:
            del attrs["all_valid"]
        return attrs


def attribute_names() -> list[str]:
    """Return the names that a root attribute may have."""
    return [field.alias or name for name, field in RootAttributes.model_fields.items()]


def _explain(error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = get_close_matches(key, attribute_names(), n=1)
        return f"{key}: unknown attribute" + (f". Did you mean {near[0]!r}?" if near else "")
    if error["type"] == "missing":
        return f"{key}: absent, but every store needs it"
    return f"{key}: {error['msg']}, found {error['input']!r}"


def parse_attributes(attrs: Mapping[Any, Any], where: object) -> RootAttributes:
    """Return validated root attributes.

    Raises
    ------
    DataError
        If attributes are unknown, absent or of a wrong type; all problems at once.
    """
    try:
        return RootAttributes.model_validate(dict(attrs))
    except ValidationError as error:
        problems = "; ".join(_explain(dict(entry)) for entry in error.errors())
        raise DataError(f"{where}: root attributes: {problems}") from None


def modality_of(attrs: Mapping[Any, Any]) -> str:
    """Return the modality that the attribute `schema` names, or ""."""
    return str(attrs.get("schema", "")).removeprefix("neuropipe.")


def check_version(version: str, where: object) -> Issue | None:
    """Compare the schema version of a store with ours.

    Returns
    -------
    Issue or None
        An error for another major version, a warning for a newer minor one.
    """
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    if not found:
        text = f"schema_version is {version!r}, expected a version such as {SCHEMA_VERSION}"
        return Issue("SCHEMA_VERSION", str(where), text, "ingest it again", "error")
    major, minor = int(found[1]), int(found[2])
    own_major, own_minor = (int(part) for part in SCHEMA_VERSION.split(".")[:2])
    text = f"the store has schema version {version}, this neuropipe reads {SCHEMA_VERSION}"
    if major > own_major:
        hint = f"install a neuropipe that reads schema version {major}"
        return Issue("SCHEMA_VERSION", str(where), text, hint, "error")
    if major < own_major:
        return Issue("SCHEMA_VERSION", str(where), text, "ingest it again", "error")
    if minor > own_minor:
        hint = "what the newer version added is not understood; update neuropipe"
        return Issue("SCHEMA_VERSION", str(where), text, hint, "warning")
    return None


class _Checker:
    """Collect what is wrong with a tree; each check adds issues and never raises."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def fault(self, code: str, where: str, message: str, hint: str = "ingest it again") -> None:
        self.issues.append(Issue(code, where, message, hint, "error"))

    def attributes(self, attrs: Mapping[Any, Any]) -> None:
        version = check_version(str(attrs.get("schema_version", "")), "/ attribute schema_version")
        if version is not None:
            self.issues.append(version)
        known = dict(attrs)
        if version is not None and version.severity == "warning":
            known = {key: known[key] for key in attribute_names() if key in known}
        try:
            root = parse_attributes(known, "/")
        except DataError as error:
            self.fault("ATTRIBUTES", "/", str(error))
            return
        if root.sex not in SEXES:
            text = f"sex is {root.sex!r}, expected one of {', '.join(SEXES[1:])}"
            self.issues.append(Issue("VOCABULARY", "/ attribute sex", text))

    def series(self, ds: xr.Dataset, where: str, names: tuple[str, ...], row: str) -> None:
        present = [name for name in names if name in ds.data_vars]
        if not present:
            self.fault("NO_SERIES", where, f"none of {', '.join(names)}; found {list(ds)}")
        for name in present:
            variable = ds[name].variable
            if variable.dims != ("time", row):
                self.fault(
                    "DIMS", f"{where}/{name}", f"dims {variable.dims}, not ('time', {row!r})"
                )
            if variable.dtype.kind not in "iuf" or variable.dtype == np.float16:
                text = f"dtype {variable.dtype}, expected integers, float32 or float64"
                self.fault("DTYPE", f"{where}/{name}", text)

    def time(self, ds: xr.Dataset, where: str) -> None:
        for name, variable in ds.variables.items():
            if name == "time" or (str(name).startswith("time_") and variable.dims == (name,)):
                self._clock(f"{where}/{name}", variable)
        if "time" in ds.dims and "time" not in ds.variables:
            self.fault("BAD_TIME", f"{where}/time", "there is a dim time, but no times")

    def _clock(self, where: str, variable: xr.Variable) -> None:
        if variable.dtype != np.float64 or variable.ndim != 1:
            text = f"{variable.ndim}-D {variable.dtype}, expected 1-D float64 seconds"
            self.fault("BAD_TIME", where, text)
            return
        last = np.empty(0)
        for start, block in iter_blocks(variable):
            values = np.concatenate([last, block])
            bad = np.flatnonzero(~(np.diff(values) > 0))
            if not np.all(np.isfinite(values)):
                self.fault("BAD_TIME", where, "some times are NaN or infinite")
                return
            if len(bad):
                k = int(bad[0])
                text = f"not strictly increasing: {values[k]!r} s then {values[k + 1]!r} s"
                self.fault("BAD_TIME", f"{where}[{start + k + 1 - len(last)}]", text)
                return
            last = values[-1:]

    def rows(self, ds: xr.Dataset, where: str, row: str) -> None:
        if row not in ds.variables:
            self.fault("ROWS", f"{where}/{row}", "the rows have no names")
            return
        counts = Counter(str(value) for value in ds[row].values)
        twice = sorted(value for value, count in counts.items() if count > 1)
        if twice:
            self.fault("DUPLICATE", f"{where}/{row}", f"names occur twice: {', '.join(twice[:5])}")

    def masks(self, ds: xr.Dataset, where: str, row: str) -> None:
        expected = {"valid": ("time", row), f"{row}_ok": (row,)}
        for name, dims in expected.items():
            if name in ds.variables:
                mask = ds[name].variable
                if mask.dims != dims or mask.dtype != bool:
                    text = f"{mask.dtype} with dims {mask.dims}, expected bool with dims {dims}"
                    self.fault("MASK", f"{where}/{name}", text)
        if "valid" not in ds.variables and not ds.attrs.get("all_valid", False):
            text = "neither a mask `valid` nor the attribute all_valid = true"
            self.fault("MASK", f"{where}/valid", text)
        if f"{row}_ok" not in ds.variables:
            self.fault("MASK", f"{where}/{row}_ok", "absent, expected one value per row")

    def observed(self, ds: xr.Dataset, where: str) -> None:
        if "observed" not in ds.variables:
            self.fault("OBSERVED", f"{where}/observed", "absent, expected observed(interval, edge)")
            return
        observed = ds["observed"].variable
        if observed.dims != ("interval", "edge") or observed.sizes["edge"] != 2:
            text = f"dims {dict(observed.sizes)}, expected interval and edge (2)"
            self.fault("OBSERVED", f"{where}/observed", text)
        elif np.any(observed.values[:, 1] < observed.values[:, 0]):
            self.fault("OBSERVED", f"{where}/observed", "an interval stops before it starts")

    def text(self, ds: xr.Dataset, where: str) -> None:
        for name, variable in ds.variables.items():
            if variable.dtype.kind in "US":
                text = f"fixed-width text {variable.dtype}, expected variable-length text"
                self.fault("TEXT", f"{where}/{name}", text)

    def table(self, ds: xr.Dataset, where: str, dim: str, columns: tuple[str, ...]) -> None:
        for column in columns:
            if column not in ds.variables:
                self.fault("COLUMNS", f"{where}/{column}", f"absent; found {list(ds.variables)}")
            elif ds[column].dims != (dim,):
                self.fault("DIMS", f"{where}/{column}", f"dims {ds[column].dims}, not {(dim,)}")


TABLES = {
    "events": ("event", ("onset", "duration", "label")),
    "trials": ("trial", ("start", "stop")),
}


def check_tree(tree: xr.DataTree) -> list[Issue]:
    """Check an ingested or a preprocessed store against the schema.

    Parameters
    ----------
    tree : xarray.DataTree
        With ``/raw`` (ingested), or with ``activity`` in its root (preprocessed).

    Returns
    -------
    list of Issue
        Severity ``error`` for what breaks the schema; empty when all is well.
    """
    checker = _Checker()
    checker.attributes(tree.attrs)
    modality = MODALITIES.get(modality_of(tree.attrs))
    main = "/raw" if "raw" in tree.children else "/"
    ds = tree[main].to_dataset() if modality else None
    if modality is not None and ds is not None:
        _check_main(checker, ds, main.rstrip("/"), modality)
    for name, node in tree.children.items():
        group = node.to_dataset(inherit=False)
        if name != "raw":
            checker.text(group, f"/{name}")
            checker.time(group, f"/{name}")
        if name in TABLES and group.variables:
            checker.table(group, f"/{name}", *TABLES[name])
    return checker.issues


def _check_main(checker: _Checker, ds: xr.Dataset, where: str, modality: ModalitySchema) -> None:
    row = modality.row
    if not where:
        row = next((str(dim) for dim in ds["activity"].dims[1:]), row) if "activity" in ds else row
        checker.series(ds, where, ("activity",), row)
    elif modality.clocked:
        row = next((str(d) for n in modality.series if n in ds for d in ds[n].dims[1:]), row)
        checker.series(ds, where, modality.series, row)
    checker.rows(ds, where, row)
    checker.text(ds, where)
    checker.observed(ds, where)
    if where and row == "channel":
        from neuropipe.store.channels import channel_faults

        for code, name, message in channel_faults(ds):
            checker.fault(code, f"{where}/{name}", message)
    if modality.clocked:
        checker.time(ds, where)
        checker.masks(ds, where, row)
    elif where:
        from neuropipe.store.spikes import spike_faults

        for code, name, message in spike_faults(ds):
            checker.fault(code, f"{where}/{name}", message)
