"""Mean and signal to noise of fMRI: slices of the volume, bars of parcels, or a histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, MISSING, SEQUENTIAL
from neuropipe.plotting.panels import horizontal_bars, note
from neuropipe.report.quality.fmri_numbers import Run

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["PALE", "Slices", "noise_figure", "slices_of"]

MAX_SLICES, MAX_BARS = 8, 60
# Missing in a picture of greys.
PALE = "#F3E3C3"
# Where the coordinates of RAS+ grow to, and where they come from.
DIRECTIONS = (("R", "L"), ("A", "P"), ("S", "I"))


@dataclass(frozen=True)
class Slices:
    """Slices of a volume along its third axis, cut to the voxels that are known.

    Attributes
    ----------
    places : tuple of numpy.ndarray
        Voxel indices of each row within the cut.
    shape : tuple of int
        Of the cut.
    numbers : tuple of int
        Slices that are drawn, counted within the cut.
    aspect : float
        Height of a voxel over its width.
    letters : tuple of str
        Left, right, below, above in the drawing.
    """

    places: tuple[np.ndarray, np.ndarray, np.ndarray]
    shape: tuple[int, int, int]
    numbers: tuple[int, ...]
    aspect: float
    letters: tuple[str, str, str, str]

    @property
    def height(self) -> float:
        """Height of a slice over its width."""
        return self.aspect * self.shape[1] / self.shape[0]

    def fill(self, values: np.ndarray) -> np.ndarray:
        """Return values of rows as a volume, NaN where there is no row."""
        volume = np.full(self.shape, np.nan)
        volume[self.places] = values
        return volume


def _directions(affine: np.ndarray) -> tuple[str, str, str, str]:
    """Return which way the first two voxel axes point: left, right, below, above."""
    ends = []
    for column in affine[:3, :2].T:
        axis = int(np.argmax(np.abs(column)))
        grows, comes = DIRECTIONS[axis]
        ends.append((comes, grows) if column[axis] > 0 else (grows, comes))
    (left, right), (below, above) = ends
    return left, right, below, above


def slices_of(ds: xr.Dataset) -> Slices | None:
    """Return the slices of ``/raw``, or None where its rows are no voxels of one volume."""
    if "voxel" not in ds.dims or not all(name in ds for name in "ijk"):
        return None
    affine = np.asarray(ds.attrs.get("affine", np.eye(4)), dtype=np.float64)
    index = [np.asarray(ds[name].values, dtype=np.int64) for name in "ijk"]
    whole = tuple(int(n) for n in ds.attrs.get("volume_shape", [int(i.max()) + 1 for i in index]))
    used = np.unique(index[2])
    count = min(MAX_SLICES, len(used))
    # Evenly spaced among those that hold voxels, ends left out where there are enough.
    picks = used[np.round((np.arange(count) + 0.5) / count * len(used) - 0.5).astype(int)]
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return Slices(
        places=(index[0], index[1], index[2]),
        shape=(whole[0], whole[1], whole[2]),
        numbers=tuple(int(k) for k in np.unique(picks)),
        aspect=float(sizes[1] / sizes[0]) if sizes[0] else 1.0,
        letters=_directions(affine),
    )


def _panel(
    figure: ReportFigure,
    row: Any,
    slices: Slices,
    image: np.ndarray,
    label: str,
    *,
    lettered: bool,
) -> None:
    """Draw one row of slices with one scale."""
    import matplotlib as mpl

    name = "gray" if label == "mean signal" else SEQUENTIAL
    colours = mpl.colormaps[name].with_extremes(bad=PALE if name == "gray" else MISSING)
    low, high = np.nanpercentile(image, [1, 99]) if np.isfinite(image).any() else (0.0, 1.0)
    drawn: Any = None
    for axes, k in zip(row, slices.numbers, strict=True):
        drawn = axes.imshow(
            image[:, :, k].T,
            origin="lower",
            cmap=colours,
            vmin=min(0.0, low),
            vmax=high or 1.0,
            aspect=slices.aspect,
            interpolation="nearest",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    if lettered:
        _letters(row[0], slices)
    shrink = 0.55 if len(slices.numbers) == 1 else 0.9
    figure.colorbar(drawn, ax=list(row), label=label, aspect=12, pad=0.04, shrink=shrink)


def _letters(axes: Axes, slices: Slices) -> None:
    """Say which way is left, right, front, back, up or down."""
    left, right, below, above = slices.letters
    for text, x, y, across, along in (
        (left, -0.02, 0.5, "right", "center"),
        (right, 1.02, 0.5, "left", "center"),
        (below, 0.5, -0.02, "center", "top"),
        (above, 0.5, 1.02, "center", "bottom"),
    ):
        axes.text(x, y, text, transform=axes.transAxes, fontsize=6, color=INK, ha=across, va=along)


def _median(values: np.ndarray) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan


def _maps(run: Run, slices: Slices) -> ReportFigure:
    import pandas as pd

    tsnr = run.before.tsnr
    n = len(slices.numbers)
    one, other = ("Left", "Right") if n == 1 else ("Top", "Bottom")
    figure = ReportFigure(
        title="Mean image and signal to noise",
        caption=(
            f"{'The slice' if n == 1 else f'{n} evenly spaced slices'} of the image before "
            f"preprocessing (slice{'' if n == 1 else 's'} {', '.join(map(str, slices.numbers))}). "
            f"{one}: mean over kept volumes. {other}: temporal signal to noise, mean over the "
            "standard deviation about a line in time, over kept volumes "
            f"(median {_median(tsnr):.3g}). Letters: left, right, anterior, posterior, "
            "superior, inferior, by the image's affine. Good: anatomy without ghosts, signal to "
            "noise even and above 40. Bad: a ghost of the head beside it, holes near the sinuses "
            "and ears, stripes, or a mask that cuts the head or reaches far out of it."
        ),
        table=pd.DataFrame(
            {
                **{name: run.raw[name].values for name in "ijk"},
                "mean": run.before.mean,
                "tsnr": tsnr,
            }
        ),
        width="medium" if n == 1 else "wide",
        height_mm=58 if n == 1 else 2 * np.clip(150 / n * slices.height, 22, 60) + 14,
    )
    images = [slices.fill(run.before.mean), slices.fill(tsnr)]
    labels = ("mean signal", "signal to noise")
    if n == 1:
        rows = [[axes] for axes in figure.subplots(1, 2)]
    else:
        rows = list(figure.subplots(2, n, squeeze=False))
        for axes, k in zip(rows[0], slices.numbers, strict=True):
            axes.set_title(f"slice {k}", fontweight="normal", fontsize=6, loc="center")
    for row, image, label in zip(rows, images, labels, strict=True):
        _panel(figure, row, slices, image, label, lettered=n == 1 or label != labels[0])
    return figure


def _row_noise(run: Run) -> ReportFigure:
    """Draw bars of parcels, or a histogram of many rows."""
    import pandas as pd

    tsnr, word = run.before.tsnr, run.before.word
    names = [str(name) for name in run.raw[word].values]
    order = np.argsort(-np.nan_to_num(tsnr), kind="stable")
    few = len(names) <= MAX_BARS
    figure = ReportFigure(
        title="Signal to noise",
        caption=(
            f"Temporal signal to noise of {len(names)} {word}s before preprocessing: mean over "
            "the standard deviation about a line in time, over kept volumes (median "
            f"{_median(tsnr):.3g}). Good: one hump "
            "above 40, higher for means of many voxels. Bad: a second hump near zero, which is "
            "rows outside the head, or signals whose mean was taken off before."
        ),
        table=pd.DataFrame({word: names, "mean": run.before.mean, "tsnr": tsnr}),
        width="medium",
        height_mm=float(np.clip(18 + 3.2 * len(names), 40, 130)) if few else 62,
    )
    axes = figure.subplots()
    if not np.isfinite(tsnr).any():
        note(axes, "no row varies")
    elif few:
        horizontal_bars(axes, tsnr[order], [names[k] for k in order], color=CATEGORICAL[0], most=40)
        axes.set_xlabel("signal to noise")
    else:
        axes.hist(tsnr[np.isfinite(tsnr)], bins=50, color=CATEGORICAL[0])
        axes.set(xlabel="signal to noise", ylabel=f"{word}s")
    return figure


def noise_figure(run: Run) -> ReportFigure:
    """Return mean and signal to noise: as maps where rows are voxels, else as bars."""
    slices = slices_of(run.raw)
    return _row_noise(run) if slices is None else _maps(run, slices)
