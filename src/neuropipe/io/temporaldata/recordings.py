"""Recordings of files that others wrote: spikes, calcium traces, channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.arrays import object_array
from neuropipe.io.calcium.handle import ArraySource, CalciumHandle
from neuropipe.io.channels.names import unique_names
from neuropipe.io.channels.nwb_samples import NwbSamples
from neuropipe.io.channels.opening import open_channels
from neuropipe.io.channels.source import ChannelSource, ChannelTable
from neuropipe.io.channels.units import si_unit
from neuropipe.io.spikes.handle import NUMBER_COLUMNS, TEXT_COLUMNS, Sorting, open_sorting
from neuropipe.io.spikes.parts import ArrayParts
from neuropipe.io.temporaldata.beside import attributes_of, behavior_of, events_of, trials_of
from neuropipe.io.temporaldata.objects import RECORDED
from neuropipe.store.clock import RegularClock

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride
    from neuropipe.io.temporaldata.objects import Objects, Series
    from neuropipe.io.temporaldata.reader import TemporaldataSettings

__all__ = ["open_calcium", "open_electrical", "open_spikes"]

KINDS = {
    "df_over_f": "dff", "dff": "dff", "fluorescence": "fluorescence", "raw": "fluorescence",
    "deconvolved": "deconvolved", "neuropil": "neuropil",
}  # fmt: skip
REGIONS = ("region", "brain_region", "structure", "location")
CH_TYPE = {"meg": "mag", "eeg": "eeg"}
DERIVED_COLUMNS = ("n_spikes", "unit_start", "id", "unit")


def _chosen(found: list[str], what: str, objects: Objects, wanted: str | None) -> str:
    """Return the one place among those found, or the one that the user names."""
    if wanted is not None:
        near = [place for place in found if wanted in (place, place.rpartition("/")[0])]
        if len(near) == 1:
            return near[0]
        text = f"series {wanted!r} is not one of {', '.join(found) or 'none'}"
    elif len(found) == 1:
        return found[0]
    elif not found:
        held = ", ".join(objects.series) or "none"
        hint = "correct the column `modality`, or the file"
        raise IngestError("EMPTY", objects.path, f"no {what}; time series: {held}", hint)
    else:
        text = f"holds several: {', '.join(found)}"
    hint = "name one: `series` in ingest.overrides"
    raise IngestError("SEVERAL_SERIES", objects.path, text, hint)


def _beside(objects: Objects, main: str) -> tuple[dict[str, Any], dict[str, Any], list[Issue]]:
    attrs, issues = attributes_of(objects)
    behavior, left_out = behavior_of(objects, {main})
    groups = {"behavior": behavior, "trials": trials_of(objects)}
    return attrs, groups, [*issues, *left_out]


def open_spikes(
    objects: Objects, settings: TemporaldataSettings, override: IngestOverride, modality: str
) -> Any:
    """Open spikes: times and ``unit_index``, and the table ``units``."""
    found = [place for place, series in objects.series.items() if "unit_index" in series.arrays]
    place = _chosen(found, "spikes (a time series with `unit_index`)", objects, override.series)
    where = objects.fields.where(place)
    times = np.asarray(objects.fields.numbers(f"{place}/timestamps")[...], np.float64)
    owner = np.asarray(objects.fields.numbers(f"{place}/unit_index")[...])
    units, columns = _units(objects, place)
    if owner.dtype.kind not in "iu" or (
        owner.size and not 0 <= owner.min() <= owner.max() < len(units)
    ):
        text = f"unit_index must be a position among the {len(units)} units"
        raise IngestError("LENGTH_MISMATCH", where, text, "export the file again")
    domain = objects.domain(place)
    _check_inside(times, domain, where)
    attrs, groups, issues = _beside(objects, place)
    handle = open_sorting(
        Sorting(
            units=units,
            spikes=ArrayParts(times, owner.astype(np.int64), len(units), objects.path),
            columns=columns,
            intervals=[domain] * len(units),
        ),
        path=objects.path,
        repair=override.repair,
        attrs=attrs,
        source_files=[str(objects.path)],
        issues=issues,
        event_table=events_of(objects),
        **groups,
    )
    objects.fields.close()
    return handle


def _check_inside(times: np.ndarray, domain: np.ndarray, where: str) -> None:
    if times.size and np.isfinite(times).all():
        first, last = float(times.min()), float(times.max())
        if first < domain[0, 0] or last > domain[-1, 1]:
            text = (
                f"spikes from {first:.6g} to {last:.6g} s, but a domain from {domain[0, 0]:.6g} "
                f"to {domain[-1, 1]:.6g} s"
            )
            raise IngestError("BAD_TIME", where, text, "are times and domain in seconds?")


def _units(objects: Objects, place: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Return names and columns of units, from the table ``units`` beside the spikes."""
    parent = place.rpartition("/")[0]
    name = f"{parent}/units".lstrip("/")
    if name not in objects.tables:
        text = f"there is no table {name!r}; tables: {', '.join(objects.tables) or 'none'}"
        raise IngestError("MISSING_SIDECAR", objects.path, text, "export the file again")
    table = objects.columns(name)
    ids = table.get("id", table.get("unit"))
    if ids is None:
        text = f"the table has no column `id`; columns: {', '.join(table) or 'none'}"
        raise IngestError("MISSING_SIDECAR", objects.fields.where(name), text, "add it")
    columns: dict[str, Any] = {}
    for key in (*TEXT_COLUMNS, *NUMBER_COLUMNS):
        known = [key, *(REGIONS[1:] if key == "region" else ())]
        values = next((table[k] for k in known if k in table), None)
        is_number = values is not None and values.dtype.kind in "iuf"
        if values is not None and is_number == (key in NUMBER_COLUMNS):
            columns[key] = values
    return object_array([str(value) for value in ids]), columns


