"""Figure of persistent homology: Betti curves and longest bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.figures.panels import short
from neuropipe.analyses.trsa.summary import count_text, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import category_styles

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

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
    figure = ReportFigure(
        title="Persistent homology", caption=caption, table=_table(result), height_mm=58
    )
    left, middle, right = figure.subplots(1, 3)
    for degree, axes in enumerate((left, middle)):
        for region in regions:
            curve = result["betti"].isel(homology=degree).sel(region=region).mean("subject").values
            style = styles[region]
            axes.step(result["filtration"].values, curve, where="post", color=style["color"],
                      ls=style["linestyle"], label=short(region))  # fmt: skip
        axes.set(xlabel="Scaled dissimilarity", ylabel=f"β{degree} (count)", ylim=(0, None))
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
