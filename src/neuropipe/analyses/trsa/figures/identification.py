"""Figure 3: which region a held-out subject's descriptor comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.figures.panels import short
from neuropipe.analyses.trsa.summary import BASELINE, count_text, identification_table, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, MISSING, SEQUENTIAL, category_styles
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_identification"]


def _map(figure: Figure, axes: Axes, result: xr.Dataset) -> None:
    """Draw the accuracy over thresholds with the borders of the classes and the best cell."""
    import matplotlib as mpl
    from matplotlib.patches import Rectangle

    values = result["accuracy_map"].transpose("lower", "upper").values
    steps = result["lower"].values
    half = (steps[1] - steps[0]) / 2
    colormap = mpl.colormaps[SEQUENTIAL].with_extremes(bad="white")
    extent = (steps[0] - half, steps[-1] + half, steps[0] - half, steps[-1] + half)
    image = axes.imshow(
        np.ma.masked_invalid(values.T), origin="lower", extent=extent, cmap=colormap
    )
    lines = (
        ([0, 0.2], [0.4, 0.2]),  # mean 0.2
        ([0.6, 0.8], [1.0, 0.8]),  # mean 0.8
        ([0, 0.2], [0.8, 1.0]),  # width 0.8
        ([0.4, 0.4, 0.6], [0.4, 0.6, 0.6]),  # topology
    )
    for x, y in lines:
        axes.plot(x, y, color="white", lw=1.6)
        axes.plot(x, y, color=INK, lw=0.8, ls="--")
    for name, x, y in (("local", 0.03, 0.1), ("global", 0.78, 0.93), ("geometry", 0.02, 0.93),
                       ("topology", 0.4, 0.63)):  # fmt: skip
        axes.text(x, y, name, fontsize=5, color="white", fontweight="bold")
    best = np.unravel_index(np.nanargmax(values), values.shape)
    corner = (steps[best[0]] - half, steps[best[1]] - half)
    axes.add_patch(Rectangle(corner, 2 * half, 2 * half, fill=False, ec=CATEGORICAL[3], lw=1.5))
    axes.set(xlabel="Lower threshold l (quantile)", ylabel="Upper threshold u (quantile)")
    title = f"best cell {np.nanmax(values):.2f} (biased)"
    if "accuracy_map_pvalue" in result:
        title += f", p = {result['accuracy_map_pvalue'].values[best]:.3f}"
    axes.set_title(title)
    figure.colorbar(image, ax=axes, label="Accuracy", shrink=0.8)


def _bars(axes: Axes, result: xr.Dataset) -> None:
    names = names_of(result["descriptor"])
    accuracy, error = result["identification_accuracy"].values, result["accuracy_se"].values
    places = np.arange(len(names))
    axes.barh(places, accuracy, xerr=np.nan_to_num(error), color=CATEGORICAL[0], height=0.7,
              error_kw={"elinewidth": 1, "capsize": 2, "ecolor": CATEGORICAL[3]})  # fmt: skip
    if "accuracy_nested" in result:
        names = [*names, "chosen inside"]
        axes.barh(len(places), float(result["accuracy_nested"]), color=CATEGORICAL[2], height=0.7)
    offset = len(names) + 0.5
    classes = names_of(result["class_name"])
    places = offset + np.arange(len(classes))
    axes.barh(places, result["accuracy_class"].values, height=0.7, color=CATEGORICAL[5],
              xerr=np.nan_to_num(result["accuracy_class_se"].values),
              error_kw={"elinewidth": 1, "capsize": 2, "ecolor": CATEGORICAL[3]})  # fmt: skip
    ticks = [*range(len(names)), *(offset + k for k in range(len(classes)))]
    axes.set_yticks(ticks, [*names, *(f"class {name}" for name in classes)], fontsize=6)
    chance = 1 / result.sizes["region"]
    axes.axvline(chance, color=INK, ls="--", lw=0.8)
    axes.set(
        xlabel="Accuracy (dashed: chance)", xlim=(0, 1.05), ylim=(offset + len(classes) - 0.4, -0.6)
    )


def _noise(axes: Axes, result: xr.Dataset) -> None:
    """Draw accuracy against the noise added to the RDMs, one line per descriptor."""
    chance = 1 / result.sizes["region"]
    axes.axhline(chance, color=INK, ls="--", lw=0.8)
    axes.set(xlabel="Noise added (SD of RDM entries)", ylabel="Accuracy", ylim=(0, 1.05))
    if "accuracy_noise" not in result:
        note(axes, "identify.noise_levels is empty")
        return
    levels = result["noise_level"].values
    width = np.ptp(levels) or 1.0
    styles = category_styles(names_of(result["descriptor"]))
    for k, (name, style) in enumerate(styles.items()):
        row = result["accuracy_noise"].isel(descriptor=k).values
        error = np.nan_to_num(result["accuracy_noise_se"].isel(descriptor=k).values)
        shift = 0.012 * width * (k - len(styles) / 2)  # error bars side by side
        axes.errorbar(levels + shift, row, yerr=error, lw=1, elinewidth=0.6, ms=3, label=name,
                      color=style["color"], marker=style["marker"])  # fmt: skip
    axes.legend(fontsize=5, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _confusion(axes: Axes, result: xr.Dataset, descriptor: int) -> None:
    import matplotlib as mpl

    counts = result["confusion"].isel(descriptor=descriptor).values.astype(float)
    total = counts.sum(axis=1, keepdims=True)
    share = np.where(total > 0, counts / np.where(total > 0, total, 1), np.nan)
    axes.imshow(np.ma.masked_invalid(share), vmin=0, vmax=1,
                cmap=mpl.colormaps[SEQUENTIAL].with_extremes(bad=MISSING))  # fmt: skip
    names = [short(name, 9) for name in names_of(result["region"])]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=5)
    axes.set_yticks(range(len(names)), names, fontsize=5)
    axes.set(xlabel="Identified as", ylabel="Region")
    axes.set_title(names_of(result["descriptor"])[descriptor])
    if len(names) <= 10:
        for (i, j), value in np.ndenumerate(share):
            if value > 0:
                color = "white" if value < 0.6 else "black"
                axes.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=4.5, color=color)


CAPTION = (
    "Top left: share of (subject, region) identified, over lower and upper thresholds of the "
    "transform; dashed lines bound the named classes, the box marks the best cell, whose accuracy "
    "is too good since it was chosen on these data (its p compares it with the best cell under "
    "permuted regions). Top right: accuracy by descriptor with "
    "standard errors over subjects and conditions (blue), with thresholds chosen inside the other "
    "subjects (green, free of that bias), and the mean of a random sample of cells of each class "
    "(light, errors over subjects). Middle: confusions by geometry (ranks) and by geodesic "
    "distances, as shares of each region's {subjects}. Bottom: accuracy after noise was added to "
    "the RDMs, with standard errors over subjects. Good: accuracy far above chance, errors between "
    "neighbouring regions, lines that fall slowly. "
    "Bad: everything taken for one region, or accuracies at the dashed line. The raw RDM also "
    "knows the mean level of dissimilarity; compare topology with geometry (0, 1)."
)


def _remedy(result: xr.Dataset) -> str:
    """Return what identification lacks: regions, or else subjects."""
    if result.sizes.get("region", 1) < 2:
        return "Name an image of regions under input.regions."
    return "Put the recordings of several subjects together under input.scope: cohort."


def draw_identification(result: xr.Dataset) -> ReportFigure:
    """Draw accuracy over thresholds, by descriptor, and confusions.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    import pandas as pd

    title = "Identification of regions"
    if "identification_accuracy" not in result:
        text = "Identification needs two regions or more in two subjects or more."
        figure = ReportFigure(
            title=title, caption=f"{text} {_remedy(result)}",
            table=pd.DataFrame([{"descriptor": "", "accuracy": np.nan}]), height_mm=25,
        )  # fmt: skip
        note(figure.subplots(), text)
        return figure
    figure = ReportFigure(
        title=title,
        caption=CAPTION.format(subjects=count_text(result.sizes["subject"], "subject")),
        table=identification_table(result),
        width="wide",
        height_mm=190,
    )
    layout = [["map", "bars"], ["geometry", "geodesic"], ["noise", "noise"]]
    grid = figure.subplot_mosaic(layout, width_ratios=(1.15, 1), height_ratios=(1, 1, 0.7))
    _map(figure, grid["map"], result)
    _bars(grid["bars"], result)
    _confusion(grid["geometry"], result, BASELINE)
    _confusion(grid["geodesic"], result, result.sizes["descriptor"] - 1)
    _noise(grid["noise"], result)
    return figure
