"""Figure 4: regions, subjects and conditions in a plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from neuropipe.analyses.trsa.figures.panels import (
    after_zero,
    condition_categories,
    condition_names,
    mean_over_subjects,
    short,
)
from neuropipe.analyses.trsa.summary import BASELINE, count_text, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, category_styles
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_arrangement"]

NAMED = 40


def _hull(axes: Axes, points: np.ndarray, color: str) -> None:
    if len(points) < 3:
        return
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return
    axes.fill(*corners.T, color=color, alpha=0.15, lw=0)


def _items(axes: Axes, result: xr.Dataset, descriptor: int) -> None:
    """Draw all (subject, region) by one descriptor, with the hull of each region."""
    points = result["mds_item"].isel(descriptor=descriptor).transpose("item", "mds_dim").values
    region = np.array(names_of(result["item_region"]))
    stress = float(result["mds_item_stress"][descriptor])
    name = names_of(result["descriptor"])[descriptor]
    if not np.isfinite(points).all():
        note(axes, "Fewer than three RDMs:\nnothing to arrange.")
        return
    for label, style in category_styles(names_of(result["region"])).items():
        own = points[region == label]
        axes.scatter(
            *own.T, s=12, color=style["color"], marker=style["marker"], lw=0, label=short(label)
        )
        _hull(axes, own, style["color"])
    axes.set(xlabel="MDS 1 (a.u.)", ylabel="MDS 2 (a.u.)")
    axes.set_title(f"{name}, stress {stress:.2f}")
    axes.set_aspect("equal", adjustable="datalim")


def _conditions(axes: Axes, result: xr.Dataset, region: int) -> None:
    points = result["mds"].isel(region=region)
    misfit = result["mds_stress"].isel(region=region)
    if "time" in points.dims:
        last = int(np.argmin(np.abs(result["time"].values - np.median(result["time"].values))))
        points, misfit = points.isel(time=last), misfit.isel(time=last)
    points, names = points.transpose("condition", "mds_dim").values, condition_names(result)
    categories = condition_categories(result)
    if categories is None:
        axes.scatter(*points.T, s=9, color=CATEGORICAL[0], lw=0)
    else:
        _by_category(axes, points, np.array(categories))
    if len(names) <= NAMED:
        for name, (x, y) in zip(names, points, strict=True):
            axes.annotate(
                short(name, 10), (x, y), xytext=(2, 1), textcoords="offset points", fontsize=5
            )
    axes.set(xlabel="MDS 1 (a.u.)", ylabel="MDS 2 (a.u.)")
    axes.set_title(
        f"Conditions, {short(names_of(result['region'])[region])}, stress {float(misfit):.2f}"
    )
    axes.set_aspect("equal", adjustable="datalim")


def _by_category(axes: Axes, points: np.ndarray, categories: np.ndarray) -> None:
    for name, style in category_styles(sorted(set(categories.tolist()))).items():
        own = points[categories == name]
        axes.scatter(*own.T, s=12, lw=0, color=style["color"], marker=style["marker"],
                     label=short(name or "none"))  # fmt: skip
    axes.legend(fontsize=5)


def _shepard(axes: Axes, result: xr.Dataset, region: int) -> None:
    """Draw distances in the plane against the dissimilarities that they stand for."""
    rdm = result["rdm"].isel(region=[region])
    points = result["mds"].isel(region=region)
    if "time" in points.dims:
        last = int(np.argmin(np.abs(result["time"].values - np.median(result["time"].values))))
        points, rdm = points.isel(time=last), rdm.isel(time=last)
    given = mean_over_subjects(after_zero(rdm))[0]
    if rdm.attrs.get("squared", 0):
        given = np.sqrt(np.maximum(given, 0))
    shown = pdist(points.transpose("condition", "mds_dim").values)
    axes.scatter(given, shown, s=3, color=CATEGORICAL[0], lw=0, alpha=0.5)
    top = float(np.nanmax([np.nanmax(given), shown.max()]))
    axes.plot([0, top], [0, top], color=INK, lw=0.7, ls="--")
    axes.set(xlabel="Dissimilarity (as distance)", ylabel="Distance in the plane")
    axes.set_title("Shepard plot")


def _table(result: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    points = result["mds_item"].transpose("descriptor", "item", "mds_dim").values
    subject, region = (names_of(result[f"item_{name}"]) for name in ("subject", "region"))
    parts = [
        pd.DataFrame({"descriptor": name, "subject": subject, "region": region,
                      "mds_1": rows[:, 0], "mds_2": rows[:, 1]})
        for name, rows in zip(names_of(result["descriptor"]), points, strict=True)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


ITEMS = (
    "Top: {items} (one per subject and region) by the distances of their descriptors, by ranked "
    "geometry and after the geo-topological transform, turned to match each other; hulls hold the "
    "subjects of one region. Good: hulls apart; those that overlap cannot be told apart. Below: "
)
CONDITIONS = (
    "Conditions by the mean RDM of the first region{middle}, and how well the plane keeps the "
    "dissimilarities (on the dashed line: exactly). Stress (Kruskal's stress 1) above about 0.2: "
    "do not read single distances off the plane. Axes have no meaning of their own."
)


def draw_arrangement(result: xr.Dataset) -> ReportFigure:
    """Draw subjects and regions by geometry and by topology, and conditions of one region.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    several = result.sizes["item"] > 2
    middle = " (middle of the movie)" if "time" in result["rdm"].dims else ""
    items = count_text(result.sizes["item"], "RDM")
    figure = ReportFigure(
        title="Arrangement of regions and conditions",
        caption=(ITEMS.format(items=items) if several else "") + CONDITIONS.format(middle=middle),
        table=_table(result),
        width="wide",
        height_mm=140 if several else 70,
    )
    grid = figure.subplots(2 if several else 1, 2, squeeze=False)
    if several:
        _items(grid[0, 0], result, BASELINE)
        _items(grid[0, 1], result, min(BASELINE + 1, result.sizes["descriptor"] - 1))
        grid[0, 1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=5)
    _conditions(grid[-1, 0], result, 0)
    _shepard(grid[-1, 1], result, 0)
    return figure
