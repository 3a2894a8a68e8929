"""Figures of EEG, MEG and intracranial recordings: what a specialist looks at first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, CATEGORICAL, INK, SIGNED
from neuropipe.plotting.panels import note
from neuropipe.plotting.style import apply_style
from neuropipe.report.quality.channel_data import (
    SPREAD_WINDOW_S,
    Channels,
    Side,
    display_unit,
    min_max,
    power_spectra,
    read_channels,
    spread_over_time,
)
from neuropipe.report.quality.channel_tables import (
    event_figure,
    has_places,
    place_figure,
    variance_figure,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["channels_figures", "shown_channels"]

BEFORE, AFTER, BAD, BAD_TRACE = CATEGORICAL[3], CATEGORICAL[0], INK, "0.45"
STRETCH_S, TRACE_BINS, MAX_TRACES, MAX_BAD_TRACES = 10.0, 240, 12, 4
# Traces are this many typical SD apart, and cut where they would reach their neighbours.
SPACING_SD, CUT = 7.0, 0.75
MAX_NAMED, MAX_BAD_CURVES, COLOUR_LEVELS, RATIO_LIMIT = 40, 12, 32, 1.0


def shown_channels(data: Channels) -> list[int]:
    """Return the positions of channels to draw: bad ones first to be sure of a place, then even.

    They come back in the order of the recording.
    """
    names = data.before.names
    bad = [i for i, name in enumerate(names) if data.reason[name]][:MAX_BAD_TRACES]
    good = [i for i, name in enumerate(names) if not data.reason[name]]
    room = max(MAX_TRACES - len(bad), 1)
    if len(good) > room:
        good = [good[k] for k in np.linspace(0, len(good) - 1, room).round().astype(int)]
    return sorted([*bad, *good])


def _rows_after(data: Channels, chosen: list[int]) -> list[int]:
    """Return for each chosen channel its row after the chain, -1 where there is none.

    A contact stands for the pair that it begins, else for the one that it ends; a channel for its
    first band.
    """
    rows = data.after.names
    ends = {}
    for key in ("channel_source", "reference"):
        values = data.after.ds[key].values if key in data.after.ds.variables else rows
        ends[key] = [str(value) for value in values]
    found = []
    for i in chosen:
        name = data.before.names[i]
        places = [k for k, row in enumerate(rows) if row == name or row.startswith(f"{name}.")]
        for key in ("channel_source", "reference"):
            pairs = [k for k, end in enumerate(ends[key]) if end == name and "-" in rows[k]]
            places += pairs
        found.append(places[0] if places else -1)
    return found


def _stack(axes: Axes, side: Side, rows: list[int], time: np.ndarray, values: np.ndarray,
           colours: list[str]) -> list[dict[str, Any]]:  # fmt: skip
    """Draw traces one above the other on one scale per type; return the scale of each row."""
    centred = values - np.nanmedian(np.where(np.isfinite(values).any(axis=0), values, 0.0), axis=0)
    kinds = [side.kinds[row] if row >= 0 else "" for row in rows]
    scale, told = np.ones(len(rows)), []
    for kind in dict.fromkeys(kinds):
        members = [k for k, other in enumerate(kinds) if other == kind and rows[k] >= 0]
        spreads = [np.nanstd(centred[:, rows[k]]) for k in members
                   if np.isfinite(centred[:, rows[k]]).any()]  # fmt: skip
        typical = float(np.median(spreads)) if spreads else 0.0
        scale[members] = SPACING_SD * typical if typical > 0 else 1.0
        if members and typical > 0:
            factor, unit = display_unit(side.units[rows[members[0]]])
            told.append({"kind": kind, "spacing": SPACING_SD * typical * factor, "unit": unit})
    thin_time, thin = _zigzag(time, centred)
    for k, row in enumerate(rows):
        if row >= 0 and np.isfinite(thin[:, row]).any():
            trace = np.clip(thin[:, row] / scale[k], -CUT, CUT) - k
            axes.plot(thin_time, trace, color=colours[k], lw=0.5)
        else:
            axes.text(
                0.5, -k, "in no row" if row < 0 else "missing here", va="center", ha="center",
                transform=axes.get_yaxis_transform(), fontsize=6, color="0.45",
            )  # fmt: skip
    axes.set_ylim(-len(rows) + 0.2, 0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0)
    return told


def _zigzag(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return traces that go from minimum to maximum of each bin, if there are enough samples."""
    if len(values) <= 2 * TRACE_BINS:
        return time, values
    centres, low, high = min_max(time, values, TRACE_BINS)
    return np.repeat(centres, 2), np.stack([low, high], axis=1).reshape(-1, values.shape[1])


