"""Numbers behind the figures of fMRI, found while the samples stream past once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.store.scaling import physical_blocks

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Run", "Series", "depth_order", "event_course", "read_run", "read_series"]

BLOCK_BYTES = 32 << 20
MAX_CARPET_ROWS = 360
# Time from a stimulus to the peak of the blood response, s.
RESPONSE_S = 5.0


@dataclass(frozen=True)
class Series:
    """One series of a store, reduced to what figures need.

    Attributes
    ----------
    dvars : numpy.ndarray
        Root mean square over rows of the change since the volume before, ``(n_times,)``; NaN
        where either volume is missing.
    course : numpy.ndarray
        Mean over rows, ``(n_times,)``.
    mean, spread : numpy.ndarray
        Per row over kept volumes; `spread` is the standard deviation about a line in time.
    carpet : numpy.ndarray
        Rows in standard deviations about their mean, ``(n_shown, n_times)``, NaN missing.
    step : int
        Every so many rows are in the carpet.
    word : str
        Row dim.
    """

    dvars: np.ndarray
    course: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    carpet: np.ndarray
    step: int
    word: str

    @property
    def tsnr(self) -> np.ndarray:
        """Temporal signal to noise of each row, mean over spread; NaN where it is flat."""
        known = self.spread > 0
        return np.divide(self.mean, self.spread, out=np.full(self.mean.shape, np.nan), where=known)


@dataclass(frozen=True)
class Run:
    """One recording before and after its preprocessing.

    Attributes
    ----------
    time : numpy.ndarray
        Seconds, ``(n_times,)``.
    kept : numpy.ndarray
        Volumes that are not censored, bool.
    moved : numpy.ndarray or None
        Framewise displacement, mm.
    threshold : float
        Of the displacement, mm; NaN none.
    before : Series
    after : Series or None
    confounds : dict of str to numpy.ndarray
    events : list of (label, onset s, duration s)
    raw : xarray.Dataset
        ``/raw``, for the places of its rows.
    """

    time: np.ndarray
    kept: np.ndarray
    moved: np.ndarray | None
    threshold: float
    before: Series
    after: Series | None
    confounds: dict[str, np.ndarray] = field(default_factory=dict)
    events: list[tuple[str, float, float]] = field(default_factory=list)
    raw: Any = None

    @property
    def step(self) -> float:
        """Median step between volumes, seconds."""
        return float(np.median(np.diff(self.time))) if len(self.time) > 1 else 1.0

    @property
    def span(self) -> tuple[float, float]:
        """Start and stop, half a volume about the first and the last, seconds."""
        return float(self.time[0]) - self.step / 2, float(self.time[-1]) + self.step / 2


def _row_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over rows, NaN where none is finite."""
    finite = np.isfinite(values)
    count = finite.sum(axis=1)
    total = np.where(finite, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)


