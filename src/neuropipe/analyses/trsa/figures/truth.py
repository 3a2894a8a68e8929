"""Figure of simulated patterns: planted geometries beside the RDMs found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.kernels.pairs import to_pairs
from neuropipe.analyses.trsa.scoring import score
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, SEQUENTIAL
from neuropipe.plotting.panels import thinned_ticks
from neuropipe.plotting.style import apply_style
from neuropipe.plotting.truth import Comparison, Scale, compared, measures

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["compare"]

MOST_REGIONS = 4
SCALES = {
    "rdm_correlation": Scale(
        "RDMs (correlation)", 1.0, 0.8, "mean over regions: planted against found, all pairs"
    ),
    "true_model_wins": Scale(
        "regions whose own model fits best", 1.0, 1.0,
        "share of models that fit the region best that they were made from",
    ),
    "identification_geometry": Scale(
        "regions identified across subjects", 1.0, 0.8, "from the ranks of all distances"
    ),
}  # fmt: skip


def compare(result: xr.Dataset, truth: xr.Dataset) -> Comparison:
    """Set RDMs of simulated patterns beside the planted ones.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    truth : xarray.Dataset
        Second return value of ``simulate``.
    """
    table = measures(score(result, truth), SCALES)
    with apply_style():
        return Comparison(table, _draw(result, truth, table))


def _both(
    result: xr.Dataset, truth: xr.Dataset
) -> tuple[list[str], list[str], NDArray[np.float64], NDArray[np.float64]]:
    """Return labels, regions and the pairs (region, pair), planted and found."""
    labels = [str(name) for name in result["condition"].values]
    regions = [str(name) for name in result["region"].values]
    true = truth["true_rdm"].sel(condition=labels, condition_2=labels, region=regions)
    rdms = result["rdm"]
    mean = rdms.mean([dim for dim in rdms.dims if dim not in ("region", "pair")])
    return labels, regions, to_pairs(true.values), mean.transpose("region", "pair").values


def _draw(result: xr.Dataset, truth: xr.Dataset, table: pd.DataFrame) -> ReportFigure:
    labels, regions, planted, found = _both(result, truth)
    shown = np.unique(np.linspace(0, len(regions) - 1, min(len(regions), MOST_REGIONS)).astype(int))
    figure = ReportFigure(
        title="Planted geometries and the RDMs found",
        table=_numbers(labels, regions, planted, found), width="wide", height_mm=105,
        caption=(
            "One column per region. Top: rank of every dissimilarity, planted below and found "
            "above the diagonal; good is a picture that is its own mirror image. Bottom: found "
            "against planted dissimilarities of all pairs of conditions, mean over subjects; good "
            "is points along a line (slope and scale depend on noise units and do not matter). "
            f"{compared(table)}"
        ),
    )  # fmt: skip
    axes = figure.subplots(2, len(shown), squeeze=False, height_ratios=[1.4, 1])
    for column, region in enumerate(shown):
        _draw_square(axes[0, column], planted[region], found[region], labels)
        axes[0, column].set_title(regions[region])
        low = axes[1, column]
        low.plot(planted[region], found[region], "o", ms=2.5, alpha=0.7, color=CATEGORICAL[0])
        low.set_xlabel("Planted dissimilarity")
    axes[1, 0].set_ylabel("Found dissimilarity")
    return figure


def _ranked(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks = np.argsort(np.argsort(values)).astype(float)
    return ranks / max(ranks.size - 1, 1)


def _draw_square(
    axes: Axes, planted: NDArray[np.float64], found: NDArray[np.float64], labels: list[str]
) -> None:
    square = np.full((len(labels), len(labels)), np.nan)
    upper = np.triu_indices(len(labels), 1)
    square[upper] = _ranked(found)
    square[upper[::-1]] = _ranked(planted)
    axes.imshow(square, cmap=SEQUENTIAL, vmin=0, vmax=1)
    thinned_ticks(axes, labels)
    axes.set_xticks([])


def _numbers(
    labels: list[str], regions: list[str], planted: NDArray[np.float64],
    found: NDArray[np.float64],
) -> pd.DataFrame:  # fmt: skip
    import pandas as pd

    first, second = np.triu_indices(len(labels), 1)
    names = np.array(labels)
    parts = [
        pd.DataFrame(
            {
                "region": region, "condition": names[first], "condition_2": names[second],
                "planted": planted[k], "found": found[k],
            }
        )
        for k, region in enumerate(regions)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)
