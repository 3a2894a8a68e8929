"""Figures 2 and 4: loadings of every modality; variance explained and length scales."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, MISSING, SIGNED
from neuropipe.plotting.panels import thinned_ticks

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_loadings", "draw_variance"]

LOADINGS = (
    "Loadings of {modalities}: rows are units, sorted by the latent with the largest absolute "
    "loading, columns latents (S shared, P private). Colours are symmetric about 0; of counts a "
    "loading is the change of log rate per SD of the latent, of signals the change in SD of the "
    "signal; grey: not seen, or a unit without data. Good: columns of one block each that differ. "
    "Bad: two columns alike, or a column near 0 everywhere, which is a latent too many."
)
VARIANCE = (
    "Left: share of each modality's predictor variance that each latent explains (multi-layer "
    "decoders: share of the prediction's variance that is lost without the latent, which may sum "
    "to more than 1). Right: fitted length scales with their bounds (dashed). Good: shared latents "
    "with a clear share of every modality they are shared by, length scales inside the bounds. "
    "Bad: a shared latent that one modality alone uses, length scales at a bound."
)


def _short(result: xr.Dataset) -> list[str]:
    groups = result["latent_group"].values.astype(str)
    return [f"{k + 1}{'S' if g == 'shared' else 'P'}" for k, g in enumerate(groups)]


def _order(values: np.ndarray) -> np.ndarray:
    size = np.nan_to_num(np.abs(values))
    return np.lexsort((-size.max(axis=1), size.argmax(axis=1)))


def _heat(axes: Axes, values: np.ndarray, names: list[str], limit: float) -> object:
    import matplotlib as mpl

    colormap = mpl.colormaps[SIGNED].with_extremes(bad=MISSING)
    image = axes.imshow(
        np.ma.masked_invalid(values), cmap=colormap, vmin=-limit, vmax=limit, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    thinned_ticks(axes, names, axis="x", most=12)
    axes.set_yticks([])
    return image


def _loading_table(result: xr.Dataset, names: list[str]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for name in names:
        values = result[f"loading_{name}"].transpose(f"unit_{name}", "latent").values
        for unit, row in zip(result[f"unit_{name}"].values, values, strict=True):
            rows += [
                {"modality": name, "unit": str(unit), "latent": k + 1, "loading": value}
                for k, value in enumerate(row)
            ]
    return pd.DataFrame(rows)


def draw_loadings(result: xr.Dataset) -> ReportFigure:
    """Draw the loadings of every modality with a linear decoder.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    names = [str(m) for m in result["modality"].values if f"loading_{m}" in result]
    figure = ReportFigure(
        title="Loadings",
        caption=LOADINGS.format(modalities=" and ".join(names)),
        table=_loading_table(result, names),
        width="wide" if len(names) > 1 else "narrow",
        height_mm=85,
    )
    axes_of = figure.subplots(1, len(names), squeeze=False)[0]
    mask = result["latent_mask"].transpose("modality", "latent").values.astype(bool)
    rows = [str(m) for m in result["modality"].values]
    for axes, name in zip(axes_of, names, strict=True):
        values = result[f"loading_{name}"].transpose(f"unit_{name}", "latent").values.copy()
        values[:, ~mask[rows.index(name)]] = np.nan
        finite = np.abs(values[np.isfinite(values)])
        limit = float(np.quantile(finite, 0.99)) if finite.size else 1.0
        image = _heat(axes, values[_order(values)], _short(result), limit or 1.0)
        axes.set(xlabel="Latent", ylabel=f"Unit ({len(values)})", title=name)
        figure.colorbar(image, ax=axes, shrink=0.7, label="Loading")
    return figure


def draw_variance(result: xr.Dataset) -> ReportFigure:
    """Draw variance explained per modality and latent, and length scales.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    import pandas as pd

    shares = result["variance_explained"].transpose("modality", "latent").values
    names = [str(m) for m in result["modality"].values]
    groups, short = result["latent_group"].values.astype(str), _short(result)
    lengths = result["length_scale_s"].values
    table = pd.DataFrame(
        [
            {"modality": name, "latent": k + 1, "group": groups[k], "share": shares[row, k],
             "length_scale_s": lengths[k]}
            for row, name in enumerate(names) for k in range(len(groups))
        ]
    )  # fmt: skip
    figure = ReportFigure(
        title="Variance explained and time scales", caption=VARIANCE, table=table, height_mm=65
    )
    left, right = figure.subplots(1, 2, width_ratios=[1.4, 1])
    width = 0.8 / len(names)
    hatches = ("", "//", "..", "xx")
    for row, name in enumerate(names):
        place = np.arange(len(groups)) + (row - (len(names) - 1) / 2) * width
        left.bar(
            place, shares[row], width, color=CATEGORICAL[row % 8], hatch=hatches[row % 4],
            edgecolor="white", label=name,
        )  # fmt: skip
    left.set_xticks(range(len(groups)), short)
    left.set(xlabel="Latent (S shared, P private)", ylabel="Share of variance")
    left.set_ylim(0, 1.25 * max(float(np.nanmax(shares)), 0.1))
    left.legend(ncols=len(names), loc="upper left")
    right.plot(range(len(groups)), lengths, ls="", marker="o", color=INK, ms=4)
    for bound in json.loads(str(result.attrs["length_bounds_s"])):
        right.axhline(bound, color=INK, ls="--", lw=0.7)
    right.set_xticks(range(len(groups)), short)
    right.set_xlim(-0.6, len(groups) - 0.4)
    right.set(xlabel="Latent", ylabel="Length scale (s)", yscale="log")
    return figure