def _scale_text(told: list[dict[str, Any]]) -> str:
    rounded = [float(f"{entry['spacing']:.3g}") for entry in told]
    parts = [f"{x:g} {entry['unit']}".strip() for x, entry in zip(rounded, told, strict=True)]
    if len(told) > 1:
        parts = [f"{part} ({entry['kind']})" for part, entry in zip(parts, told, strict=True)]
    return f"row distance {', '.join(parts)}" if parts else ""


def _stretch(data: Channels) -> tuple[float, float]:
    """Return the middle 10 s of the longest stretch without a gap."""
    lengths = data.observed[:, 1] - data.observed[:, 0]
    first, last = data.observed[int(np.argmax(lengths))]
    half = min(STRETCH_S, last - first) / 2
    return (first + last) / 2 - half, (first + last) / 2 + half


def _traces(data: Channels) -> ReportFigure:
    chosen = shown_channels(data)
    rows = _rows_after(data, chosen)
    start, stop = _stretch(data)
    windows = [side.window(start, stop) for side in (data.before, data.after)]
    figure = ReportFigure(
        title="Traces before and after preprocessing",
        caption=(
            f"The middle {stop - start:.3g} s of the longest stretch without a gap, for "
            f"{len(chosen)} of {len(data.before.names)} data channels: bad ones first to be sure "
            "of a place (grey, marked x), the others evenly spaced. Left: as recorded, minus "
            "the median; right: activity as analyses get it, masked samples left out. All rows of "
            "a side and type have one scale (distance of rows below the panel); drawn are minimum "
            "and maximum of short bins, and larger swings are cut. Good: rows of like size "
            "without drift, on the right without mains or blinks. Bad: one row far larger or "
            "flat, steps in all rows at once, a dense band of mains that survives on the right."
        ),
        table=_trace_table(data, chosen, rows, windows),
        height_mm=26 + 7.5 * len(chosen),
    )
    panels = figure.subplots(1, 2)
    is_bad = [bool(data.reason[data.before.names[i]]) for i in chosen]
    sides = ((data.before, chosen, BEFORE, "as recorded"), (data.after, rows, AFTER, "activity"))
    for axes, (side, places, colour, word), (time, values) in zip(
        panels, sides, windows, strict=True
    ):
        colours = [BAD_TRACE if bad else colour for bad in is_bad]
        told = _stack(axes, side, places, time, values, colours)
        axes.set_title(word)
        axes.set_xlabel("\n".join(filter(None, ("time (s)", _scale_text(told)))))
        axes.set_xlim(start, stop)
        names = [side.names[row] if row >= 0 else "" for row in places]
        if side is data.before:
            names = [f"x {n}" if bad else n for n, bad in zip(names, is_bad, strict=True)]
        axes.set_yticks(-np.arange(len(places)), names, fontsize=6)
    return figure


def _trace_table(
    data: Channels, chosen: list[int], rows: list[int],
    windows: list[tuple[np.ndarray, np.ndarray]],
) -> pd.DataFrame:  # fmt: skip
    import pandas as pd

    (_, before), (_, after) = windows

    def spread(values: np.ndarray, row: int) -> float:
        known = row >= 0 and np.isfinite(values[:, row]).any()
        return float(np.nanstd(values[:, row])) if known else np.nan

    names = [data.before.names[i] for i in chosen]
    return pd.DataFrame(
        {
            "channel": names,
            "row_after": [data.after.names[k] if k >= 0 else "" for k in rows],
            "bad_reason": [data.reason[name] for name in names],
            "sd_before": [spread(before, i) for i in chosen],
            "sd_after": [spread(after, k) for k in rows],
        }
    )


