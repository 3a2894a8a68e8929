"""Figures 5 and 6: how the number of states was chosen, and whether starts agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.hmm_glm.figures.annotations import count_text
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, SEQUENTIAL
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_restarts", "draw_selection"]

BLUE, ORANGE, GREY = CATEGORICAL[0], CATEGORICAL[3], "#9A9A9A"
STABLE = 0.9
FIRST_SHOWN = 5  # iterations before climb from the start and hide the rest
LEAST_NATS = 1.0  # smaller differences say nothing: the axis spans that much
SCORES = {"bits_per_spike": "bits per spike", "held_out_log_likelihood": "nats per bin"}


def _scores(result: xr.Dataset) -> tuple[str, np.ndarray]:
    """Return unit and held-out scores (n_states, n_folds); empty if nothing was held out."""
    for name, unit in SCORES.items():
        if name in result and np.isfinite(result[name].values).any():
            return unit, result[name].values
    return "", np.zeros((result.sizes["n_states"], 0))


def _error(values: np.ndarray) -> np.ndarray:
    return values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def _integer_ticks(axes: Axes, counts: np.ndarray) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(counts.min() - 0.5, counts.max() + 0.5)
    axes.set_xlabel("Number of states")


def _draw_scores(axes: Axes, counts: np.ndarray, scores: np.ndarray, unit: str, used: int) -> None:
    for fold in scores.T:
        axes.plot(counts, fold, color="#C8C8C8", lw=0.6, zorder=1)
    axes.errorbar(counts, scores.mean(axis=1), _error(scores), color=BLUE, marker="o", capsize=2)
    axes.axvline(used, color=ORANGE, lw=1.2, ls=":", label=f"used: {used}")
    axes.set(ylabel=f"Held-out score ({unit})", title="Held-out data")
    axes.legend()


def _draw_loss(axes: Axes, counts: np.ndarray, scores: np.ndarray, unit: str, used: int) -> None:
    best = int(np.argmax(scores.mean(axis=1)))
    loss = scores - scores[best]
    axes.errorbar(counts, loss.mean(axis=1), _error(loss), color=BLUE, marker="o", capsize=2)
    axes.axhline(0, color=INK, lw=0.7, ls="--", label=f"best: {counts[best]}")
    axes.axvline(used, color=ORANGE, lw=1.2, ls=":", label=f"used: {used}")
    axes.set(ylabel=f"Difference to the best ({unit})", title="Paired by fold")
    axes.legend()


def _best_agreements(result: xr.Dataset) -> np.ndarray:
    """Return, per number of states, in which share of bins the two best starts agree."""
    found = []
    for likelihood, table in zip(
        result["log_likelihood_train"].values, result["restart_agreement"].values, strict=True
    ):
        seen = np.flatnonzero(np.isfinite(likelihood))
        best = seen[np.argsort(-likelihood[seen], kind="stable")[:2]]
        found.append(table[best[0], best[1]] if best.size > 1 else np.nan)
    return np.array(found)


def _draw_criterion(axes: Axes, result: xr.Dataset, agreement: np.ndarray, used: int) -> None:
    counts = result["n_states"].values
    bic = (result["bic"].values - result["bic"].values.min()) / 1000
    axes.plot(counts, bic, color=BLUE, marker="o", label="BIC")
    axes.set(ylabel="BIC above the lowest (1000 nats)", title="BIC and stability")
    axes.axvline(used, color=ORANGE, lw=1.2, ls=":")
    axes.set_ylim(bottom=min(0.0, -0.03 * bic.max()))
    twin = axes.twinx()
    twin.plot(counts, agreement, color=ORANGE, marker="s", ls="--", label="agreement")
    twin.axhline(STABLE, color=ORANGE, lw=0.5, ls="--")
    twin.set_ylim(0, 1.03)
    twin.set_ylabel("Agreement of two starts")
    twin.spines["right"].set_visible(True)
    handles = [*axes.lines[:1], *twin.lines[:1]]
    axes.legend(handles=handles, loc="center right")


def _table(result: xr.Dataset, agreement: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    columns = {"n_states": result["n_states"].values}
    for name in SCORES:
        if name in result:
            values = result[name].values
            columns |= {f"{name}_mean": values.mean(axis=1), f"{name}_se": _error(values)}
    columns |= {
        "log_likelihood_train": np.nanmax(result["log_likelihood_train"].values, axis=1),
        "bic": result["bic"].values,
        "agreement": agreement,
        "rare_states": result["rare_states"].values,
        "used": result["n_states"].values == result.attrs["n_states"],
    }
    return pd.DataFrame(columns)


CAPTION = (
    "{how}{folds}Right: Bayes information criterion (circles, lower is better) and the share of "
    "bins in which the two best starts agree (squares; stable: {stable} or more). {rare}Good: a "
    "score that rises to a number of states and then stays; starts that agree there. Bad: a score "
    "that rises to the largest number tried (try more, or accept that the states describe a slow "
    "drift), a score that falls from one state on (no states, or too little data), agreement "
    "that falls below {stable}."
)
FOLDS = (
    "Left: score of held-out data by the forward pass with parameters of the training data{base}: "
    "mean and standard error over {folds} (blue), single folds (grey). Middle: the same as the "
    "difference to the best number, fold by fold, since folds differ more than numbers of states "
    "do; used is the smallest number whose standard error reaches 0. "
)


def draw_selection(result: xr.Dataset) -> ReportFigure:
    """Draw held-out scores, information criterion and stability against the number of states.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    counts, used = result["n_states"].values, int(result.attrs["n_states"])
    unit, scores = _scores(result)
    agreement = _best_agreements(result)
    rare = [int(c) for c, k in zip(counts, result["rare_states"].values, strict=True) if k]
    listed = ", ".join(map(str, rare))
    base = ", above a Poisson process with the mean rates of the training data"
    figure = ReportFigure(
        title="Number of states",
        caption=CAPTION.format(
            how="" if counts.size > 1 else f"The number of states was given: {used}. ",
            folds=FOLDS.format(
                base=base if unit == "bits per spike" else "",
                folds=count_text(scores.shape[1], "fold"),
            )
            if scores.size
            else "No data were held out. ",
            stable=STABLE,
            rare=f"With {listed} states, some last under 1 % of the time. " if rare else "",
        ),
        table=_table(result, agreement),
        height_mm=62,
    )
    left, middle, right = figure.subplots(1, 3)
    if scores.size:
        _draw_scores(left, counts, scores, unit, used)
        _draw_loss(middle, counts, scores, unit, used)
    else:
        for axes in (left, middle):
            note(axes, "No data were held out\n(`cv_folds: 0`).")
    _draw_criterion(right, result, agreement, used)
    for axes in (left, middle, right):
        if axes.axison:
            _integer_ticks(axes, counts)
    return figure