def _samples(objects: Objects, modality: str) -> list[str]:
    """Return arrays ``(time, row)`` of series whose name has a word of the modality."""
    return [
        f"{place}/{name}"
        for place, series in objects.series.items()
        if series.words & RECORDED[modality]
        for name, (shape, dtype) in series.arrays.items()
        if len(shape) == 2 and dtype.kind in "iuf"
    ]


def _rows(objects: Objects, title: str, count: int) -> dict[str, np.ndarray]:
    if title not in objects.tables:
        return {}
    table = objects.columns(title)
    length = len(next(iter(table.values()), ()))
    if table and length != count:
        where = objects.fields.where(title)
        text = f"{length} rows, but {count} columns of samples"
        raise IngestError("LENGTH_MISMATCH", where, text, "export the file again")
    return table


def _refuse_filled(objects: Objects, series: Series, dtype: np.dtype) -> None:
    """Refuse integers with gaps: the samples that fill them look like any other."""
    if series.is_regular and dtype.kind in "iu" and len(objects.domain(series.place)) > 1:
        text = "integers with gaps: nothing tells which samples only fill a gap"
        raise IngestError("NAN_IN_DATA", objects.fields.where(series.place), text,
                          "export the samples as floats, NaN in the gaps")  # fmt: skip


def open_calcium(
    objects: Objects, settings: TemporaldataSettings, override: IngestOverride, modality: str
) -> Any:
    """Open calcium traces ``(time, roi)``; the name of the array tells what they are."""
    import xarray as xr

    found = _samples(objects, "calcium")
    main = [p for p in found if KINDS.get(p.rpartition("/")[2]) != "neuropil"]
    place = _chosen(main, "calcium traces", objects, override.series)
    group, _, name = place.rpartition("/")
    kind = settings.kind or KINDS.get(name)
    if kind is None:
        text = f"nothing tells what {name!r} is: fluorescence, dF/F or deconvolved"
        raise IngestError("MISSING_SIDECAR", objects.fields.where(place), text,
                          "set `kind` in ingest.readers.temporaldata")  # fmt: skip
    array = objects.fields.traces(place)
    series = objects.series[group]
    _refuse_filled(objects, series, array.dtype)
    clock = objects.clock(series, array.shape[0])
    time = clock.at(np.arange(clock.count)) if isinstance(clock, RegularClock) else clock
    coords: dict[str, Any] = {
        "time": ("time", time),
        "roi": ("roi", np.arange(array.shape[1], dtype=np.int64)),
    }
    table = _rows(objects, "rois", array.shape[1])
    names = table.get("label", table.get("name"))
    if names is not None and names.dtype.kind == "O":
        coords["label_source"] = ("roi", names)
    attrs, groups, issues = _beside(objects, group)
    declared = {"imaging_rate": clock.rate} if isinstance(clock, RegularClock) else {}
    return CalciumHandle(
        raw=xr.Dataset(coords=coords),
        sources=[ArraySource(kind, array)],
        attrs={**attrs, **declared},
        source_files=[str(objects.path)],
        issues=issues,
        event_table=events_of(objects),
        close=objects.fields.close,
        **groups,
    )