def _overview(data: Channels) -> ReportFigure:
    import matplotlib as mpl
    import pandas as pd

    starts, spread = spread_over_time(data.before, data.observed)
    kinds = np.array(data.before.kinds)
    typical = np.full(len(kinds), np.nan)
    for kind in dict.fromkeys(data.before.kinds):
        here = spread[:, kinds == kind]
        known = here[np.isfinite(here) & (here > 0)]
        typical[kinds == kind] = np.median(known) if known.size else np.nan
    ratio = np.full(spread.shape, np.nan)
    np.log10(spread / typical, out=ratio, where=(spread > 0) & np.isfinite(spread))
    # A flat channel has no logarithm; it gets the lowest colour, not that of missing samples.
    ratio[spread == 0] = -RATIO_LIMIT
    figure = ReportFigure(
        title="Amplitude of every channel over the recording",
        caption=(
            f"Standard deviation in {len(starts)} windows of {SPREAD_WINDOW_S:g} s, evenly spread "
            f"over the recording, of all {len(kinds)} data channels as recorded, relative to the "
            "median of their type (log10: 1 is ten times, ends of the colours included). Channels "
            "not used are marked x. Grey: not recorded or missing. Good: pale throughout. Bad: a "
            "dark red or blue row (a bad channel that should be marked), red columns (movement, "
            "stimulation), a change of colour half way (a contact that came off)."
        ),
        table=pd.DataFrame(
            {"channel": data.before.names, "type": data.before.kinds,
             "bad_reason": [data.reason[name] for name in data.before.names],
             "median_log10_ratio": _medians(ratio)}
        ),
        height_mm=float(np.clip(30 + 2.6 * len(kinds), 60, 150)),
    )  # fmt: skip
    axes = figure.subplots()
    if len(starts) < 2:
        note(axes, "too few windows without a gap")
        return figure
    edges, grid = _on_axis(starts, ratio, data)
    cmap = mpl.colormaps[SIGNED].resampled(COLOUR_LEVELS).with_extremes(bad=BACKGROUND)
    image = axes.imshow(
        grid.T, aspect="auto", interpolation="none", cmap=cmap, vmin=-RATIO_LIMIT, vmax=RATIO_LIMIT,
        extent=(edges[0], edges[-1], len(kinds) - 0.5, -0.5),
    )  # fmt: skip
    _name_channels(axes, data)
    axes.set_xlabel("time (s)")
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=30, extend="both")
    bar.set_label("SD over median of its type (log10)")
    bar.outline.set_visible(False)
    return figure


def _medians(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values).any(axis=0) if values.size else np.zeros(values.shape[1], bool)
    result = np.full(values.shape[1], np.nan)
    result[known] = np.nanmedian(values[:, known], axis=0)
    return result


