"""Figures of spikes: a raster, rates over time, intervals between spikes, rate per unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL
from neuropipe.plotting.panels import note
from neuropipe.plotting.style import apply_style

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["SpikeTrains", "choose_units", "interval_histogram", "read_trains", "spikes_figures"]

STRETCH_S = 10.0
MAX_RASTER = 20_000
MIN_SPAN_S = 1e-3
# A bin of the rate lasts a second at least, unless that leaves too few of them.
RATE_BINS, MIN_RATE_BINS = 200, 20
REFRACTORY_MS = 2.0
MAX_NAMED_UNITS = 40
POINTS_PER_MM = 72 / 25.4
# From a tenth of the refractory time to longer than any burst, s.
INTERVAL_EDGES = np.logspace(-4, 2, 61)
MAIN, OTHER = CATEGORICAL[0], CATEGORICAL[3]


@dataclass(frozen=True)
class SpikeTrains:
    """Spikes of one recording.

    Attributes
    ----------
    times : tuple of numpy.ndarray
        Sorted seconds per unit.
    names, quality : tuple of str
        Per unit.
    observed : numpy.ndarray
        Observed intervals, ``(n, 2)``, seconds.
    seconds : numpy.ndarray
        Observed time of each unit, ``(n_units,)``.
    """

    times: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    quality: tuple[str, ...]
    observed: np.ndarray
    seconds: np.ndarray

    @property
    def rates(self) -> np.ndarray:
        """Mean rate of each unit over its observed time, Hz; NaN where none was observed."""
        counts = np.array([len(times) for times in self.times], dtype=np.float64)
        known = self.seconds > 0
        return np.divide(counts, self.seconds, out=np.full(len(counts), np.nan), where=known)


def read_trains(raw: xr.DataTree) -> SpikeTrains:
    """Return the spikes of an ingested store.

    Raises
    ------
    DataError
        If the store holds no spikes.
    """
    if "raw" not in raw.children or "spike_time" not in raw["raw"]:
        raise DataError("the store has no /raw/spike_time; expected an ingested spike recording")
    ds = raw["raw"].to_dataset()
    stops = np.cumsum(ds["n_spikes"].values)
    n_units = ds.sizes["unit"]
    quality = ds["quality"].values if "quality" in ds else [""] * n_units
    seconds = np.nansum(ds["obs_stop"].values - ds["obs_start"].values, axis=0)
    return SpikeTrains(
        times=tuple(np.split(ds["spike_time"].values, stops[:-1])),
        names=tuple(str(unit) for unit in ds["unit"].values),
        quality=tuple(str(text) for text in quality),
        observed=ds["observed"].values,
        seconds=seconds,
    )


def choose_units(trains: SpikeTrains) -> dict[str, int]:
    """Return the units with the highest, the median and the lowest rate above 0, each once."""
    order = [int(n) for n in np.argsort(-np.nan_to_num(trains.rates), kind="stable")]
    active = [n for n in order if len(trains.times[n]) > 1]
    if not active:
        return {}
    picked = {"highest": active[0], "median": active[len(active) // 2], "lowest": active[-1]}
    return {rule: n for k, (rule, n) in enumerate(picked.items())
            if n not in list(picked.values())[:k]}  # fmt: skip


def interval_histogram(times: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the share of intervals per bin of `INTERVAL_EDGES`, and of those below 2 ms."""
    intervals = np.diff(times)
    if not intervals.size:
        return np.zeros(len(INTERVAL_EDGES) - 1), np.nan
    inside = intervals.clip(INTERVAL_EDGES[0], INTERVAL_EDGES[-1])
    counts, _ = np.histogram(inside, INTERVAL_EDGES)
    return counts / intervals.size, float(np.mean(intervals < REFRACTORY_MS / 1000))


def _span(trains: SpikeTrains) -> tuple[float, float]:
    """Return start and stop of the observed time, at least 1 ms apart."""
    first, last = float(trains.observed.min()), float(trains.observed.max())
    return first, max(last, first + MIN_SPAN_S)


