"""Figure of persistent homology: Betti curves and longest bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.figures.panels import short
from neuropipe.analyses.trsa.summary import count_text, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import MISSING, SEQUENTIAL, category_styles

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import SubFigure

__all__ = ["draw_homology"]


def _table(result: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for subject in names_of(result["subject"]):
        for region in names_of(result["region"]):
            for degree in names_of(result["homology"]):
                one = result.sel(subject=subject, region=region, homology=degree)
                rows.append(
                    {
                        "subject": subject, "region": region, "homology": degree,
                        "longest_bar": float(one["longest_bar"]),
                        "total_persistence": float(one["total_persistence"]),
                        "persistence_entropy": float(one["persistence_entropy"]),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


COMPARED = (
    " Below: {method} distances between the diagrams of all subjects and regions, for components "
    "(H0) and loops (H1). Good: small within a region (blocks on the diagonal), large between."
)


def _distances(figure: SubFigure, result: xr.Dataset) -> None:
    """Draw the distances between all diagrams, subjects of one region side by side."""
    import matplotlib as mpl

    values = result["diagram_distance"].transpose(
        "homology", "region", "subject", "region_2", "subject_2"
    )
    regions, count = names_of(result["region"]), result.sizes["subject"]
    colormap = mpl.colormaps[SEQUENTIAL].with_extremes(bad=MISSING)
    for k, axes in enumerate(figure.subplots(1, 2)):
        square = values.values[k].reshape(len(regions) * count, -1)
        image = axes.imshow(np.ma.masked_invalid(square), cmap=colormap, vmin=0)
        places = count * (np.arange(len(regions)) + 0.5) - 0.5
        axes.set_xticks(places, [short(name, 9) for name in regions], rotation=40, ha="right",
                        fontsize=6)  # fmt: skip
        axes.set_yticks(places, [short(name, 9) for name in regions], fontsize=6)
        for edge in count * np.arange(1, len(regions)) - 0.5:
            axes.axhline(edge, color="white", lw=0.8)
            axes.axvline(edge, color="white", lw=0.8)
        axes.set_title(f"distances, {names_of(result['homology'])[k]}")
        figure.colorbar(image, ax=axes, shrink=0.8)


def draw_homology(result: xr.Dataset) -> ReportFigure:
    """Draw Betti curves and the longest loop of every subject.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with persistent homology.
    """
    regions = names_of(result["region"])
    styles = category_styles(regions)
    caption = (
        "Left, middle: number of connected components (β0) and of loops (β1) of the conditions "
        f"joined below each scaled dissimilarity, mean of "
        f"{count_text(result.sizes['subject'], 'subject')}. Right: length of the longest loop bar "
        "of each subject. Good: one loop that lasts over much of the scale means a ring of "
        "conditions; many short ones are noise. Compare with shuffled conditions or another region "
        "before naming a shape."
    )
    compared = "diagram_distance" in result
    if compared:
        caption += COMPARED.format(
            method=str(result["diagram_distance"].attrs["method"]).replace("_", " ")
        )
    figure = ReportFigure(
        title="Persistent homology", caption=caption, table=_table(result),
        height_mm=138 if compared else 58,
    )  # fmt: skip
    curves = figure
    if compared:
        curves, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
        _distances(below, result)
    left, middle, right = curves.subplots(1, 3)
    for degree, axes in enumerate((left, middle)):
        for region in regions:
            curve = result["betti"].isel(homology=degree).sel(region=region).mean("subject").values
            style = styles[region]
            axes.step(result["filtration"].values, curve, where="post", color=style["color"],
                      ls=style["linestyle"], label=short(region))  # fmt: skip
        top = 1.08 * max(float(result["betti"].isel(homology=degree).mean("subject").max()), 1.0)
        axes.set(xlabel="Scaled dissimilarity", ylabel=f"β{degree} (count)", ylim=(0, top))
        axes.locator_params(axis="y", integer=True)
    longest = result["longest_bar"].sel(homology="H1").transpose("subject", "region").values
    for k, region in enumerate(regions):
        own, style = longest[:, k], styles[region]
        spread = np.linspace(-0.15, 0.15, own.size) if own.size > 1 else np.zeros(1)
        right.scatter(k + spread, own, s=12, lw=0, color=style["color"], marker=style["marker"])
    right.set_xticks(range(len(regions)), [short(r) for r in regions], rotation=40, ha="right")
    right.set(ylabel="Longest H1 bar", ylim=(0, None))
    middle.legend(fontsize=5)
    return figure
