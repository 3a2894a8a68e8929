"""Figure 1: mean RDMs of the regions, raw and as descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.figures.panels import (
    MOST_REGIONS,
    after_zero,
    category_legend,
    condition_categories,
    condition_names,
    mean_over_subjects,
    rdm_panel,
    short,
)
from neuropipe.analyses.trsa.summary import count_text, names_of
from neuropipe.plotting.figure import ReportFigure

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["draw_rdms"]

SHOWN_CELLS = 2  # of the defaults: ranks, and topology


def _rows(result: xr.Dataset) -> list[tuple[str, np.ndarray, tuple[float, float]]]:
    """Return title, mean RDMs (region, pair) and colour limits of each row of panels."""
    raw = mean_over_subjects(after_zero(result["rdm"]))
    finite = raw[np.isfinite(raw)]
    low, high = (float(q) for q in np.quantile(finite, [0.0, 1.0])) if finite.size else (0.0, 1.0)
    unit = str(result["rdm"].attrs.get("units", "1"))
    cells = result["rgtm"]
    return [
        (f"{result.attrs['measure']}\n({unit})", raw, (low, max(high, low + 1e-12))),
        *(
            (name, mean_over_subjects(after_zero(cells.isel(cell=k))), (0.0, 1.0))
            for k, name in enumerate(names_of(cells["cell"])[:SHOWN_CELLS])
        ),
        ("RGDM", mean_over_subjects(after_zero(result["rgdm"])), (0.0, 1.0)),
    ]


def _table(
    result: xr.Dataset, rows: list[tuple[str, np.ndarray, tuple[float, float]]]
) -> pd.DataFrame:
    import pandas as pd

    regions = names_of(result["region"])
    pairs = {k: names_of(result[f"condition_{k}"]) for k in "ij"}
    parts = []
    for number, region in enumerate(regions):
        columns = {name.split("\n")[0]: values[number] for name, values, _ in rows}
        parts.append(
            pd.DataFrame(
                {"region": region, "condition_i": pairs["i"], "condition_j": pairs["j"], **columns}
            )
        )
    return pd.concat(parts, ignore_index=True)


def draw_rdms(result: xr.Dataset) -> ReportFigure:
    """Draw the mean RDM of every region, raw, as topology and as geodesic distances.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    rows, labels = _rows(result), condition_names(result)
    regions, categories = names_of(result["region"]), condition_categories(result)
    shown = regions[:MOST_REGIONS]
    left = len(regions) - len(shown)
    crossed = result.attrs.get("crossvalidated", 0)
    more = f" {left} further regions are in the table." if left else ""
    caption = (
        f"Mean dissimilarities of {count_text(len(labels), 'condition')} over "
        f"{count_text(result.sizes['subject'], 'subject')}"
        f"{', after time 0' if 'time' in result['rdm'].dims else ''}; conditions in the order of "
        f"their {'categories (bars) and ' if categories else ''}names; one "
        "colour scale per row. Top: as estimated"
        f"{'; negative values are noise around 0' if crossed else ''}. Middle: scaled (0, 1) and "
        "geo-topological transforms. Bottom: ranked geodesic distances. Good: blocks or gradients "
        "that regions share or change stepwise. Bad: stripes of single conditions (an artefact in "
        f"them), or no structure at all.{more}"
    )
    figure = ReportFigure(
        title="Representational dissimilarity matrices",
        caption=caption,
        table=_table(result, rows),
        width="wide" if len(shown) > 2 else "medium",
        height_mm=len(rows) * (44 if len(shown) < 5 else 34),
    )
    grid = figure.subplots(len(rows), len(shown), squeeze=False)
    for axes, region in zip(grid[0], shown, strict=True):
        axes.set_title(short(region), pad=None if categories is None else 9)
    for axes_row, (title, values, limits) in zip(grid, rows, strict=True):
        for k, axes in enumerate(axes_row):
            image = rdm_panel(axes, values[k], labels, limits, names=k == 0, categories=categories)
        axes_row[0].set_ylabel(title)
        figure.colorbar(image, ax=list(axes_row), shrink=0.8, aspect=15)
    category_legend(figure, categories)
    return figure