def _unit_axis(axes: Axes, trains: SpikeTrains, order: np.ndarray) -> None:
    if len(order) <= MAX_NAMED_UNITS:
        axes.set_yticks(range(len(order)), [trains.names[n] for n in order], fontsize=6)
    axes.set_ylabel("unit (highest rate first)")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(order) - 0.5, -0.5)


def _raster(trains: SpikeTrains) -> ReportFigure:
    import pandas as pd

    first, last = _span(trains)
    half, middle = min(STRETCH_S, last - first) / 2, (first + last) / 2
    start, stop = middle - half, middle + half
    order = np.argsort(-np.nan_to_num(trains.rates), kind="stable")
    inside = [t[np.searchsorted(t, start) : np.searchsorted(t, stop)] for t in trains.times]
    times = np.concatenate([inside[n] for n in order])
    rows = np.repeat(np.arange(len(order)), [len(inside[n]) for n in order])
    thinned = ""
    if len(times) > MAX_RASTER:
        step = -(-len(times) // MAX_RASTER)
        times, rows = times[::step], rows[::step]
        thinned = f" Every {step}th spike is drawn."
    height = float(np.clip(30 + 2.2 * len(order), 50, 150))
    figure = ReportFigure(
        title="Raster of the middle stretch",
        caption=(
            f"Spikes of all {len(order)} units in the middle {stop - start:.3g} s of the "
            f"recording, sorted by mean rate.{thinned} Good: every row has its own rhythm. Bad: "
            "vertical lines through all rows (movement, stimulation artefacts), gaps that all "
            "units share, or two rows with the same spikes (one neuron split in two)."
        ),
        table=pd.DataFrame({"time": times, "unit": [trains.names[order[row]] for row in rows]}),
        height_mm=height,
    )
    axes = figure.subplots()
    marker = 0.8 * (height - 15.0) / len(order) * POINTS_PER_MM
    axes.plot(times, rows, ls="", marker="|", ms=min(12.0, marker), color=MAIN, mew=0.6,
              rasterized=len(times) > MAX_RASTER // 4)  # fmt: skip
    axes.set(xlabel="time (s)", xlim=(start, stop))
    _unit_axis(axes, trains, order)
    return figure


def _rate_over_time(trains: SpikeTrains) -> ReportFigure:
    import pandas as pd

    first, last = _span(trains)
    n_bins = int(np.clip(round(last - first), MIN_RATE_BINS, RATE_BINS))
    edges = np.linspace(first, last, n_bins + 1)
    every = np.sort(np.concatenate(trains.times))
    counts, _ = np.histogram(every, edges)
    rate = counts / np.diff(edges) / max(1, len(trains.times))
    centres = (edges[1:] + edges[:-1]) / 2
    gone = ~np.any(
        (centres[:, None] >= trains.observed[:, 0]) & (centres[:, None] <= trains.observed[:, 1]),
        axis=1,
    )
    rate[gone] = np.nan
    figure = ReportFigure(
        title="Rate over time",
        caption=(
            f"Mean rate of the {len(trains.times)} units in bins of {np.diff(edges)[0]:.3g} s. "
            "Gaps in the line were not observed. Good: a level that changes with behaviour and "
            "returns. Bad: a steady fall or steps, which mean drift of the probe or units that "
            "were lost, or bursts in single bins."
        ),
        table=pd.DataFrame({"time": centres, "rate": rate}),
        height_mm=60,
    )
    axes = figure.subplots()
    axes.plot(centres, rate, color=MAIN, lw=0.9)
    axes.set(xlabel="time (s)", ylabel="mean rate (Hz)")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    return figure


def _intervals(trains: SpikeTrains) -> ReportFigure:
    import pandas as pd

    chosen = choose_units(trains)
    parts, told = [], []
    figure = ReportFigure(
        title="Intervals between spikes", width="medium", height_mm=70, table=pd.DataFrame()
    )
    axes = figure.subplots()
    dashes = ("-", (0, (4, 2)), (0, (1, 1.5)))
    for (rule, n), style, colour in zip(chosen.items(), dashes, CATEGORICAL, strict=False):
        share, short = interval_histogram(trains.times[n])
        label = f"{rule} rate: unit {trains.names[n]}"
        axes.stairs(100 * share, INTERVAL_EDGES, color=colour, ls=style, lw=1.2, label=label)
        told.append(f"{trains.names[n]} {100 * short:.2g} %")
        parts.append(
            pd.DataFrame({"unit": trains.names[n], "interval": INTERVAL_EDGES[:-1], "share": share})
        )
    axes.axvline(REFRACTORY_MS / 1000, color="black", lw=0.8, ls=(0, (4, 2)))
    axes.set(xscale="log", xlabel="interval (s)", ylabel="share of intervals (%)")
    if chosen:
        axes.legend()
        figure.table = pd.concat(parts, ignore_index=True)
    figure.caption = (
        "Intervals between the spikes of the units with the highest, the median and the lowest "
        f"rate. Dashed line: {REFRACTORY_MS:g} ms, within which one neuron does not fire twice; "
        f"shares below it: {', '.join(told) or 'no unit has two spikes'}. Good: next to nothing "
        "left of the line. Bad: more than 1 % there, which is several neurons in one unit, or a "
        "narrow peak, which is mains or a stimulator."
    )
    return figure


def _rates(trains: SpikeTrains) -> ReportFigure:
    import pandas as pd

    order = np.argsort(-np.nan_to_num(trains.rates), kind="stable")
    rates = trains.rates[order]
    silent = int(np.sum([len(times) == 0 for times in trains.times]))
    shares = [interval_histogram(trains.times[n])[1] for n in order]
    figure = ReportFigure(
        title="Rate of each unit",
        caption=(
            f"Mean rate of each of {len(order)} units over its observed time, highest first; "
            f"units sorted as good are filled, others open. {silent} units have no spike. Good: "
            "rates spread over two decades. Bad: many units below 0.1 Hz, which no analysis can "
            "use, or one far above all others, which may be noise."
        ),
        table=pd.DataFrame(
            {
                "unit": [trains.names[n] for n in order],
                "quality": [trains.quality[n] for n in order],
                "n_spikes": [len(trains.times[n]) for n in order],
                "rate": rates,
                "share_below_2ms": shares,
            }
        ),
        width="medium",
        height_mm=70,
    )
    axes = figure.subplots()
    good = np.array([trains.quality[n] == "good" for n in order])
    position = np.arange(1, len(order) + 1)
    for chosen, face, name in ((good, MAIN, "good"), (~good, "none", "other quality")):
        seen = chosen & (np.nan_to_num(rates) > 0)
        if seen.any():
            axes.plot(position[seen], rates[seen], ls="", marker="o", ms=3.5, mec=MAIN, mfc=face,
                      label=name)  # fmt: skip
    axes.set(xlabel="unit (highest rate first)", ylabel="mean rate (Hz)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    if np.nan_to_num(rates).any():
        axes.set_yscale("log")
        _plain_ticks(axes, rates[rates > 0])
        axes.legend()
    else:
        note(axes, "no unit has a rate")
    return figure


def _plain_ticks(axes: Axes, values: np.ndarray) -> None:
    """Write the ticks of a logarithmic axis as numbers, more of them within one decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if values.max() < 10 * values.min():
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


@apply_style()
def spikes_figures(raw: xr.DataTree, processed: xr.DataTree | None) -> dict[str, ReportFigure]:
    """Return the figures of spikes, in report order; they have no preprocessing."""
    trains = read_trains(raw)
    return {
        "raster": _raster(trains),
        "rate": _rate_over_time(trains),
        "intervals": _intervals(trains),
        "units": _rates(trains),
    }
