"""Preprocessed stores to one array ``activity (subject, neuron, time)``."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from neuropipe.assemble.align import Aligned, align_absolute, align_epochs, shares_protocol
from neuropipe.assemble.exclusion import exclude, one_subject
from neuropipe.assemble.rows import Member, modality_of, read_member, refuse_unnamed
from neuropipe.config.models import InputConfig, Positive
from neuropipe.errors import ConfigError, DataError, Issue, MissingInput, issues_to_json
from neuropipe.preprocess.binning import bin_width
from neuropipe.preprocess.steps import row_dim

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Input", "cohort"]


class Input(InputConfig):
    """Keys of ``input:`` for analyses that get the array of a cohort."""

    shared_names: ClassVar[bool] = True

    align: Literal["absolute", "epochs", "single"] = Field(
        "absolute",
        description="Time across animals: one protocol clock (absolute), pieces at the epochs "
        "(epochs), or one animal (single; the default with scope recording).",
    )
    epochs: list[str] = Field(
        default_factory=list,
        description="Event labels of the epochs, in the order that `align: epochs` puts them.",
    )
    bin_ms: Positive | str = Field(
        20.0,
        description="Bins of spikes, whose rates are the activity, milliseconds; a text may be a "
        "ratio such as 100/3. Spikes need `scope: recording`.",
    )
    connectome: str | None = Field(
        None,
        description="Name of an ingested connectome to compare the result with; null: none.",
    )

    @field_validator("bin_ms")
    @classmethod
    def _exact(cls, value: float | str) -> float | str:
        bin_width(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Input:
        if self.scope == "recording" and "align" not in self.model_fields_set:
            # A default that depends on another key; the model is frozen for everybody else.
            object.__setattr__(self, "align", "single")
        if self.scope == "recording" and self.align != "single":
            raise ValueError(
                f"`align: {self.align}` needs several animals; with `scope: recording` write "
                "`align: single`"
            )
        if self.scope == "cohort" and self.align == "single":
            raise ValueError("`align: single` is for one animal; write `scope: recording`")
        if self.align == "epochs" and not self.epochs:
            raise ValueError("`align: epochs` needs `epochs: [label, ...]`, in canonical order")
        if len(set(self.epochs)) < len(self.epochs):
            raise ValueError(
                "`epochs` lists a label twice; write each once, all its presentations follow "
                "each other"
            )
        return self


def _check_modality(stores: Sequence[xr.DataTree], single: bool) -> None:
    if not stores:
        raise ConfigError("input.recordings: no recording matches; nothing to assemble")
    found = sorted({modality_of(tree) for tree in stores})
    if len(found) > 1:
        raise ConfigError(
            f"input.recordings: a cohort needs one modality, found {', '.join(found)}; select one "
            "with `input.recordings: {modality: ...}`"
        )
    if not single:
        for tree in stores:
            ds = tree.to_dataset()
            refuse_unnamed(found[0], row_dim(ds) if "activity" in ds else "")


def _check_subjects(stores: Sequence[xr.DataTree]) -> None:
    by_subject: dict[str, list[xr.DataTree]] = defaultdict(list)
    for tree in stores:
        by_subject[str(tree.attrs.get("subject_id", ""))].append(tree)
    for subject, trees in sorted(by_subject.items()):
        if len(trees) > 1:
            names = sorted(str(tree.attrs.get("recording", "")) for tree in trees)
            raise ConfigError(
                f"input.recordings: one recording per subject, but subject {subject!r} has "
                f"{', '.join(names)}; select one, {_suggest(trees)}"
            )


def _suggest(trees: Sequence[xr.DataTree]) -> str:
    """Return a selection by the entity in which the recordings of one subject differ."""
    entities = {"run": "run", "session": "session_id", "task": "task", "acq": "acq"}
    for column, attribute in entities.items():
        values = [str(tree.attrs.get(attribute, "")) for tree in trees]
        if len(set(values)) == len(values):
            return f"for example with `input.recordings: {{{column}: '{min(values)}'}}`"
    return "for example with `input.recordings: {run: ...}`, or column `exclude` of the table"


def _order(members: Sequence[Member]) -> list[str]:
    """Return all names in plain string order, the canonical one of every atlas.

    Rows without a shared name (scope recording) follow behind by their ids, 2 before 10.
    """
    shared = {n for m in members for n, known in zip(m.names, m.labelled, strict=True) if known}
    rest = [n for m in members for n, known in zip(m.names, m.labelled, strict=True) if not known]
    return [*sorted(shared), *sorted(rest, key=lambda name: (len(name), name))]


def _first_known(members: Sequence[Member], names: Sequence[str], field: str) -> np.ndarray:
    known: dict[str, str] = {}
    for member in members:
        for name, value in zip(member.names, getattr(member, field), strict=True):
            known[name] = known.get(name) or value
    return np.array([known.get(name, "") for name in names], dtype=object)


def _fill(
    members: Sequence[Member], names: Sequence[str], aligned: Aligned
) -> tuple[np.ndarray, np.ndarray]:
    """Return activity and labelled, ``(subject, neuron, time)`` and ``(subject, neuron)``."""
    place = {name: i for i, name in enumerate(names)}
    shape = (len(members), len(names), len(aligned.time))
    dtype = np.result_type(*(member.values.dtype for member in members))
    activity = np.full(shape, np.nan, dtype=dtype)
    labelled = np.zeros(shape[:2], dtype=bool)
    for s, (member, source, target) in enumerate(
        zip(members, aligned.source, aligned.target, strict=True)
    ):
        rows = np.array([place[name] for name in member.names], dtype=np.int64)
        labelled[s, rows] = member.labelled
        block = np.full((len(rows), shape[2]), np.nan, dtype=dtype)
        block[:, target] = member.values[source].T
        activity[s, rows] = block
    return activity, labelled


def _missing_epochs(members: Sequence[Member], labels: Sequence[str]) -> list[Issue]:
    """Return an issue for each configured label that no recording has among its events."""
    found = {label for member in members for label, _, _ in member.events}
    return [
        Issue(
            "EPOCH_NOT_FOUND",
            "input.epochs",
            f"no recording has an event labelled {label!r}",
            f"labels found: {', '.join(sorted(found)) or 'none'}",
        )
        for label in labels
        if label not in found
    ]


def _aligned(members: Sequence[Member], settings: Input) -> tuple[Aligned, bool, list[Issue]]:
    issues = _missing_epochs(members, settings.epochs)
    if settings.align == "epochs":
        return align_epochs(members, settings.epochs), True, issues
    aligned = align_absolute(members, settings.epochs)
    dt = float(aligned.time[1] - aligned.time[0])
    if shares_protocol(members, settings.epochs, dt):
        return aligned, True, issues
    issue = Issue(
        "TIME_NOT_ALIGNED",
        "input.align",
        "time is not aligned across animals; shared time factors have no common meaning",
        "no common events at the same times: use `scope: recording` with `align: single`, or "
        "`align: epochs` with the labels of the stimuli",
    )
    return aligned, False, [*issues, issue]


def _epoch_table(aligned: Aligned) -> dict[str, Any]:
    if not aligned.epochs:
        return {}
    text = {"epoch_name": "name", "epoch_subject": "subject"}
    seconds = {"epoch_start": "start", "epoch_stop": "stop"}
    table: dict[str, Any] = {}
    for name, field in text.items():
        values = np.array([getattr(epoch, field) for epoch in aligned.epochs], dtype=object)
        table[name] = ("epoch", values)
    for name, field in seconds.items():
        values = np.array([getattr(epoch, field) for epoch in aligned.epochs], dtype=np.float64)
        table[name] = ("epoch", values, {"units": "s"})
    return table


def _connectome(weights: xr.Dataset, names: Sequence[str], name: str) -> dict[str, Any]:
    """Return ``connectome_weight (kind, neuron, neuron_2)``, NaN for neurons it does not hold."""
    if "weight" not in weights:
        raise DataError(f"input.connectome: {name!r} holds no `weight (kind, pre, post)`")
    table = weights["weight"].reindex(pre=list(names), post=list(names))
    values = table.transpose("kind", "pre", "post").values
    kinds = np.array([str(kind) for kind in weights["kind"].values.tolist()], dtype=object)
    other = np.array(list(names), dtype=object)
    return {
        "connectome_weight": (("kind", "neuron", "neuron_2"), values),
        "kind": ("kind", kinds),
        "neuron_2": ("neuron_2", other),
    }


def _dataset(members: Sequence[Member], names: list[str], aligned: Aligned) -> xr.Dataset:
    import xarray as xr

    activity, labelled = _fill(members, names, aligned)
    units = sorted({member.units for member in members})
    kind = np.array([members[0].row] * len(names), dtype=object)
    dims = ("subject", "neuron", "time")
    valid = np.isfinite(activity)
    ds = xr.Dataset(
        {
            "activity": (dims, activity, {"units": units[0] if len(units) == 1 else ""}),
            "labelled": (("subject", "neuron"), labelled),
            **_epoch_table(aligned),
        },
        coords={
            "subject": ("subject", np.array([m.subject for m in members], dtype=object)),
            "recording": ("subject", np.array([m.recording for m in members], dtype=object)),
            "neuron": ("neuron", np.array(names, dtype=object)),
            "neuron_class": ("neuron", _first_known(members, names, "neuron_class")),
            "region": ("neuron", _first_known(members, names, "region")),
            "unit_kind": ("neuron", kind),
            "time": ("time", aligned.time, {"units": "s"}),
        },
    )
    if valid.all():
        return ds.assign_attrs(all_valid=1)
    return ds.assign(valid=(dims, valid))


def cohort(
    stores: Sequence[xr.DataTree], settings: Input, *, connectome: xr.Dataset | None = None
) -> xr.Dataset:
    """Align preprocessed recordings by the names of their rows and by time.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Preprocessed stores (of spikes the ingested ones), one per subject, in any order; with
        ``align: single`` exactly one.
    settings : Input
        The block ``input:`` of the analysis.
    connectome : xarray.Dataset, optional
        ``weight (kind, pre, post)`` of the connectome that ``settings.connectome`` names.

    Returns
    -------
    xarray.Dataset
        ``activity (subject, neuron, time)`` with NaN where a neuron was not identified or a
        sample not recorded, ``valid`` at exactly the other places (or attribute ``all_valid``),
        ``labelled (subject, neuron)``; ``time`` uniform, seconds; ``neuron`` in canonical order,
        with ``neuron_class``, ``region``, ``unit_kind``; ``recording (subject)``; the table
        ``epoch_name, epoch_start, epoch_stop, epoch_subject (epoch)`` of the labels in
        ``settings.epochs``. Attributes ``align``, ``modality``, ``dt_s``, ``time_aligned``
        (0 or 1), ``excluded`` and ``issues`` (JSON).

    Raises
    ------
    ConfigError
        If rows have no shared names, a subject has two recordings, or modalities are mixed.
    DataError
        If recordings have no common uniform time grid, or none is left.
    MissingInput
        If a connectome is named but not given.
    """
    single = settings.align == "single"
    stores = list(stores)
    _check_modality(stores, single)
    if single and len(stores) > 1:
        found = ", ".join(sorted(str(tree.attrs.get("recording", "")) for tree in stores))
        raise ConfigError(
            f"input.align: `single` takes one recording, found {found}; write `scope: recording`, "
            "or `align: absolute`"
        )
    _check_subjects(stores)
    if settings.connectome is not None and connectome is None:
        raise MissingInput(
            f"input.connectome: {settings.connectome!r} was not ingested; list it under "
            "`ingest.connectomes`"
        )
    members = [
        read_member(tree, settings, named=not single, bin_ms=settings.bin_ms) for tree in stores
    ]
    members, excluded, left_out = exclude(
        members, settings.epochs if settings.align == "epochs" else None
    )
    aligned, shared, issues = _aligned(members, settings)
    few = [] if single else one_subject(members)
    names = _order(members)
    ds = _dataset(members, names, aligned)
    if connectome is not None and settings.connectome is not None:
        ds = ds.assign(_connectome(connectome, names, settings.connectome))
    return ds.assign_attrs(
        align=settings.align,
        modality=members[0].modality,
        dt_s=float(f"{aligned.time[1] - aligned.time[0]:.12g}"),
        time_aligned=int(shared),
        excluded=json.dumps(excluded, ensure_ascii=False),
        issues=issues_to_json([*left_out, *few, *issues]),
    )