def _draw_traces(axes: Axes, traces: np.ndarray, best: int) -> None:
    for restart, trace in enumerate(traces):
        style = {"color": BLUE, "lw": 1.4, "zorder": 3} if restart == best else {"color": GREY}
        axes.plot(np.arange(trace.size), trace, marker=".", ms=2, **{"lw": 0.8, **style})
    axes.plot([], [], color=BLUE, lw=1.4, label=f"kept (start {best + 1})")
    if len(traces) > 1:
        axes.plot([], [], color=GREY, lw=0.8, label="other starts")
    final = np.nanmax(traces)
    low = min(_after_first(trace[np.isfinite(trace)]) for trace in traces)
    margin = 0.05 * max(final - low, LEAST_NATS)
    axes.set_ylim(min(low, final - LEAST_NATS) - margin, final + margin)
    axes.set(xlabel="Iteration", ylabel="Penalised log-likelihood (nats)", title="Starts")
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.legend(loc="lower right")


def _after_first(trace: np.ndarray) -> float:
    """Return the objective after the first iterations, of short fits after fewer."""
    return float(trace[min(FIRST_SHOWN - 1, max(trace.size - 3, 0))])


def _draw_agreement(axes: Axes, table: np.ndarray) -> None:
    image = axes.imshow(table, cmap=SEQUENTIAL, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(table):
        color = "white" if value < 0.6 else INK
        size = 7 if len(table) <= 6 else 5
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=size)
    places = range(len(table))
    axes.set_xticks(places, [str(k + 1) for k in places])
    axes.set_yticks(places, [str(k + 1) for k in places])
    axes.tick_params(length=0)
    axes.set(xlabel="Start", ylabel="Start", title="Agreement of starts")
    axes.figure.colorbar(image, ax=axes, fraction=0.046).outline.set_visible(False)


def draw_restarts(result: xr.Dataset) -> ReportFigure:
    """Draw the objective of every start, and how far starts agree on the states.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    import pandas as pd

    used = int(result.attrs["n_states"])
    likelihood = result["log_likelihood_train"].sel(n_states=used).values
    seen = np.flatnonzero(np.isfinite(likelihood))
    traces = result["log_likelihood_trace"].values[seen]
    table = result["restart_agreement"].sel(n_states=used).values[np.ix_(seen, seen)]
    last = np.array([trace[np.isfinite(trace)][-1] for trace in traces])
    best = int(np.argmax(last))
    start, iteration = (index.ravel() for index in np.indices(traces.shape))
    numbers = pd.DataFrame(
        {"start": start + 1, "iteration": iteration, "objective": traces.ravel()}
    ).dropna()
    figure = ReportFigure(
        title="Starts of the fit",
        caption=(
            f"Left: log-likelihood plus log prior of {count_text(len(seen), 'start')} with "
            f"{count_text(used, 'state')} over the iterations, after the first few; all run "
            "for ten iterations if they do not end before, the two best to the end. With the "
            "one-hot prior the classes of connections are found after that. Right: share of bins "
            "in which two starts name the same state, after matching their states; starts "
            "that were stopped early agree less. No error bars. Good: the two that were run to "
            "the end reach one level and agree in 0.9 of the bins or more. Bad: ends far apart "
            "(the fit depends on its start: raise `restarts`), agreement below 0.9 at the same "
            "level (several solutions fit equally well: fewer states), curves that still rise at "
            "the last iteration."
        ),
        table=numbers,
        height_mm=62,
    )
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    _draw_traces(left, traces, best)
    if len(seen) > 1:
        _draw_agreement(right, table)
    else:
        note(right, "One start:\nnothing to compare.")
    return figure
