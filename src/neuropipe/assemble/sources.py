"""One recording as trials are cut from it, and which of its rows may enter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.assemble.cuts import Samples, Series, Span, Spikes
from neuropipe.assemble.exclusion import Unusable
from neuropipe.assemble.rows import modality_of, region_names, row_tests, too_short
from neuropipe.errors import DataError, issues_from_json
from neuropipe.preprocess.binning import bin_width
from neuropipe.preprocess.steps import row_dim

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Source", "common_span", "read_source", "row_columns"]


@dataclass(frozen=True)
class Source:
    """One recording, and which of its rows may enter.

    Attributes
    ----------
    recording, subject, session, task, acq, run, modality, row : str
        Of the store; `row` is its row dim.
    ids, region : numpy.ndarray
        Text per row.
    enters : numpy.ndarray
        Bool per row: what ``units.where`` and the quality of the row say.
    dropped : tuple of dict
        Rows that do not enter, with the reason.
    samples : Samples
        Spikes or samples.
    units : str
        Of the values.
    tree : xarray.DataTree
        The store.
    spike_count, observed_s : numpy.ndarray or None
        Per row; None for what has no spikes.
    """

    recording: str
    subject: str
    session: str
    task: str
    acq: str
    run: str
    modality: str
    row: str
    ids: np.ndarray
    region: np.ndarray
    enters: np.ndarray
    dropped: tuple[dict[str, Any], ...]
    samples: Samples
    units: str
    tree: xr.DataTree = field(repr=False)
    spike_count: np.ndarray | None = None
    observed_s: np.ndarray | None = None


def _main(tree: xr.DataTree, modality: str, width: Fraction, span_s: Span | None
          ) -> tuple[xr.Dataset, Spikes | None]:  # fmt: skip
    """Return the dataset whose rows are chosen, with what spikes say of each unit."""
    if modality != "spikes":
        ds = tree.to_dataset()
        if "activity" not in ds:
            name = tree.attrs.get("recording", "")
            raise DataError(f"{name}: the store holds no `activity`; preprocess the recording")
        return ds, None
    raw = tree["raw"].to_dataset()
    spikes = Spikes(raw, width, span_s)
    count, seconds = spikes.totals()
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = count / seconds
    return raw.assign_coords(spike_count=("unit", count), mean_rate=("unit", rate)), spikes


def row_columns(tree: xr.DataTree) -> set[str]:
    """Return what ``units.where`` can compare in a store."""
    if modality_of(tree) == "spikes":
        ds, row, more = tree["raw"].to_dataset(), "unit", {"spike_count", "mean_rate"}
    else:
        ds, more = tree.to_dataset(), set()
        row = row_dim(ds) if "activity" in ds else ""
    return more | {str(name) for name, v in ds.variables.items() if v.dims == (row,)}


def read_source(
    tree: xr.DataTree, where: str | None, span_s: Span | None, bin_ms: float | str
) -> Source:
    """Read the rows of one store, and its samples or spikes within the span.

    Parameters
    ----------
    tree : xarray.DataTree
        Preprocessed store; of spikes the ingested one.
    where : str or None
        Comparison over per-row coordinates that rows must fulfil.
    span_s : tuple of float or None
        What lies outside does not count, seconds.
    bin_ms : float or str
        Width of a bin of spikes, milliseconds.

    Raises
    ------
    Unusable
        If the recording is too short, or no row is left.
    ConfigError
        If ``units.where`` cannot be evaluated.
    DataError
        If a store is not preprocessed, or its samples lie on no grid.
    """
    modality = modality_of(tree)
    ds, spikes = _main(tree, modality, bin_width(bin_ms), span_s)
    row = "unit" if spikes is not None else row_dim(ds)
    short = _short(ds, spikes, span_s)
    if short:
        raise Unusable(short, "lower `preprocess.*.min_samples`, widen `input.span_s`")
    ids = np.array([str(value) for value in ds[row].values.tolist()], dtype=object)
    enters, dropped = np.ones(len(ids), dtype=bool), []
    for reason, out in row_tests(ds, row, where):
        names = ids[enters & out].tolist()
        enters &= ~out
        if names:
            dropped.append({"kind": "rows", "reason": reason, "count": len(names), "names": names})
    if not enters.any():
        raise _nothing_left(tree, row, len(ids), dropped)
    origin = {key: str(tree.attrs.get(key, "")) for key in ("recording", "task", "acq", "run")}
    origin |= {key: str(tree.attrs.get(f"{key}_id", "")) for key in ("subject", "session")}
    stamp = {"recording": origin["recording"], "subject": origin["subject"]}
    return Source(
        **origin,
        modality=modality,
        row=row,
        ids=ids,
        region=np.array(region_names(ds, len(ids)), dtype=object),
        enters=enters,
        dropped=tuple({**stamp, **entry} for entry in dropped),
        samples=spikes if spikes is not None else Series(ds, span_s),
        units="1" if spikes is not None else str(ds["activity"].attrs.get("units", "")),
        tree=tree,
        spike_count=None if spikes is None else ds["spike_count"].values,
        observed_s=None if spikes is None else spikes.totals()[1],
    )


def _nothing_left(
    tree: xr.DataTree, row: str, n_rows: int, dropped: Sequence[Mapping[str, Any]]
) -> Unusable:
    """Return what kept all rows out, with what preprocessing remarked on rows."""
    why = ", ".join(f"{entry['count']}: {entry['reason']}" for entry in dropped)
    told = [
        f"; {issue.code}: {issue.message} ({issue.hint})"
        for issue in issues_from_json(str(tree.attrs.get("issues", "[]")))
        if issue.severity != "info" and issue.path.endswith(f"/{row}")
    ]
    remedy = "loosen `input.units.where`, look at the rows' quality"
    return Unusable(f"no row is left of {n_rows} ({why}){''.join(told)}", remedy)


def _short(ds: xr.Dataset, spikes: Spikes | None, span_s: Span | None) -> str:
    if spikes is not None:
        return "" if spikes.span[1] > spikes.span[0] else "no observed time within input.span_s"
    time = ds["time"].values
    used = len(time) if span_s is None else int(np.diff(np.searchsorted(time, span_s))[0])
    return too_short(ds, used)


def common_span(sources: Sequence[Source]) -> Span:
    """Return the time that all recordings cover, seconds; it may be empty."""
    spans = [source.samples.span for source in sources]
    return max(span[0] for span in spans), min(span[1] for span in spans)
