"""Figure 2: who belongs to which community, by name, and how communities merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.ntf.figures.annotations import community_colors, count_text, format_p
from neuropipe.analyses.ntf.motifs import Motif, list_motifs, text_values
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, CATEGORICAL, INK, MARKERS
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_communities"]

MAX_EDGES = 150
MANY_NAMES = 44
MAX_VALUES = 3
LIMIT = 1.45
UNKNOWN = "unknown class"


def _classes(result: xr.Dataset) -> list[str]:
    """Return the class of each neuron, ``unknown class`` where there is none."""
    if "neuron_class" not in result:
        return [UNKNOWN] * result.sizes["neuron"]
    found = text_values(result["neuron_class"])
    return [UNKNOWN if name in ("", "nan", "None") else name for name in found]


def _class_styles(classes: list[str]) -> dict[str, tuple[str, str]]:
    known = sorted({*classes} - {UNKNOWN})
    styles = {
        name: (CATEGORICAL[i % len(CATEGORICAL)], MARKERS[i % len(MARKERS)])
        for i, name in enumerate(known)
    }
    return {**styles, UNKNOWN: ("#7F7F7F", MARKERS[0])} if UNKNOWN in classes else styles


def _angles(motif: Motif) -> np.ndarray:
    """Return the angle of each member on the circle, with gaps between communities."""
    sizes = [one.members.size for one in motif.communities]
    gap = max(1.0, 0.04 * sum(sizes))
    step = 2 * np.pi / (sum(sizes) + gap * len(sizes))
    angles, at = [], 0.0
    for size in sizes:
        angles.extend((at + k) * step for k in range(size))
        at += size + gap
    return np.pi / 2 - np.array(angles)


def _draw_edges(axes: Axes, places: np.ndarray, graph: np.ndarray) -> None:
    from matplotlib.collections import LineCollection

    rows, columns = np.triu_indices(len(graph), 1)
    weight = np.nan_to_num(graph[rows, columns])
    strongest = np.argsort(weight, kind="stable")[-MAX_EDGES:]
    strongest = strongest[weight[strongest] > 0]
    if not strongest.size:
        return
    # Of heavy-tailed weights the largest would leave all others invisible.
    share = np.clip(weight[strongest] / np.quantile(weight[strongest], 0.8), 0, 1)
    segments = np.stack([places[rows[strongest]], places[columns[strongest]]], axis=1)
    colors = np.zeros((strongest.size, 4))
    colors[:, 3] = 0.04 + 0.36 * share**2
    axes.add_collection(LineCollection(segments, linewidths=0.2 + 1.1 * share, colors=colors))


def _write_names(axes: Axes, names: list[str], angles: np.ndarray) -> None:
    """Write the names around the circle, the smaller the more there are."""
    size = float(np.clip(6.2 * 40 / max(len(names), 1), 3.4, 6.2))
    for name, angle in zip(names, angles, strict=True):
        flip = np.cos(angle) < -1e-9
        axes.text(
            1.07 * np.cos(angle),
            1.07 * np.sin(angle),
            name,
            rotation=np.degrees(angle) + (180 if flip else 0),
            rotation_mode="anchor",
            ha="right" if flip else "left",
            va="center",
            fontsize=size,
        )


def _draw_arcs(axes: Axes, motif: Motif, angles: np.ndarray, colors: dict[str, str]) -> None:
    """Draw an arc inside the circle along each community, with its name."""
    at = 0
    for one in motif.communities:
        part = angles[at : at + one.members.size]
        at += one.members.size
        arc = np.linspace(part[0], part[-1], 60)
        axes.plot(0.93 * np.cos(arc), 0.93 * np.sin(arc), color=colors[one.name], lw=2.2, zorder=2)
        middle = part.mean()
        axes.text(
            0.78 * np.cos(middle),
            0.78 * np.sin(middle),
            one.name,
            color=INK,
            fontsize=7,
            fontweight="bold",
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": colors[one.name], "lw": 0.8},
            zorder=4,
        )


def _draw_graph(
    axes: Axes, motif: Motif, result: xr.Dataset, classes: list[str], colors: dict[str, str]
) -> None:
    graph = result["component_adjacency"].values[motif.number - 1]
    names = text_values(result["neuron"])
    members = np.concatenate([one.members for one in motif.communities])
    angles = _angles(motif)
    places = np.column_stack([np.cos(angles), np.sin(angles)])
    _draw_edges(axes, places, graph[np.ix_(members, members)])
    for name, (color, marker) in _class_styles(classes).items():
        chosen = np.array([classes[i] == name for i in members])
        axes.scatter(
            *places[chosen].T, s=14, c=color, marker=marker, lw=0.3, edgecolors="white", zorder=3
        )
    _write_names(axes, [names[i] for i in members], angles)
    _draw_arcs(axes, motif, angles, colors)
    axes.set_axis_off()


def _level_order(motif: Motif, levels: np.ndarray) -> np.ndarray:
    """Return the order of the columns: communities first, background by what it joins later."""
    later = np.where(levels[1:, motif.background] < 0, np.iinfo(np.int64).max, 0)
    joined = np.lexsort(later) if len(later) else np.arange(motif.background.size)
    return np.concatenate([*(one.members for one in motif.communities), motif.background[joined]])


def _distinct_levels(levels: np.ndarray) -> np.ndarray:
    """Return the levels that differ from the one before."""
    changed = [True, *((levels[1:] != levels[:-1]).any(axis=1))]
    return levels[np.array(changed)]


def _draw_levels(axes: Axes, motif: Motif, levels: np.ndarray, colors: dict[str, str]) -> None:
    """Draw one strip per level: neurons in a row, coloured by the community they fall into."""
    from matplotlib.colors import to_rgb

    levels = _distinct_levels(levels)
    axes.set_axis_off()
    if len(levels) < 2:
        return
    levels = levels[:, _level_order(motif, levels)]
    names = [one.name for one in motif.communities]
    strips = np.full((*levels.shape, 3), to_rgb("#EDEDED"))
    for row, labels in zip(strips, levels, strict=True):
        for label in np.unique(labels[labels >= 0]):
            origin = levels[0][(labels == label) & (levels[0] >= 0)]
            color = colors[names[np.bincount(origin).argmax()]] if origin.size else BACKGROUND
            row[labels == label] = to_rgb(color)
    axes.imshow(strips[::-1], aspect="auto")
    for line in np.arange(0.5, len(levels) - 0.5):
        axes.axhline(line, color="white", lw=1)
    for place, text in ((0, "coarse"), (len(levels) - 1, "fine")):
        axes.text(-1, place, text, ha="right", va="center", fontsize=6, color=INK)


def _draw_motif(
    graph_axes: Axes,
    level_axes: Axes,
    motif: Motif,
    result: xr.Dataset,
    classes: list[str],
    colors: dict[str, str],
) -> None:
    component = motif.number - 1
    graph_axes.set_title(f"Motif {motif.number}")
    level_axes.set_axis_off()
    graph_axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal")
    values = [f"{one.name} {format_p(one.pvalue)}" for one in motif.communities[:MAX_VALUES]]
    more = len(motif.communities) - MAX_VALUES
    text = ", ".join([*values, *([f"+{more}"] if more > 0 else [])])
    graph_axes.set_title(f"Motif {motif.number}", pad=11)
    graph_axes.text(0, 1.005, text, fontsize=6, transform=graph_axes.transAxes, color=INK)
    _draw_graph(graph_axes, motif, result, classes, colors)
    _draw_levels(level_axes, motif, result["community"].values[component], colors)


def _add_legend(figure: ReportFigure, classes: list[str]) -> None:
    from matplotlib.lines import Line2D

    styles = _class_styles(classes)
    if set(styles) == {UNKNOWN}:
        return
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="", markersize=4, label=name)
        for name, (color, marker) in styles.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 8))


def _table(result: xr.Dataset, motifs: list[Motif], classes: list[str]) -> pd.DataFrame:
    import pandas as pd

    names = text_values(result["neuron"])
    rows = [
        (motif.number, one.name, names[i], classes[i], one.members.size, one.strength, one.pvalue)
        for motif in motifs
        for one in motif.communities
        for i in one.members
    ]
    columns = ["motif", "community", "neuron", "neuron_class", "size", "strength", "pvalue"]
    return pd.DataFrame(rows, columns=columns)


CAPTION = (
    "Communities of each motif ({n}). Neurons on the circle are members, strongest first within "
    "their community; neurons of the background are left out. Lines are the strongest pairs, at "
    "most {edges} per motif, thicker for more weight. {marks}p compares the "
    "community with the strongest one in null graphs (family-wise){nulls}. "
    "Strip below: each column is a neuron, each row a level of the hierarchy from fine (bottom) to "
    "coarse (top); colours that join upwards are communities that merge, grey is background; no "
    "strip means one level. {absent}"
    "Good: many lines inside a community and few between, p below 0.05, neurons of one "
    "kind or left-right pairs together. Bad: lines everywhere, or a p above 0.05 (as strong a "
    "community also arises in the null graphs)."
)
NULLS = {
    "permute": " of the same weights in random places; independent neurons of unequal activity "
    "have a small p as well: `significance: circular_shift` tests for interaction",
    "circular_shift": " of traces shifted in time: independent neurons with the same activity",
}


def _absent(motifs: list[Motif]) -> str:
    """Return which motifs are not drawn because they have no community."""
    numbers = [str(motif.number) for motif in motifs if not motif.communities]
    if not numbers:
        return ""
    return f"Without community, not drawn: motif{'s' * (len(numbers) > 1)} {', '.join(numbers)}. "


def draw_communities(result: xr.Dataset) -> ReportFigure:
    """Draw the members of every community by name, their strongest pairs, and the levels.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    motifs = list_motifs(result)
    classes = _classes(result)
    colors = community_colors(motifs)
    shown = [motif for motif in motifs if motif.communities]
    most = max((sum(one.members.size for one in motif.communities) for motif in shown), default=0)
    columns = min(2 if most > MANY_NAMES else 3, max(len(shown), 1))
    rows = -(-len(shown) // columns)
    width = 174 / max(columns, 2)
    marks = "Colour and shape of a dot give the class of the neuron."
    caption = CAPTION.format(
        n=f"n = {count_text(result.sizes['neuron'], 'neuron')}, "
        f"{count_text(result.sizes['subject'], 'subject')}",
        edges=MAX_EDGES,
        marks="" if set(classes) == {UNKNOWN} else f"{marks} ",
        absent=_absent(motifs),
        nulls=NULLS.get(str(result.attrs.get("significance", "")), "; Methods say which"),
    )
    figure = ReportFigure(
        title="Communities of each motif",
        caption=caption,
        table=_table(result, motifs, classes),
        height_mm=10 + rows * (width + 16) if rows else 30,
    )
    if not shown:
        note(figure.subplots(), "No community stands out of the background in any motif.")
        return figure
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=[10, 1] * rows)
    for place in range(rows * columns):
        pair = axes[2 * (place // columns) : 2 * (place // columns) + 2, place % columns]
        if place < len(shown):
            _draw_motif(*pair, shown[place], result, classes, colors)
        else:
            pair[0].set_axis_off()
            pair[1].set_axis_off()
    _add_legend(figure, classes)
    return figure
