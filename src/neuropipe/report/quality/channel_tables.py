"""Figures of the tables of a recording of channels: variance, places or shanks, events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, MARKERS, SEQUENTIAL
from neuropipe.plotting.panels import shade_intervals
from neuropipe.report.quality.channel_data import Channels

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["event_figure", "has_places", "place_figure", "variance_figure"]

GOOD, OTHER = CATEGORICAL[0], "0.75"
RULES = {"source": ("D", "bad in the source"), "noisy": ("^", "noisy"), "flat": ("v", "flat")}
APART_M = 0.004
MAX_NAMED, MAX_LABELS, MAX_REGIONS = 40, 20, 7


def _table(data: Channels) -> pd.DataFrame:
    import pandas as pd

    names = data.before.names
    return pd.DataFrame(
        {
            "channel": names,
            "type": data.before.kinds,
            "log10_variance": [data.spread[name][0] for name in names],
            "robust_z": [data.spread[name][1] for name in names],
            "bad_reason": [data.reason[name] for name in names],
            **data.columns,
        }
    )


def variance_figure(data: Channels) -> ReportFigure:
    """Return the robust z of log variance of each channel, bad ones named with their rule."""
    table = _table(data)
    z = table["robust_z"].to_numpy(dtype=float)
    counts = {rule: int(table["bad_reason"].str.contains(rule).sum()) for rule in RULES}
    told = ", ".join(f"{count} {RULES[rule][1]}" for rule, count in counts.items() if count)
    searched = np.isfinite(data.limit)
    figure = ReportFigure(
        title="Channels that are not used",
        caption=(
            f"Robust z (median and MAD) of the log variance after the filters of each of {len(z)} "
            f"channels, among those of its type. {told or 'None is bad'}. "
            + (f"Dashed: the limit, {data.limit:g}. " if searched else "No search was made. ")
            + "Flat channels have no z and stand at the bottom. Good: a narrow cloud around 0. "
            "Bad: many channels above the limit, or a marked one inside the cloud, which the "
            "source calls bad although it looks like the others."
        ),
        table=table,
        width="medium",
        height_mm=68,
    )
    axes = figure.subplots()
    finite = z[np.isfinite(z)]
    low = min(finite.min(initial=-3.0), -3.0) - 1.5
    place = np.where(np.isfinite(z), z, low)
    reasons = table["bad_reason"].to_numpy(dtype=object)
    good = (reasons == "") & np.isfinite(z)
    axes.plot(np.flatnonzero(good), place[good], "o", color=GOOD, ms=3, label="used")
    for rule, (marker, word) in RULES.items():
        here = np.array([str(reason).split("+")[0] == rule for reason in reasons])
        if here.any():
            axes.plot(np.flatnonzero(here), place[here], marker, color=INK, ms=4, label=word)
    if searched:
        axes.axhline(data.limit, color="0.45", lw=0.7, ls="--", zorder=0)
    high = max(finite.max(initial=3.0), data.limit if searched else 3.0)
    axes.set_ylim(low - 1, high + 0.08 * (high - low) + 1)
    axes.set_xlim(-1, len(z) + 0.5)
    _name_points(axes, np.flatnonzero(reasons != "")[:MAX_NAMED], place, data.before.names)
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="channel, in the order of the recording", ylabel="robust z of log variance")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _name_points(axes: Axes, which: np.ndarray, place: np.ndarray, names: Sequence[str]) -> None:
    """Write names beside points, towards the middle, names of close points above each other."""
    low, high = axes.get_ylim()
    last, lift = (-np.inf, -np.inf), 0.0
    for i in which:
        near = i - last[0] < 0.08 * len(place) and abs(place[i] - last[1]) < 0.06 * (high - low)
        lift = lift + 6.5 if near else 0.0
        right = i < 0.6 * len(place)
        axes.annotate(
            names[i], (i, place[i]), xytext=(4 if right else -4, lift), fontsize=6, va="center",
            textcoords="offset points", ha="left" if right else "right", color=INK,
        )  # fmt: skip
        last = (float(i), float(place[i]))


def has_places(data: Channels) -> bool:
    """Tell whether contacts stand on shanks, or any sensor has a position."""
    if "electrode_group" in data.columns and "contact" in data.columns:
        return True
    x, y = (np.asarray(data.columns.get(axis, []), dtype=float) for axis in "xy")
    return bool(x.size and (np.isfinite(x) & np.isfinite(y)).any())


def place_figure(data: Channels) -> ReportFigure:
    """Return shanks of intracranial contacts, or sensors seen from above."""
    if "electrode_group" in data.columns and "contact" in data.columns:
        return _shanks(data)
    return _sensors(data)


def _sensors(data: Channels) -> ReportFigure:
    x, y = (np.asarray(data.columns.get(axis, []), dtype=float) for axis in "xy")
    known = np.isfinite(x) & np.isfinite(y) if x.size else np.zeros(len(data.before.names), bool)
    figure = ReportFigure(
        title="Sensors",
        caption=(
            f"Places of {int(known.sum())} of {len(known)} channels, seen from above (nose up, "
            "head coordinates), coloured by robust z of log variance after the filters. Black "
            "ring with x: not used. Good: neighbours have like colours, and channels not used are "
            "scattered. Bad: all channels not used on one side, bright frontal channels (eyes) or "
            "temporal ones (muscle), or places that do not form a head (wrong unit or montage)."
        ),
        table=_table(data),
        width="narrow",
        height_mm=84,
    )
    axes = figure.subplots()
    x, y = _apart(x, y)
    z = np.array([data.spread[name][1] for name in data.before.names])
    bad = np.array([bool(data.reason[name]) for name in data.before.names])
    size = 60 if known.sum() <= MAX_NAMED else 14
    drawn = known & ~bad
    image = axes.scatter(
        100 * x[drawn], 100 * y[drawn], c=np.nan_to_num(z[drawn]), cmap=SEQUENTIAL, vmin=-5, vmax=5,
        s=size, lw=0,
    )  # fmt: skip
    out = known & bad
    axes.scatter(100 * x[out], 100 * y[out], s=size, facecolor="white", edgecolor=INK, lw=0.8)
    axes.scatter(100 * x[out], 100 * y[out], s=size / 3, marker="x", color=INK, lw=0.8)
    if known.sum() <= MAX_NAMED:
        for i in np.flatnonzero(known):
            axes.annotate(
                data.before.names[i], (100 * x[i], 100 * y[i]), xytext=(0, -7), fontsize=5.5,
                textcoords="offset points", ha="center", va="center", color=INK,
            )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    axes.set(xlabel="left to right (cm)", ylabel="back to front (cm)")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02, extend="both")
    bar.set_label("robust z of log variance")
    bar.outline.set_visible(False)
    return figure


def _apart(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places with those that coincide (coils of one sensor) side by side, metres."""
    x, y = x.copy(), y.copy()
    seen: dict[tuple[float, float], int] = {}
    for i in np.flatnonzero(np.isfinite(x) & np.isfinite(y)):
        spot = (round(float(x[i]), 3), round(float(y[i]), 3))
        turn = 2 * np.pi * seen.get(spot, 0) / 3
        if spot in seen:
            x[i] += APART_M * np.sin(turn)
            y[i] += APART_M * np.cos(turn)
        seen[spot] = seen.get(spot, 0) + 1
    return x, y