class _Moments:
    """Mean and spread about a line of each row, summed block by block."""

    def __init__(self, n_rows: int) -> None:
        self._sums = np.zeros((6, n_rows))
        self._first: np.ndarray | None = None

    def add(self, values: np.ndarray, clock: np.ndarray) -> None:
        """Take the next kept volumes and where they lie in time, -1 to 1."""
        if self._first is None and len(values):
            # Sums of squares about a value nearby keep their digits.
            self._first = np.nan_to_num(values[0])
        known = np.isfinite(values)
        y = np.where(known, values - self._first, 0.0)
        t = clock[:, None] * known
        parts = (known, y, y * y, t, t * t, t * y)
        self._sums += np.stack([part.sum(axis=0, dtype=np.float64) for part in parts])

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and spread per row."""
        count, y, yy, t, tt, ty = self._sums
        n = np.maximum(count, 1.0)
        level = y / n
        spare = tt - t * t / n
        slope = np.divide(ty - t * level, spare, out=np.zeros_like(y), where=spare > 1e-12)
        left = yy - y * level - slope * (ty - t * level)
        variance = np.maximum(left, 0.0) / np.maximum(count - 2.0, 1.0)
        first = 0.0 if self._first is None else self._first
        mean = np.where(count > 0, level + first, np.nan)
        # Rounding leaves a residue where nothing varies.
        flat = variance <= 1e-12 * (yy / n + level**2) + 1e-300
        return mean, np.where(flat, 0.0, np.sqrt(variance))


def depth_order(ds: xr.Dataset, word: str) -> np.ndarray:
    """Return rows from the outermost voxel of the mask to the innermost; else as they stand.

    Motion shows at the rim of the head first.
    """
    n_rows = ds.sizes[word]
    if word != "voxel" or not all(name in ds for name in "ijk"):
        return np.arange(n_rows)
    from scipy.ndimage import distance_transform_edt

    places = tuple(np.asarray(ds[name].values) for name in "ijk")
    shape = tuple(int(place.max()) + 2 for place in places)
    mask = np.zeros(shape, dtype=bool)
    mask[places] = True
    # A slice at the end of the image is no rim of the head: only its plane counts.
    thin = [axis for axis in range(3) if np.ptp(places[axis]) == 0]
    kept = np.take(mask, int(places[thin[0]][0]), axis=thin[0]) if thin else mask
    depth = np.asarray(distance_transform_edt(np.pad(kept, 1)))
    index = tuple(place + 1 for axis, place in enumerate(places) if axis not in thin[:1])
    return np.argsort(depth[index], kind="stable")


def read_series(ds: xr.Dataset, name: str, kept: np.ndarray) -> Series:
    """Reduce a series ``(time, <row>)`` in one pass over its samples.

    Parameters
    ----------
    ds : xarray.Dataset
        Holds the series, loaded or not.
    name : str
        ``bold`` or ``activity``.
    kept : numpy.ndarray
        Bool ``(n_times,)``.
    """
    word = next(str(dim) for dim in ds[name].dims if dim != "time")
    n_times, n_rows = ds.sizes["time"], ds.sizes[word]
    step = max(1, -(-n_rows // MAX_CARPET_ROWS))
    shown = depth_order(ds, word)[::step]
    clock = np.linspace(-1.0, 1.0, n_times)
    moments, carpet = _Moments(n_rows), np.full((len(shown), n_times), np.nan)
    dvars, course = np.full(n_times, np.nan), np.full(n_times, np.nan)
    last: np.ndarray | None = None
    for here, values in physical_blocks(ds.transpose("time", ...), name, BLOCK_BYTES):
        moments.add(values[kept[here]], clock[here][kept[here]])
        carpet[:, here] = values[:, shown].T
        course[here] = _row_mean(values)
        whole = values if last is None else np.concatenate([last, values])
        change = np.sqrt(_row_mean(np.diff(whole, axis=0) ** 2))
        dvars[here.stop - len(change) : here.stop] = change
        last = values[-1:]
    mean, spread = moments.result()
    scale = np.where(spread > 0, spread, np.nan)
    carpet = (carpet - mean[shown, None]) / scale[shown, None]
    return Series(dvars, course, mean, spread, carpet, step, word)


def _confounds(raw: xr.Dataset) -> dict[str, np.ndarray]:
    if "confounds" not in raw:
        return {}
    table = raw["confounds"].transpose("time", "confound").values
    return {str(name): table[:, k] for k, name in enumerate(raw["confound"].values)}


def _events(tree: xr.DataTree) -> list[tuple[str, float, float]]:
    if "events" not in tree.children:
        return []
    table = tree["events"].to_dataset()
    columns = (table[name].values for name in ("label", "onset", "duration"))
    return [(str(label), float(start), float(length)) for label, start, length in zip(*columns,
            strict=True)]  # fmt: skip


def event_course(run: Run, label: str) -> np.ndarray:
    """Return 1 while events of a label are expected to show in the signal, else 0."""
    course = np.zeros(len(run.time))
    for name, onset, duration in run.events:
        if name == label:
            length = max(run.step, duration if np.isfinite(duration) else 0.0)
            start = onset + RESPONSE_S
            course[(run.time >= start) & (run.time < start + length)] = 1.0
    return course


def read_run(raw: xr.DataTree, processed: xr.DataTree | None) -> Run:
    """Return one recording for its figures.

    Raises
    ------
    DataError
        If the store holds no ``bold``, or the preprocessed one no ``activity``.
    """
    if "raw" not in raw.children or "bold" not in raw["raw"]:
        raise DataError("the store has no /raw/bold; expected an ingested fMRI recording")
    source = raw["raw"].to_dataset()
    result = None if processed is None else processed.to_dataset()
    if result is not None and "activity" not in result:
        raise DataError(
            "the preprocessed store has no variable `activity`; run the preprocessing of this "
            "recording again"
        )
    known = source if result is None else result
    kept = np.ones(source.sizes["time"], dtype=bool)
    if "sample_ok" in known:
        kept = np.asarray(known["sample_ok"].values, dtype=bool)
    confounds = _confounds(source)
    moved, threshold = confounds.get("framewise_displacement"), np.nan
    if result is not None and "framewise_displacement" in result:
        moved = result["framewise_displacement"].values
        threshold = float(result["framewise_displacement"].attrs.get("threshold", np.nan))
    return Run(
        time=np.asarray(source["time"].values, dtype=np.float64),
        kept=kept,
        moved=moved,
        threshold=threshold,
        before=read_series(source, "bold", kept),
        after=None if result is None else read_series(result, "activity", kept),
        confounds=confounds,
        events=_events(raw),
        raw=source,
    )