def open_electrical(
    objects: Objects, settings: TemporaldataSettings, override: IngestOverride, modality: str
) -> Any:
    """Open channels ``(time, channel)``; the unit stands in the table, or the user states it."""
    found = _samples(objects, modality)
    place = _chosen(found, f"samples of {modality}", objects, override.series)
    series = objects.series[place.rpartition("/")[0]]
    array = objects.fields.traces(place)
    _refuse_filled(objects, series, array.dtype)
    table, stated, issues = _channels(objects, array.shape[1], settings, override, modality)
    factor = np.array([(si_unit(word) or ("", 1.0))[1] for word in table.declared])
    dtype, shape = array.dtype, array.shape
    attrs, groups, more = _beside(objects, series.place)
    source = ChannelSource(
        path=objects.path,
        channels=table,
        samples=NwbSamples(objects.path, place, dtype, shape, factor, np.zeros(len(factor))),
        time=objects.clock(series, array.shape[0]),
        types_stated=stated,
        events=events_of(objects),
        attrs=attrs,
        source_files=(objects.path,),
        issues=(*issues, *more),
        units_stated=False,
        units_given=override.units is not None,
        **groups,
    )
    objects.fields.close()
    return open_channels(source, modality, override.model_copy(update={"units": None}))


def _channels(
    objects: Objects,
    n: int,
    settings: TemporaldataSettings,
    override: IngestOverride,
    modality: str,
) -> tuple[ChannelTable, bool, list[Issue]]:
    """Return the table of channels, whether their types are stated, and issues."""
    table = _rows(objects, "channels", n)
    header = [str(value) for value in table.get("id", table.get("name", np.arange(n)))]
    names, issues = unique_names(header, objects.path)
    types = table.get("ch_type", table.get("type"))
    stated = settings.ch_type is not None or types is not None
    kinds = [settings.ch_type or CH_TYPE.get(modality, "eeg")] * n
    if settings.ch_type is None and types is not None:
        kinds = [str(value).strip().lower() for value in types]
    units = table.get("units", table.get("unit"))
    words = [override.units or ""] * n if units is None else [str(value) for value in units]
    if any(si_unit(w) is None and k in ("eeg", "seeg", "ecog", "dbs", "mag", "grad")
           for w, k in zip(words, kinds, strict=True)):  # fmt: skip
        text = "nothing states the unit of the samples: the format has no field for it"
        hint = "state it: `units` in ingest.overrides, such as V or uV"
        raise IngestError("UNITS", objects.path, text, hint)
    nan = np.full(n, np.nan)
    position = np.stack([_numbers(table, axis, n) for axis in "xyz"], axis=1)
    return (
        ChannelTable(
            name=tuple(names),
            source=tuple(header),
            ch_type=tuple(kinds),
            units=tuple((si_unit(word) or ("", 1.0))[0] for word in words),
            declared=tuple(words),
            bad=_numbers(table, "bad", n) == 1.0,
            reference=("",) * n,
            position=position,
            low_cutoff=nan,
            high_cutoff=nan.copy(),
        ),
        stated,
        issues,
    )


def _numbers(table: dict[str, np.ndarray], name: str, n: int) -> np.ndarray:
    values = table.get(name)
    if values is None or values.dtype.kind not in "biuf":
        return np.full(n, np.nan)
    return values.astype(np.float64)
