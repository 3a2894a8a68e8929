"""Figure 5: how the affinity of one pair of neurons comes about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.ntf.checks import Prepared, prepare
from neuropipe.analyses.ntf.kernels.affinity_curves import PairCurves, pair_curves
from neuropipe.analyses.ntf.motifs import Motif, list_motifs, text_values
from neuropipe.analyses.ntf.spec import AffinitySettings
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, LINE_STYLES
from neuropipe.plotting.panels import note, shade_intervals

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_affinity", "shown_pair"]

MARGIN_S, LONGEST_S, SHORTEST_S = 20.0, 150.0, 60.0
Float = NDArray[np.float64]


@dataclass(frozen=True)
class _Shown:
    """The pair that is drawn, with everything on the clock of the traces."""

    motif: Motif
    subject: str
    names: tuple[str, str]
    time: Float
    traces: Float
    curves: PairCurves
    time_bin: Float
    binned: Float


def shown_pair(result: xr.Dataset) -> tuple[Motif, int, tuple[int, int]] | None:
    """Return motif, subject and neurons of the pair that is drawn, None if there is none.

    The strongest pair of the first motif that has one: among the members of its strongest
    community, or of all neurons without a community, in the subject of most weight in which both
    have a trace.
    """
    seen = np.isfinite(result["activity"].transpose("subject", "neuron", "time").values).any(axis=2)
    for motif in list_motifs(result):
        chosen = motif.communities[0].members if motif.communities else motif.background
        graph = result["component_adjacency"].values[motif.number - 1][np.ix_(chosen, chosen)]
        for subject in motif.subjects:
            there = seen[subject, chosen]
            weight = np.where(np.outer(there, there), np.nan_to_num(graph), 0.0)
            if weight.max(initial=0.0) > 0:
                place = np.unravel_index(np.argmax(weight), weight.shape)
                first, second = sorted(int(chosen[k]) for k in place)
                return motif, int(subject), (first, second)
    return None


def _settings(result: xr.Dataset) -> AffinitySettings:
    """Return the settings of the affinity, which the result carries."""
    if "affinity_settings" in result.attrs:
        return AffinitySettings.model_validate_json(result.attrs["affinity_settings"])
    return AffinitySettings(mode=result.attrs.get("affinity_mode", "excess"))


def _binned(prepared: Prepared, values: Float) -> Float:
    frames = prepared.bin_frames
    count = prepared.time_bin.size
    mean: Float = values[: count * frames].reshape(count, frames).mean(axis=1)
    return mean


def _shown(result: xr.Dataset) -> _Shown | None:
    found = shown_pair(result)
    if found is None:
        return None
    motif, subject, pair = found
    settings = _settings(result)
    names = text_values(result["neuron"])
    prepared = prepare(result.isel(subject=[subject]), settings)
    # `prepare` puts the neurons in the order of their names.
    rows = [prepared.neuron.tolist().index(names[one]) for one in pair]
    curves = pair_curves(
        prepared.traces[0],
        (rows[0], rows[1]),
        mode=settings.mode,
        rate_hz=prepared.rate_hz,
        deriv_window=prepared.deriv_window,
        window=prepared.window,
        scale_quantile=settings.scale_quantile,
    )
    activity = result["activity"].transpose("subject", "neuron", "time").values[subject]
    return _Shown(
        motif=motif,
        subject=text_values(result["subject"])[subject],
        names=(names[pair[0]], names[pair[1]]),
        time=result["time"].values.astype(float),
        traces=activity[list(pair)].astype(float),
        curves=curves,
        time_bin=prepared.time_bin,
        binned=_binned(prepared, curves.affinity),
    )


def _span(shown: _Shown) -> tuple[float, float]:
    """Return the stretch that is drawn: the longest active interval and a margin."""
    first, last = shown.time[0], shown.time[-1]
    intervals = shown.motif.intervals
    if not len(intervals):
        return first, min(last, first + LONGEST_S)
    start, stop = intervals[np.argmax(np.diff(intervals, axis=1)[:, 0])]
    margin = max(MARGIN_S, (SHORTEST_S - (stop - start)) / 2)
    begin = max(first, start - margin)
    return begin, min(last, stop + margin, begin + LONGEST_S)


def _z(trace: Float) -> Float:
    spread = np.nanstd(trace)
    return (trace - np.nanmean(trace)) / (spread if spread > 0 else 1.0)


def _mark_cuts(axes: Axes, shown: _Shown) -> None:
    """Shade every second interval in which both derivatives keep their sign."""
    edges = shown.time[np.flatnonzero(shown.curves.cut)]
    edges = np.concatenate(([shown.time[0]], edges, [shown.time[-1]]))
    for start, stop in zip(edges[::2], edges[1::2], strict=False):
        axes.axvspan(start, stop, color="#000000", alpha=0.06, lw=0, zorder=0)


def _draw(figure: ReportFigure, shown: _Shown, result: xr.Dataset) -> None:
    traces, slopes, affinity = figure.subplots(3, 1, sharex=True, height_ratios=[1.2, 1.2, 1])
    styles = list(zip(shown.names, CATEGORICAL, LINE_STYLES, strict=False))
    for row, (name, color, style) in enumerate(styles):
        options = {"color": color, "linestyle": style, "lw": 1.0, "label": name}
        traces.plot(shown.time, _z(shown.traces[row]), **options)
        slopes.plot(shown.time, shown.curves.slope[row], **options)
    slopes.axhline(0, color=INK, lw=0.5)
    _mark_cuts(slopes, shown)
    affinity.plot(shown.time, shown.curves.affinity, color=INK, lw=0.7, label="each frame")
    affinity.step(
        shown.time_bin, shown.binned, where="mid", color=CATEGORICAL[2], lw=1.4, label="bins"
    )
    for axes in (traces, affinity):
        shade_intervals(axes, shown.motif.intervals)
    traces.set_ylabel("Trace (SD)")
    slopes.set_ylabel("Scaled derivative")
    slopes.set_ylim(-1.1, 1.1)
    affinity.set_ylabel("Affinity (1)")
    affinity.set_ylim(bottom=0)
    affinity.set_xlabel("Time (s)")
    affinity.set_xlim(*_span(shown))
    traces.set_title(
        f"{shown.names[0]} and {shown.names[1]}, motif {shown.motif.number}, "
        f"subject {shown.subject}"
    )
    for axes in (traces, affinity):
        axes.legend(loc="upper left", ncols=2, frameon=False, fontsize=6)


def _table(shown: _Shown | None) -> pd.DataFrame:
    import pandas as pd

    columns = ["time_s", "neuron", "trace", "scaled_derivative", "affinity"]
    if shown is None:
        return pd.DataFrame([(np.nan, "", np.nan, np.nan, np.nan)], columns=columns)
    start, stop = _span(shown)
    inside = (shown.time >= start) & (shown.time <= stop)
    parts = [
        pd.DataFrame(
            {
                "time_s": shown.time[inside],
                "neuron": name,
                "trace": shown.traces[row][inside],
                "scaled_derivative": shown.curves.slope[row][inside],
                "affinity": shown.curves.affinity[inside],
            }
        )
        for row, name in enumerate(shown.names)
    ]
    return pd.concat(parts, ignore_index=True)


FORMULAS = {
    "excess": "the moving covariance of the two absolute derivatives, so that being active at the "
    "same level is not enough",
    "differential": "the similarity of the two absolute derivatives within each interval",
    "abs_corr": "the absolute correlation of the two traces in a moving window",
    "abs_dcorr": "the absolute correlation of the two derivatives in a moving window",
}

CAPTION = (
    "How affinity arises, for one pair: the most strongly bound one of the strongest community "
    "(first motif that has one), in the subject in which the motif weighs most. Top: traces in "
    "units of their SD. Middle: smoothed derivatives divided by their {quantile:g} quantile and "
    "clipped at 1; the change from white to grey marks where one of them changes its sign. Bottom: "
    "affinity ({mode}): {formula}; thin line each frame, thick line the bins that "
    "enter the tensor. Grey stretches of top and bottom: the motif is active. n = 1 pair, no "
    "error bars. Good: affinity is high where both traces change together, also in opposite "
    "directions, and low where only one does. Bad: high affinity while the traces are flat "
    "(noise), or one common step that makes all of it (motion)."
)


def draw_affinity(result: xr.Dataset) -> ReportFigure:
    """Draw traces, derivatives and affinity of the most strongly bound pair.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with ``activity(subject, neuron, time)``.
    """
    settings = _settings(result)
    shown = _shown(result)
    figure = ReportFigure(
        title="From traces to affinity",
        caption=CAPTION.format(
            quantile=settings.scale_quantile, mode=settings.mode, formula=FORMULAS[settings.mode]
        ),
        table=_table(shown),
        width="medium",
        height_mm=95,
    )
    if shown is None:
        note(figure.subplots(), "No pair of neurons has a weight in any motif.")
    else:
        _draw(figure, shown, result)
    return figure
