"""Figures of calcium imaging: the same rows before and after, and all rows at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, CATEGORICAL, SEQUENTIAL, SIGNED
from neuropipe.plotting.style import apply_style
from neuropipe.report.quality.traces import (
    Traces,
    bin_means,
    choose_rows,
    correlation_order,
    median_rate,
    read_traces,
    signal_to_noise,
    spectra,
    stretch,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["calcium_figures"]

BEFORE, AFTER = CATEGORICAL[3], CATEGORICAL[0]
MAX_NAMED_ROWS = 60
# Fewer levels make a smaller picture; 64 are more than the eye tells apart.
COLOUR_LEVELS = 64


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns)


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _traces(data: Traces) -> ReportFigure:
    rate = median_rate(data.time_before)
    start, stop = stretch(data.time_before, rate)
    chosen = choose_rows(data.before)
    ratio = signal_to_noise(data.before)
    stated = f"the middle {stop - start:.3g} s"
    figure = ReportFigure(
        title="Traces before and after preprocessing",
        caption=(
            f"The same stretch ({stated} of the recording, sampled at {rate:.3g} Hz) of the same "
            f"rows of {len(data.names)}: best, median and worst by signal to noise (99th "
            "percentile minus median, over the noise seen in successive differences), chosen on "
            f"the {data.series} before preprocessing. Left: {data.series} as recorded; right: "
            "activity as analyses get it. Gaps are missing samples. Good: transients stand clear "
            "of the noise in the best and median row and keep their shape on the right. Bad: "
            "steps, slow drift or saturation that survive on the right, or a median row of noise."
        ),
        table=_traces_table(data, chosen, (start, stop)),
        height_mm=12 + 27 * len(chosen),
    )
    panels = figure.subplots(len(chosen), 2, sharex=True, squeeze=False)
    sides = (
        (data.time_before, data.before, BEFORE, _with_unit(data.series, data.unit_before)),
        (data.time_after, data.after, AFTER, _with_unit("activity", data.unit_after)),
    )
    for row, (rule, n) in zip(panels, chosen.items(), strict=True):
        text = f"{rule}: {data.names[n]}, signal to noise {ratio[n]:.3g}"
        row[0].set_title(text)
        for axes, (time, values, colour, _) in zip(row, sides, strict=True):
            inside = (time >= start) & (time <= stop)
            axes.plot(time[inside], values[inside, n], color=colour, lw=0.9)
            axes.margins(x=0)
            if not np.isfinite(values[inside, n]).any():
                _say(axes, "missing in this stretch")
                axes.set_yticks([])
    for axes in panels[-1]:
        axes.set_xlabel("time (s)")
    for axes, (*_, name) in zip(panels[len(chosen) // 2], sides, strict=True):
        axes.set_ylabel(name)
    return figure


def _traces_table(data: Traces, chosen: dict[str, int], span: tuple[float, float]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    sides = {"before": (data.time_before, data.before), "after": (data.time_after, data.after)}
    for rule, n in chosen.items():
        for side, (time, values) in sides.items():
            inside = (time >= span[0]) & (time <= span[1])
            columns = {"rule": rule, "row": data.names[n], "side": side,
                       "time": time[inside], "value": values[inside, n]}  # fmt: skip
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _row_order(data: Traces) -> np.ndarray:
    """Return labelled rows by name, then the others by correlation."""
    named = sorted(np.flatnonzero(data.labelled), key=lambda n: data.names[n])
    rest = np.flatnonzero(~data.labelled)
    return np.array([*named, *rest[correlation_order(data.after[:, rest])]], dtype=int)


def _colours(values: np.ndarray) -> dict[str, Any]:
    """Return a signed scale for values around 0 (z-scores), else a sequential one."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return {"cmap": SEQUENTIAL, "vmin": 0.0, "vmax": 1.0}
    low, high = np.percentile(finite, [1, 99])
    if low < -0.25 * high:
        limit = max(abs(low), abs(high)) or 1.0
        return {"cmap": SIGNED, "vmin": -limit, "vmax": limit}
    return {"cmap": SEQUENTIAL, "vmin": low, "vmax": high if high > low else low + 1.0}


def _overview(data: Traces) -> ReportFigure:
    import matplotlib as mpl

    order = _row_order(data)
    names = [data.names[n] for n in order]
    edges, means = bin_means(data.time_after, data.after[:, order])
    n_named = int(data.labelled.sum())
    figure = ReportFigure(
        title="All rows after preprocessing",
        caption=(
            f"Activity of all {len(names)} rows, {n_named} of them with an identified name. "
            "Named rows come first, in the order of their names; the others follow by their "
            "correlation with the main common course. Grey: missing. Colours end at the 1st and "
            "99th percentile. Good: rows differ and transients start at different times. Bad: "
            "vertical stripes through all rows (motion, light), long grey runs, or rows without "
            "any change."
        ),
        table=_frame(
            {"position": range(len(names)), "row": names, "labelled": data.labelled[order],
             "missing_share": np.isnan(data.after[:, order]).mean(axis=0)}
        ),
        height_mm=float(np.clip(30 + 2.6 * len(names), 60, 170)),
    )  # fmt: skip
    axes = figure.subplots()
    colours = _colours(means)
    cmap = mpl.colormaps[colours.pop("cmap")].resampled(COLOUR_LEVELS).with_extremes(bad=BACKGROUND)
    extent = (edges[0], edges[-1], len(names) - 0.5, -0.5)
    image = axes.imshow(
        means.T, aspect="auto", interpolation="none", extent=extent, cmap=cmap, **colours
    )
    _name_rows(axes, names, n_named, data.word)
    axes.set_xlabel("time (s)")
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=30, extend="both")
    bar.set_label(_with_unit("activity", data.unit_after))
    bar.outline.set_visible(False)
    return figure


