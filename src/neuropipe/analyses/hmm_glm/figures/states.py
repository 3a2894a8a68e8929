"""Figure 1: which state when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neuropipe.analyses.hmm_glm.figures.annotations import count_text, state_names, state_styles
from neuropipe.analyses.hmm_glm.figures.events import event_labels, events_of_trial
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import INK, LINE_STYLES, MISSING
from neuropipe.plotting.panels import thinned_ticks

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_states"]

SHOWN, SHOWN_VISITS, MOST_TRIALS = 4, 60, 100
LEAST_BINS, MOST_BINS = 150, 1000
STRIP = 0.12  # height of the most probable path above the bands
TABLE_ROWS = 5000
MOST_LABELS = len(LINE_STYLES)


class Stretch(NamedTuple):
    """Bins ``start`` to ``stop`` of one trial."""

    trial: int
    start: int
    stop: int


def _shown_bins(path: np.ndarray) -> int:
    """Return how many bins of a trial are drawn: some tens of visits, so that each is seen."""
    changes = int(((np.diff(path, axis=1) != 0) & (path[:, 1:] >= 0)).sum())
    visit = (path >= 0).sum() / max(changes, 1)
    return int(np.clip(SHOWN_VISITS * visit, LEAST_BINS, MOST_BINS))


def _stretches(result: xr.Dataset) -> list[Stretch]:
    """Return evenly spaced trials, or evenly spaced stretches of few long ones."""
    path = result["state_viterbi"].values
    trials = np.flatnonzero((path >= 0).any(axis=1))
    ends = [np.flatnonzero(path[trial] >= 0)[[0, -1]] + [0, 1] for trial in trials]
    spans = [Stretch(int(k), int(a), int(b)) for k, (a, b) in zip(trials, ends, strict=True)]
    longest = _shown_bins(path)
    if len(spans) >= SHOWN:
        picked = np.linspace(0, len(spans) - 1, SHOWN).round().astype(int)
        spans = [spans[k] for k in picked]
    per_trial = -(-SHOWN // max(len(spans), 1))
    found = []
    for trial, start, stop in spans:
        length = min(stop - start, longest)
        count = min(per_trial, (stop - start) // length)
        for first in np.linspace(start, stop - length, count).astype(int):
            found.append(Stretch(trial, int(first), int(first) + length))
    return found


def _trial_names(result: xr.Dataset) -> list[str]:
    if "trial" not in result.coords:
        return [str(trial) for trial in range(result.sizes["trial"])]
    return [str(name) for name in result["trial"].values]


def _draw_overview(axes: Axes, result: xr.Dataset, colors: list[str]) -> None:
    from matplotlib.colors import ListedColormap

    step = -(-result.sizes["trial"] // MOST_TRIALS)
    path, names = result["state_viterbi"].values[::step], _trial_names(result)[::step]
    time = result["time"].values
    half = float(result.attrs["bin_width_s"]) / 2
    axes.imshow(
        path, cmap=ListedColormap([MISSING, *colors]), vmin=-1.5, vmax=len(colors) - 0.5,
        aspect="auto", interpolation="nearest",
        extent=(time[0] - half, time[-1] + half, len(path) - 0.5, -0.5),
    )  # fmt: skip
    axes.set_title("Most probable path")
    axes.set_ylabel("Trial" if len(path) > 1 else "")
    thinned_ticks(axes, names if len(path) > 1 else [], most=6)


def _draw_bands(axes: Axes, result: xr.Dataset, one: Stretch, colors: list[str]) -> None:
    """Stack the probabilities of the states, with the most probable path above them."""
    from matplotlib.colors import ListedColormap

    inside = slice(one.start, one.stop)
    time = result["time"].values[inside]
    half = float(result.attrs["bin_width_s"]) / 2
    probability = result["state_probability"].values[one.trial, inside]
    seen = np.isfinite(probability).all(axis=1)
    top = np.where(seen[:, None], probability.cumsum(axis=1), np.nan)
    edges, lower = np.append(time - half, time[-1] + half), np.zeros(len(top))
    for upper, color in zip(top.T, colors, strict=True):
        axes.stairs(upper, edges, baseline=lower, fill=True, color=color, lw=0, alpha=0.75)
        lower = upper
    path = result["state_viterbi"].values[one.trial, inside]
    axes.imshow(
        path[None], cmap=ListedColormap([MISSING, *colors]), vmin=-1.5, vmax=len(colors) - 0.5,
        aspect="auto", interpolation="nearest",
        extent=(time[0] - half, time[-1] + half, 1.04, 1.04 + STRIP),
    )  # fmt: skip
    axes.set_xlim(time[0] - half, time[-1] + half)
    axes.set_ylim(0, 1.04 + STRIP)
    axes.set_yticks([0, 0.5, 1])


def _mark(axes: Axes, result: xr.Dataset, trial: int, styles: dict[str, str]) -> None:
    low, high = axes.get_xlim()
    for label, time in events_of_trial(result, trial):
        if low <= time <= high and label in styles:
            axes.axvline(time, color=INK, lw=0.9, ls=styles[label])


def _legend(figure: ReportFigure, result: xr.Dataset, styles: dict[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[object] = [
        Patch(color=style["color"], alpha=0.75, label=name)
        for name, style in zip(state_names(result), state_styles(result), strict=True)
    ]
    handles += [Line2D([], [], color=INK, ls=ls, lw=0.9, label=k) for k, ls in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8))


def _table(result: xr.Dataset) -> pd.DataFrame:
    """Return the visits of all trials: state, begin and end."""
    import pandas as pd

    rows = []
    time, half = result["time"].values, float(result.attrs["bin_width_s"]) / 2
    for name, path in zip(_trial_names(result), result["state_viterbi"].values, strict=True):
        first = np.flatnonzero(np.diff(path, prepend=-2))
        last = np.append(first[1:], path.size) - 1
        rows += [
            (name, int(path[a]) + 1, time[a] - half, time[b] + half)
            for a, b in zip(first, last, strict=True)
            if path[a] >= 0
        ]
    return pd.DataFrame(rows[:TABLE_ROWS], columns=["trial", "state", "start_s", "stop_s"])


CAPTION = (
    "Top: most probable path of {trials}{thinned}, one row per trial. Below: probability of each "
    "state given the whole trial, stacked to 1, with the path above it, for {shown}{events}; "
    "n = {units}. Pale grey was not observed. No error bars: the bands are the uncertainty. Good: "
    "bands that are almost always full of one colour and change sharply, states that come back. "
    "Bad: mixed colours over long stretches (states that cannot be told apart), changes every few "
    "bins, a state seen once, states that follow each other once through the recording (drift of "
    "the recording, not states)."
)


def draw_states(result: xr.Dataset) -> ReportFigure:
    """Draw the most probable path of all trials, and posterior bands of some.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    colors = [style["color"] for style in state_styles(result)]
    shown = _stretches(result)
    labels = event_labels(result)[:MOST_LABELS]
    styles = dict(zip(labels, LINE_STYLES, strict=False))
    n_trials = result.sizes["trial"]
    step = -(-n_trials // MOST_TRIALS)
    several = n_trials > 1
    what = "evenly spaced trials" if several else "evenly spaced stretches"
    figure = ReportFigure(
        title="States over time",
        caption=CAPTION.format(
            trials=count_text(n_trials, "trial"),
            thinned=f" (every {step}th)" if step > 1 else "",
            shown=f"{len(shown)} {what}" if len(shown) > 1 else "the recording",
            events="; vertical lines are events" if styles else "",
            units=count_text(result.sizes["unit"], "row"),
        ),
        table=_table(result),
        height_mm=20 + (12 + min(1.2 * n_trials, 30)) + 24 * len(shown),
    )
    heights = [0.4 + min(0.05 * n_trials, 1.2), *[1] * len(shown)]
    axes = figure.subplots(1 + len(shown), 1, height_ratios=heights)
    _draw_overview(axes[0], result, colors)
    names, same = _trial_names(result), len({one[1:] for one in shown}) == 1
    for place, one in zip(axes[1:], shown, strict=True):
        _draw_bands(place, result, one, colors)
        _mark(place, result, one.trial, styles)
        place.set_ylabel(f"Trial {names[one.trial]}" if several else "Probability")
        if same and one is not shown[-1]:
            place.set_xticklabels([])
    axes[-1].set_xlabel("Time (s)")
    _legend(figure, result, styles)
    return figure