def _shanks(data: Channels) -> ReportFigure:
    groups = [str(group) for group in data.columns["electrode_group"]]
    contact = np.asarray(data.columns["contact"], dtype=int)
    size = len(groups)
    label = [str(v) for v in data.columns.get("anat_label", [""] * size)]
    white = np.asarray(data.columns.get("is_white_matter", np.full(size, -1)), dtype=int)
    shanks = sorted(set(groups))
    counted = sorted(set(label) - {""}, key=lambda name: (-label.count(name), name))
    regions = counted[:MAX_REGIONS]
    figure = ReportFigure(
        title="Contacts by shank",
        caption=(
            f"{size} contacts of {len(shanks)} shanks or grids, by their number; contact 1 is the "
            "deepest of a depth electrode by custom. Colour and shape: anatomical label (the "
            f"{MAX_REGIONS} most frequent). Open: white matter. Black x: not used. Lines join the "
            "contacts of bipolar pairs. Good: long lines, white matter between grey regions. Bad: "
            "a shank without a line, many x on one shank (a loose connector), or one label for "
            "everything (contacts were not localised)."
        ),
        table=_table(data),
        height_mm=float(np.clip(24 + 6 * len(shanks), 45, 170)),
    )
    axes = figure.subplots()
    row = np.array([shanks.index(group) for group in groups])
    _draw_pairs(axes, data, row, contact)
    styles = {region: (CATEGORICAL[k], MARKERS[k]) for k, region in enumerate(regions)}
    bad = np.array([bool(data.reason[name]) for name in data.before.names])
    for region in [*regions, ""]:
        colour, marker = styles.get(region, (OTHER, "o"))
        here = np.array([(name if name in styles else "") == region for name in label])
        for open_, members in ((False, here & (white != 1)), (True, here & (white == 1))):
            if members.any():
                face = "white" if open_ else colour
                axes.scatter(contact[members], row[members], s=26, marker=marker, facecolor=face,
                             edgecolor=colour, lw=1.0, zorder=3)  # fmt: skip
        if here.any():
            word = region or ("other" if counted else "no label")
            axes.scatter([], [], s=26, marker=marker, color=colour, label=word)
    axes.scatter(contact[bad], row[bad], s=30, marker="x", color=INK, lw=1.2, zorder=4)
    axes.scatter([], [], s=30, marker="x", color=INK, label="not used")
    axes.set_yticks(range(len(shanks)), [shank or "(none)" for shank in shanks])
    axes.set_ylim(len(shanks) - 0.5, -0.5)
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="contact", ylabel="shank")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _draw_pairs(axes: Axes, data: Channels, row: np.ndarray, contact: np.ndarray) -> None:
    place = {name: i for i, name in enumerate(data.before.names)}
    source = data.after.ds
    if not {"channel_source", "reference"} <= set(source.variables):
        return
    pairs = zip(source["channel_source"].values, source["reference"].values, strict=True)
    for first, second in pairs:
        a, b = place.get(str(first), -1), place.get(str(second), -1)
        if a >= 0 and b >= 0 and row[a] == row[b] and abs(contact[a] - contact[b]) == 1:
            axes.plot(contact[[a, b]], row[[a, b]], color="0.6", lw=1.4, zorder=1)