def _name_rows(axes: Axes, names: list[str], n_named: int, word: str) -> None:
    if len(names) <= MAX_NAMED_ROWS:
        axes.set_yticks(range(len(names)), names, fontsize=6 if len(names) > 25 else 7)
    else:
        axes.set_ylabel(f"{word} (sorted)")
    axes.tick_params(axis="y", length=0)
    if 0 < n_named < len(names):
        axes.axhline(n_named - 0.5, color="black", lw=0.8, ls=(0, (4, 2)))


def _spectrum(data: Traces) -> ReportFigure:
    import pandas as pd

    sides = {
        "after": (data.time_after, data.after, AFTER, "-"),
        "before": (data.time_before, data.before, BEFORE, (0, (3, 2))),
    }
    figure = ReportFigure(
        title="Spectrum before and after preprocessing",
        width="medium",
        height_mm=70,
        table=pd.DataFrame(),
    )
    axes = figure.subplots()
    parts, counts = [], []
    for side, (time, values, colour, dashes) in sides.items():
        frequency, power = spectra(time, values)
        counts.append(f"{side}: n = {len(power)}")
        if not len(power):
            continue
        low, middle, high = np.percentile(power, [10, 50, 90], axis=0)
        axes.fill_between(frequency, low, high, color=colour, alpha=0.18, lw=0)
        axes.loglog(frequency, middle, color=colour, ls=dashes, lw=1.3, label=side)
        columns = {"side": side, "frequency": frequency, "p10": low, "median": middle, "p90": high}
        parts.append(pd.DataFrame(columns))
    axes.set(xlabel="frequency (Hz)", ylabel="share of variance (1/Hz)")
    if parts:
        _legend(axes)
        figure.table = pd.concat(parts, ignore_index=True)
    else:
        _say(axes, "too few samples without a gap")
    figure.caption = (
        "Power spectrum (Welch, on the longest stretch without missing samples of each row, "
        "at the median sampling rate), as share of each row's variance; line: median over rows, "
        f"band: 10th to 90th percentile ({', '.join(counts[::-1])}). Good: power falls smoothly "
        "from low to high frequencies. Bad: narrow peaks (breathing, flicker, mains), or a flat "
        "line, which is noise."
    )
    return figure


def _legend(axes: Axes) -> None:
    """Name the curves in the order of processing, against the order of drawing."""
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1])


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.35")


def _missing(data: Traces) -> ReportFigure:
    shares = {
        "before": np.isnan(data.before).mean(axis=0),
        "after": np.isnan(data.after).mean(axis=0),
    }
    worst = int(np.argmax(shares["after"])) if data.names else 0
    none = all(share.max(initial=0.0) == 0 for share in shares.values())
    means = ", ".join(f"{side} {100 * share.mean():.3g} %" for side, share in shares.items())
    ending = "Nothing is missing." if none else f"Most is missing in {data.names[worst]}."
    figure = ReportFigure(
        title="Missing samples",
        caption=(
            f"Share of missing samples of each of {len(data.names)} rows, each curve sorted, "
            f"before and after preprocessing (mean {means}). {ending} Good: near zero throughout. "
            "Bad: a step at the left, which is a group of rows lost for part of the recording, "
            "or an after-curve far above the before-curve, which is loss in preprocessing."
        ),
        table=_frame({"row": data.names, **{f"missing_{k}": v for k, v in shares.items()}}),
        width="narrow",
        height_mm=70,
    )
    axes = figure.subplots()
    for side, colour, dashes in (("after", AFTER, "-"), ("before", BEFORE, (0, (3, 2)))):
        ordered = 100 * np.sort(shares[side])[::-1]
        position = np.arange(1, ordered.size + 1)
        axes.step(position, ordered, where="mid", color=colour, ls=dashes, lw=1.3, label=side)
    axes.set(xlabel="rows, most missing first", ylabel="missing samples (%)")
    if none:
        _say(axes, "nothing is missing")
    highest = 100 * max(share.max(initial=0.0) for share in shares.values())
    axes.set_ylim(-0.02 * max(highest, 1.0), 1.08 * max(highest, 1.0))
    _legend(axes)
    return figure


@apply_style()
def calcium_figures(raw: xr.DataTree, processed: xr.DataTree) -> dict[str, ReportFigure]:
    """Return the figures of calcium imaging, in report order."""
    data = read_traces(raw, processed)
    if not data.names or data.time_after.size == 0 or data.time_before.size == 0:
        return {}
    return {
        "traces": _traces(data),
        "overview": _overview(data),
        "spectrum": _spectrum(data),
        "missing": _missing(data),
    }