def _on_axis(
    starts: np.ndarray, values: np.ndarray, data: Channels
) -> tuple[np.ndarray, np.ndarray]:
    """Return windows on a uniform axis of time, NaN in gaps; each cell shows its nearest window."""
    first, last = data.observed[0, 0], data.observed[-1, 1]
    edges = np.linspace(first, last, max(len(starts), 2) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    nearest = np.abs(centres[:, None] - (starts + SPREAD_WINDOW_S / 2)[None]).argmin(axis=1)
    inside = (centres[:, None] >= data.observed[:, 0]) & (centres[:, None] <= data.observed[:, 1])
    return edges, np.where(inside.any(axis=1, keepdims=True), values[nearest], np.nan)


def _name_channels(axes: Axes, data: Channels) -> None:
    names = [f"x {name}" if data.reason[name] else name for name in data.before.names]
    step = -(-len(names) // MAX_NAMED)
    bad = [i for i, name in enumerate(names) if name.startswith("x ")]
    even = [i for i in range(0, len(names), step) if all(abs(i - k) >= step or i == k for k in bad)]
    shown = sorted({*even, *bad})
    axes.set_yticks(shown, [names[i] for i in shown], fontsize=5.5 if len(shown) > 25 else 7)
    axes.tick_params(axis="y", length=0)


def _spectrum(data: Channels) -> ReportFigure:
    import pandas as pd

    sides: dict[str, Any] = {"before": (data.before, BEFORE, (0, (3, 2)))}
    if data.same_quantity:
        sides["after"] = (data.after, AFTER, "-")
    spectra = {key: power_spectra(side, data.observed) for key, (side, *_) in sides.items()}
    kinds = list(dict.fromkeys(data.before.kinds))
    mains = "mains frequency unknown"
    if np.isfinite(data.line_hz):
        mains = f"dotted: {data.line_hz:g} Hz and its harmonics"
    figure = ReportFigure(
        title="Power spectrum before and after preprocessing",
        caption=(
            "Power spectral density (Welch, Hann segments of up to 4 s in up to 12 windows of 8 s "
            "spread over the recording) by channel type. Line: median over good channels, band: "
            "10th to 90th percentile; black: channels not used, as recorded (at most "
            f"{MAX_BAD_CURVES}); {mains}. "
            + ("" if data.same_quantity else "Activity is no signal but a power or envelope, so "
               "there is no curve after preprocessing. ")
            + "Good: a smooth fall with frequency, in EEG a hump near 10 Hz, and no peak at the "
            "dotted lines after preprocessing. Bad: peaks that survive, a flat spectrum (noise), "
            "or a black curve among the good ones, which may be marked bad for nothing."
        ),
        height_mm=72,
        width="wide" if len(kinds) > 1 else "medium",
    )  # fmt: skip
    parts = []
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        parts += _spectrum_panel(axes, data, kind, sides, spectra)
    columns = ["type", "side", "frequency", "p10", "median", "p90"]
    figure.table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return figure


def _spectrum_panel(
    axes: Axes, data: Channels, kind: str, sides: dict[str, Any], spectra: dict[str, Any]
) -> list[pd.DataFrame]:
    import pandas as pd

    parts, unit = [], ""
    for key, (side, colour, dashes) in sides.items():
        frequency, power = spectra[key]
        here = np.array([k == kind for k in side.kinds])
        if key == "before":
            used = np.array([not data.reason[name] for name in side.names])
        else:
            used = np.asarray(side.ds["channel_ok"].values, dtype=bool)
        known = np.isfinite(power).all(axis=0) & here if len(power) else np.zeros(len(here), bool)
        if not (known & used).any():
            continue
        factor, unit = display_unit(side.units[int(np.flatnonzero(known)[0])])
        good = power[:, known & used] * factor**2
        low, middle, high = np.percentile(good, [10, 50, 90], axis=1)
        axes.fill_between(frequency, low, high, color=colour, alpha=0.18, lw=0)
        text = f"{key} (n = {good.shape[1]})"
        axes.loglog(frequency, middle, color=colour, ls=dashes, lw=1.3, label=text)
        columns = {"type": kind, "side": key, "frequency": frequency,
                   "p10": low, "median": middle, "p90": high}  # fmt: skip
        parts.append(pd.DataFrame(columns))
        if key == "before":
            _bad_curves(axes, frequency, power[:, known & ~used] * factor**2)
    axes.set_title(kind)
    if not parts:
        note(axes, "no window without missing samples")
        return parts
    _spectrum_axes(axes, data, parts)
    axes.set(xlabel="frequency (Hz)", ylabel=f"power density ({_squared(unit)}/Hz)")
    handles, words = axes.get_legend_handles_labels()
    order = sorted(range(len(words)), key=lambda k: words[k].startswith("not used"))
    axes.legend([handles[k] for k in order], [words[k] for k in order], loc="lower left")
    return parts


def _squared(unit: str) -> str:
    return f"({unit})²" if "/" in unit else f"{unit}²"


def _bad_curves(axes: Axes, frequency: np.ndarray, power: np.ndarray) -> None:
    shown = [column for column in power.T if column.max() > 0][:MAX_BAD_CURVES]
    for n, column in enumerate(shown):
        axes.loglog(frequency, column, color=BAD, lw=0.6, label="not used" if n == 0 else None)


def _spectrum_axes(axes: Axes, data: Channels, parts: list[pd.DataFrame]) -> None:
    """Mark mains, and keep the stop bands of filters from stretching the axis."""
    highest = max(float(part["p90"].max()) for part in parts)
    floor = min(float(part.loc[part["side"] == "before", "p10"].min()) for part in parts[:1])
    lowest = min(float(part["p10"].min()) for part in parts)
    axes.set_ylim(max(0.3 * lowest, 1e-3 * floor, 1e-300), 30 * highest)
    last = max(float(part["frequency"].max()) for part in parts)
    axes.set_xlim(float(parts[0]["frequency"].min()), last)
    if np.isfinite(data.line_hz) and data.line_hz > 0:
        for k in range(1, int(last / data.line_hz) + 1):
            axes.axvline(k * data.line_hz, color="0.45", lw=0.6, ls=":", zorder=0)


@apply_style()
def channels_figures(raw: xr.DataTree, processed: xr.DataTree) -> dict[str, ReportFigure]:
    """Return the figures of EEG, MEG and intracranial recordings, in report order."""
    data = read_channels(raw, processed)
    if not data.before.names or min(data.before.time.size, data.after.time.size) < 2:
        return {}
    found = {
        "traces": _traces(data),
        "overview": _overview(data),
        "spectrum": _spectrum(data),
        "variance": variance_figure(data),
        **({"places": place_figure(data)} if has_places(data) else {}),
    }
    events = raw.children["events"].to_dataset(inherit=False) if "events" in raw.children else None
    if events is not None and events.sizes.get("event", 0):
        found["events"] = event_figure(events, data.observed)
    return found