def _event_row(name: str, times: np.ndarray) -> dict[str, Any]:
    steps = np.diff(times)
    return {
        "label": name,
        "count": len(times),
        "median_interval_s": float(np.median(steps)) if steps.size else np.nan,
        "first_s": times[0],
        "last_s": times[-1],
    }


def event_figure(events: xr.Dataset, observed: np.ndarray) -> ReportFigure:
    """Return the times of events by label, in order of their first onset."""
    import pandas as pd

    onset = np.asarray(events["onset"].values, dtype=float)
    labels = np.array([str(label) for label in events["label"].values], dtype=object)
    order = np.argsort(onset, kind="stable")
    onset, labels = onset[order], labels[order]
    names = list(dict.fromkeys(labels))
    shown = names[:MAX_LABELS]
    outside = int(((onset < observed[0, 0]) | (onset > observed[-1, 1])).sum())
    rows = [_event_row(name, onset[labels == name]) for name in names]
    rest = f" ({len(names) - len(shown)} more labels are in the table)" * (len(names) > len(shown))
    figure = ReportFigure(
        title="Events over the recording",
        caption=(
            f"Onsets of {len(onset)} events with {len(names)} labels{rest}, in the order of their "
            "first onset, with the number of each and the median time between two of a label. "
            f"Grey: not recorded. {outside} lie outside the recording. Good: counts of the "
            "protocol, evenly spread, all inside. Bad: a label that stops early, doubled triggers "
            "(an interval near 0), or events in a gap."
        ),
        table=pd.DataFrame(rows),
        height_mm=float(np.clip(26 + 6 * len(shown), 38, 150)),
    )
    axes = figure.subplots()
    for k, name in enumerate(shown):
        times = onset[labels == name]
        axes.eventplot(times, lineoffsets=k, linelengths=0.7, lw=0.6, color=GOOD)
        entry = rows[k]
        every = f", every {entry['median_interval_s']:.3g} s" if entry["count"] > 1 else ""
        axes.annotate(f"n = {entry['count']}{every}", (1.01, k), fontsize=6.5, va="center",
                      xycoords=("axes fraction", "data"), color=INK)  # fmt: skip
    gaps = np.stack([observed[:-1, 1], observed[1:, 0]], axis=1)
    shade_intervals(axes, gaps)
    axes.set_yticks(range(len(shown)), [name or "(no label)" for name in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    start, stop = observed[0, 0], observed[-1, 1]
    margin = 0.01 * (stop - start)  # an event at the start does not lie on the axis
    axes.set_xlim(start - margin, stop + margin)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("time (s)")
    return figure
