"""Figure 3: back to the data, the traces of the neurons that were grouped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.ntf.figures.annotations import community_colors, count_text, subject_epochs
from neuropipe.analyses.ntf.motifs import Community, Motif, list_motifs, text_values
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.panels import note, shade_epochs, shade_intervals, stacked_traces

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_traces"]

MAX_PANELS, MAX_TRACES = 12, 12
TRACE_MM, PANEL_MM = 2.7, 15.0
TABLE_POINTS = 600


@dataclass(frozen=True)
class _Panel:
    motif: Motif
    community: Community
    subject: int
    neurons: np.ndarray


def _panel(motif: Motif, community: Community, seen: np.ndarray) -> _Panel | None:
    """Return what to draw: the subject of most weight that has three members, or any.

    `seen` (n_subjects, n_neurons) is true where there is a trace.
    """
    counts = seen[:, community.members].sum(axis=1)
    for least in (3, 1):
        for subject in motif.subjects:
            if counts[subject] >= least:
                members = community.members[seen[subject, community.members]]
                return _Panel(motif, community, int(subject), members[:MAX_TRACES])
    return None


def _panels(motifs: list[Motif], seen: np.ndarray) -> list[_Panel]:
    """Return at most `MAX_PANELS` panels: the strongest community of each motif, then seconds."""
    ranked = [
        (motif, one)
        for position in range(max((len(motif.communities) for motif in motifs), default=0))
        for motif in motifs
        for one in motif.communities[position : position + 1]
    ]
    found = [_panel(motif, one, seen) for motif, one in ranked]
    chosen = [panel for panel in found if panel is not None][:MAX_PANELS]
    return sorted(chosen, key=lambda panel: (panel.motif.number, panel.community.name))


def _draw(
    axes: Axes,
    panel: _Panel,
    result: xr.Dataset,
    activity: np.ndarray,
    *,
    color: str,
    top: bool,
) -> None:
    names = text_values(result["neuron"])
    subject = text_values(result["subject"])[panel.subject]
    time = result["time"].values
    epochs = subject_epochs(result, subject)
    shade_epochs(axes, epochs, names=top)
    shade_intervals(axes, panel.motif.intervals, color)
    traces = activity[panel.subject, panel.neurons]
    stacked_traces(
        axes, time, traces, [names[i] for i in panel.neurons], colors=[color] * len(traces)
    )
    axes.set_xlim(time[0], time[-1])
    axes.set_title(
        f"Community {panel.community.name}, subject {subject}", pad=9 if top and epochs else 4
    )


def _table(panels: list[_Panel], result: xr.Dataset, activity: np.ndarray) -> pd.DataFrame:
    """Return the traces in long form, every k-th sample where they are long."""
    import pandas as pd

    names, subjects = text_values(result["neuron"]), text_values(result["subject"])
    time = result["time"].values
    step = max(1, -(-time.size // TABLE_POINTS))
    parts = [
        pd.DataFrame(
            {
                "community": panel.community.name,
                "subject": subjects[panel.subject],
                "neuron": names[i],
                "time_s": time[::step],
                "activity": activity[panel.subject, i, ::step].astype(float),
            }
        )
        for panel in panels
        for i in panel.neurons
    ]
    columns = ["community", "subject", "neuron", "time_s", "activity"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


CAPTION = (
    "Traces of {shown} of {total}, as they entered the analysis, each in units of its own SD "
    "(4 SD from one trace to the next); at most {most} neurons per community (the most strongly "
    "bound first), from the subject in which the motif weighs most. Coloured: when the motif is "
    "active; pale bands: epochs of that subject. No averaging, no error bars. Good: within the "
    "coloured interval the traces rise or fall together, outside they do not. Bad: one common step "
    "or drift in all traces (motion, bleaching), or a single event shared by the group."
)


def draw_traces(result: xr.Dataset) -> ReportFigure:
    """Draw the traces of the strongest communities, with the motif's active interval shaded.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with ``activity(subject, neuron, time)``.
    """
    motifs = list_motifs(result)
    activity = result["activity"].transpose("subject", "neuron", "time").values
    panels = _panels(motifs, np.isfinite(activity).any(axis=2))
    total = sum(len(motif.communities) for motif in motifs)
    caption = CAPTION.format(
        shown=len(panels), total=count_text(total, "community", "communities"), most=MAX_TRACES
    )
    columns = min(2, max(len(panels), 1))
    lengths = [len(panel.neurons) for panel in panels]
    tallest = [max(lengths[k : k + columns]) for k in range(0, len(lengths), columns)] or [4]
    heights = [PANEL_MM + TRACE_MM * count for count in tallest]
    figure = ReportFigure(
        title="Back to the data: traces of each community",
        caption=caption,
        table=_table(panels, result, activity),
        height_mm=sum(heights) + 4,
    )
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights).ravel()
    if not panels:
        note(axes[0], "No community to show traces of.")
        return figure
    colors = community_colors(motifs)
    for place, (one, panel) in enumerate(zip(axes, panels, strict=False)):
        color = colors[panel.community.name]
        _draw(one, panel, result, activity, color=color, top=place < columns)
    for unused in axes[len(panels) :]:
        unused.set_visible(False)
    for one in axes[: len(panels)][-columns:]:
        one.set_xlabel("Time (s)")
    return figure
