"""Figure 4: how the number of motifs was chosen, and whether restarts agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.ntf.figures.annotations import count_text
from neuropipe.analyses.ntf.summary import restart_similarity
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_rank"]

STABLE = 0.9
BLUE, ORANGE = CATEGORICAL[0], CATEGORICAL[3]


def _selection(result: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks with a held-out error and these errors (n_ranks, n_folds)."""
    if "cv_error" not in result:
        return np.zeros(0, int), np.zeros((0, 1))
    errors = result["cv_error"].transpose("rank", "fold").values
    kept = np.isfinite(errors).any(axis=1)
    return result["rank"].values[kept], errors[kept]


def _statistics(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard error over folds."""
    count = np.isfinite(errors).sum(axis=1)
    mean = np.nanmean(errors, axis=1)
    deviation = np.nansum((errors - mean[:, None]) ** 2, axis=1) / np.maximum(count - 1, 1)
    return mean, np.sqrt(deviation / count)


def _pair_scores(result: xr.Dataset) -> dict[int, np.ndarray]:
    """Return the factor match scores of the pairs of restarts, by rank."""
    if "fms_restart" not in result:
        return {}
    if "rank" not in result["fms_restart"].dims:
        scores = {result.sizes["component"]: restart_similarity(result)}
    else:
        matrices = result["fms_restart"].transpose("rank", "restart", "restart_2").values
        upper = np.triu_indices(matrices.shape[1], 1)
        scores = {
            int(rank): matrix[upper][np.isfinite(matrix[upper])]
            for rank, matrix in zip(result["rank"].values, matrices, strict=True)
        }
    return {rank: values for rank, values in scores.items() if values.size}


def _draw_errors(axes: Axes, ranks: np.ndarray, errors: np.ndarray, chosen: int) -> None:
    mean, error = _statistics(errors)
    for fold in errors.T:
        axes.plot(ranks, fold, color="#C8C8C8", lw=0.6, zorder=1)
    axes.fill_between(ranks, mean - error, mean + error, color=BLUE, alpha=0.25, lw=0)
    axes.plot(ranks, mean, color=BLUE, marker="o", label="mean ± SE")
    lowest = int(np.argmin(mean))
    axes.axhline(
        mean[lowest] + error[lowest], color=INK, lw=0.7, ls="--", label="lowest mean + 1 SE"
    )
    axes.axvline(chosen, color=ORANGE, lw=1.2, ls=":", label=f"chosen: {chosen}")
    axes.set(xlabel="Number of motifs (rank)", ylabel="Error on held-out cells (relative)")
    axes.set_title("Choice of the rank")
    _integer_ticks(axes)
    axes.legend()


def _draw_losses(axes: Axes, result: xr.Dataset) -> None:
    losses = result["loss_history"].transpose("restart", "iteration").values
    used = np.isfinite(losses).sum(axis=1)
    best = int(np.argmin([loss[max(n - 1, 0)] for loss, n in zip(losses, used, strict=True)]))
    for restart, (loss, n) in enumerate(zip(losses, used, strict=True)):
        style = {"color": BLUE, "lw": 1.4, "zorder": 3} if restart == best else {"color": "#9A9A9A"}
        axes.plot(np.arange(1, n + 1), loss[:n], **{"lw": 0.8, **style})
    axes.plot([], [], color=BLUE, lw=1.4, label=f"kept (restart {best})")
    if len(losses) > 1:
        axes.plot([], [], color="#9A9A9A", lw=0.8, label="other restarts")
    axes.set(xlabel="Iteration", ylabel="Loss (share of squared norm)", xscale="log")
    axes.set_title(f"Loss of the restarts (rank given: {result.sizes['component']})")
    axes.legend()


def _integer_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _draw_similarity(axes: Axes, scores: dict[int, np.ndarray], chosen: int) -> None:
    if not scores:
        note(axes, "One restart:\nno similarity to show.")
        return
    ranks = sorted(scores)
    for rank in ranks:
        spread = np.linspace(-0.15, 0.15, scores[rank].size) if scores[rank].size > 1 else [0.0]
        axes.scatter(rank + np.asarray(spread), scores[rank], s=7, color="#9A9A9A", lw=0)
    medians = [np.median(scores[rank]) for rank in ranks]
    axes.plot(ranks, medians, color=BLUE, marker="o", label="median")
    axes.axhline(STABLE, color=INK, lw=0.7, ls="--", label=f"stable: {STABLE}")
    axes.axvline(chosen, color=ORANGE, lw=1.2, ls=":", label=f"rank used: {chosen}")
    axes.set(xlabel="Number of motifs (rank)", ylabel="Factor match score", ylim=(0, 1.03))
    margin = 0.6 if len(ranks) > 1 else 2.0
    axes.set_xlim(min(ranks) - margin, max(ranks) + margin)
    axes.set_title("Similarity of restarts")
    _integer_ticks(axes)
    axes.legend()


def _table(
    ranks: np.ndarray, errors: np.ndarray, scores: dict[int, np.ndarray], chosen: int
) -> pd.DataFrame:
    import pandas as pd

    held_out = dict(zip(ranks.tolist(), zip(*_statistics(errors), strict=True), strict=True))
    nothing = (np.nan, np.nan)
    rows = [
        (
            rank,
            *held_out.get(rank, nothing),
            float(np.median(scores[rank])) if rank in scores else np.nan,
            len(scores.get(rank, ())),
            rank == chosen,
        )
        for rank in sorted({*held_out, *scores, chosen})
    ]
    columns = ["rank", "cv_error_mean", "cv_error_se", "fms_median", "restart_pairs", "chosen"]
    return pd.DataFrame(rows, columns=columns)


SELECTED = (
    "Left: relative error on held-out cells against the number of motifs; line and band: mean ± "
    "one standard error over {folds}; grey: single folds; dotted: the chosen rank, the smallest "
    "whose mean lies below the dashed line. "
)
GIVEN = (
    "The number of motifs was given, so that nothing was selected. Left: loss of {restarts} "
    "over iterations; the one with the lowest final loss was kept. "
)
COMMON = (
    "Right: factor match score of each pair of restarts (dots) and its median (line); 1 means the "
    "same factors. Good: {good} and restarts that agree (median at least 0.9). Bad: "
    "{bad} or scores that fall with the rank, as happens when time is not aligned "
    "between subjects; one component more than there are groups is usual, "
    "it takes the diffuse background."
)


def draw_rank(result: xr.Dataset) -> ReportFigure:
    """Draw held-out error and restart similarity against the rank, or the losses of the restarts.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    chosen = result.sizes["component"]
    ranks, errors = _selection(result)
    scores = _pair_scores(result)
    if ranks.size:
        text = SELECTED.format(folds=count_text(errors.shape[1], "fold"))
        good, bad = "an error with a clear minimum", "an error that only falls or never does"
    else:
        text = GIVEN.format(restarts=count_text(result.sizes["restart"], "restart"))
        good, bad = "losses that end on one level", "losses that end on different levels"
    figure = ReportFigure(
        title="Number of motifs and stability",
        caption=text + COMMON.format(good=good, bad=bad),
        table=_table(ranks, errors, scores, chosen),
        height_mm=62,
    )
    left, right = figure.subplots(1, 2)
    if ranks.size:
        _draw_errors(left, ranks, errors, chosen)
    else:
        _draw_losses(left, result)
    _draw_similarity(right, scores, chosen)
    return figure
