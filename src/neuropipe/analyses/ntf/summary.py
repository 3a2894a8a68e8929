"""The result as a tidy table, one sentence, and numbers that compare across collections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.analyses.ntf.motifs import Motif, list_motifs, text_values

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = [
    "headline",
    "metrics",
    "motif_table",
    "restart_similarity",
    "summary",
    "tables",
    "wiring_table",
]

ALPHA = 0.05
TOP_SUBJECTS = 3
# What a small p speaks against; of permuted weights that is not independence.
NULLS = {
    "permute": " unlike permuted weights (no test of interaction)",
    "circular_shift": " unlike independent neurons of the same activity",
}
COLUMNS = (
    "component",
    "community",
    "neuron",
    "strength",
    "pvalue",
    "start_s",
    "stop_s",
    "top_subjects",
)

WIRING_COLUMNS = (
    "community",
    "kind",
    "neurons",
    "pairs",
    "weight",
    "expected",
    "excess",
    "matched_low",
    "matched_median",
    "matched_high",
    "pvalue",
    "pvalue_family",
)


def summary(result: xr.Dataset) -> pd.DataFrame:
    """Return one row per motif, community and neuron.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.

    Returns
    -------
    pandas.DataFrame
        Columns ``component`` (from 1), ``community`` (its name, empty for the background),
        ``neuron``, ``strength`` and ``pvalue`` of the community, ``start_s`` and ``stop_s`` of the
        motif's longest active interval, ``top_subjects`` (at most three, by falling weight). A
        motif without a community has one row with an empty neuron.
    """
    import pandas as pd

    neurons = text_values(result["neuron"])
    subjects = text_values(result["subject"])
    rows: list[tuple[Any, ...]] = []
    for motif in list_motifs(result):
        start, stop = _longest(motif)
        top = ", ".join(subjects[i] for i in motif.subjects[:TOP_SUBJECTS])
        for community in motif.communities:
            rows += [
                (
                    motif.number,
                    community.name,
                    neurons[i],
                    community.strength,
                    community.pvalue,
                    start,
                    stop,
                    top,
                )
                for i in community.members
            ]
        if not motif.communities:
            rows.append((motif.number, "", "", np.nan, np.nan, start, stop, top))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _subject_weights(result: xr.Dataset, component: int) -> dict[str, float]:
    """Return lam times the subject factor: comparable between motifs."""
    weight = float(result["component_weight"].values[component])
    factor = result["subject_factor"].transpose("component", "subject").values[component]
    names = text_values(result["subject"])
    return {f"weight_{name}": weight * float(g) for name, g in zip(names, factor, strict=True)}


def motif_table(result: xr.Dataset) -> pd.DataFrame:
    """Return one row per motif.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.

    Returns
    -------
    pandas.DataFrame
        ``motif`` (from 1), ``weight`` (lam), ``weight_share`` (of all lam), ``communities``,
        ``significant_communities`` (p < 0.05; empty if not tested), ``neurons`` (in communities),
        ``background_neurons``, ``strongest_community``, ``smallest_pvalue``, ``active_s`` (total),
        ``intervals`` (number), ``start_s``, ``stop_s`` (longest interval), ``top_subject`` and one
        column ``weight_<subject>`` per subject, lam times the subject factor.
    """
    import pandas as pd

    total = float(result["component_weight"].sum())
    subjects = text_values(result["subject"])
    rows = []
    for component, motif in enumerate(list_motifs(result)):
        pvalues = np.array([one.pvalue for one in motif.communities])
        tested = pvalues[np.isfinite(pvalues)]
        start, stop = _longest(motif)
        weight = float(result["component_weight"].values[component])
        rows.append(
            {
                "motif": motif.number,
                "weight": weight,
                "weight_share": weight / total if total > 0 else np.nan,
                "communities": len(motif.communities),
                "significant_communities": int((tested < ALPHA).sum()) if tested.size else np.nan,
                "neurons": sum(one.members.size for one in motif.communities),
                "background_neurons": motif.background.size,
                "strongest_community": motif.communities[0].name if motif.communities else "",
                "smallest_pvalue": tested.min() if tested.size else np.nan,
                "active_s": motif.active_s,
                "intervals": len(motif.intervals),
                "start_s": start,
                "stop_s": stop,
                "top_subject": subjects[motif.subjects[0]],
                **_subject_weights(result, component),
            }
        )
    return pd.DataFrame(rows)


def wiring_table(result: xr.Dataset) -> pd.DataFrame:
    """Return one row per community and kind of connection.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with a connectome.

    Returns
    -------
    pandas.DataFrame
        ``community``, ``kind``, ``neurons`` and ``pairs`` that were measured, ``weight`` (mean of
        the ordered pairs inside), ``expected`` (from strengths), ``excess`` (their difference),
        ``matched_low``, ``matched_median``, ``matched_high`` (5, 50, 95 % of the excess of matched
        random sets), ``pvalue``, ``pvalue_family``.
    """
    import pandas as pd

    fields = ("neurons", "pairs", "weight", "expected", "pvalue", "pvalue_family")
    rows = []
    for component, motif in enumerate(list_motifs(result)):
        for community in motif.communities:
            for kind in text_values(result["kind"]):
                one = result.isel(component=component).sel(community_id=community.label, kind=kind)
                values = {name: one[f"wiring_{name}"].item() for name in fields}
                low, median, high = one["wiring_null"].values
                rows.append(
                    {
                        "community": community.name,
                        "kind": kind,
                        **{name: values[name] for name in fields[:4]},
                        "excess": values["weight"] - values["expected"],
                        "matched_low": low,
                        "matched_median": median,
                        "matched_high": high,
                        **{name: values[name] for name in fields[4:]},
                    }
                )
    return pd.DataFrame(rows, columns=list(WIRING_COLUMNS))


def tables(result: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Return the tables beside ``summary.tsv`` by file name: ``motifs.csv``."""
    return {"motifs.csv": motif_table(result)}


def _longest(motif: Motif) -> tuple[float, float]:
    if not len(motif.intervals):
        return np.nan, np.nan
    start, stop = motif.intervals[np.argmax(np.diff(motif.intervals, axis=1)[:, 0])]
    return float(start), float(stop)


def restart_similarity(result: xr.Dataset) -> np.ndarray:
    """Return the factor match scores between restarts at the chosen rank, one per pair."""
    if "fms_restart" not in result:
        return np.zeros(0)
    scores = result["fms_restart"]
    if "rank" in scores.dims:
        if result.sizes["component"] not in scores["rank"].values:
            return np.zeros(0)
        scores = scores.sel(rank=result.sizes["component"])
    values = scores.transpose("restart", "restart_2").values
    values = values[np.triu_indices(len(values), 1)]
    return values[np.isfinite(values)]


def _counts(motifs: list[Motif]) -> tuple[int, int, int]:
    """Return the numbers of communities, tested ones and significant ones."""
    pvalues = np.array([one.pvalue for motif in motifs for one in motif.communities])
    return pvalues.size, int(np.isfinite(pvalues).sum()), int((pvalues < ALPHA).sum())


def headline(result: xr.Dataset) -> str:
    """Return one sentence with the numbers of the result and no claim about them."""
    motifs = list_motifs(result)
    communities, tested, significant = _counts(motifs)
    neurons, subjects = result.sizes["neuron"], result.sizes["subject"]
    explained = 100 * float(result["explained_variance"])
    one = len(motifs) == 1
    groups = "community" if communities == 1 else "communities"
    text = (
        f"{len(motifs)} {'component' if one else 'components'} from {neurons} neurons in "
        f"{subjects} subject{'s' * (subjects != 1)} {'explains' if one else 'explain'} "
        f"{explained:.0f} % of the squared affinity and {'holds' if one else 'hold'} "
        f"{communities} {groups}"
    )
    if not tested:
        return f"{text}."
    against = NULLS.get(str(result.attrs.get("significance", "")), "")
    return f"{text}, {significant} of them{against} at p < {ALPHA}."


def _median(values: np.ndarray) -> float:
    return float(np.median(values)) if values.size else np.nan


def _metric(
    name: str, value: float, unit: str, n: int, spread: np.ndarray | None = None
) -> dict[str, Any]:
    low, high = (np.nan, np.nan)
    if spread is not None and spread.size:
        low, high = (float(q) for q in np.quantile(spread, [0.05, 0.95]))
    return {
        "metric": name,
        "value": float(value),
        "unit": unit,
        "low": low,
        "high": high,
        "n": int(n),
    }


def metrics(result: xr.Dataset) -> list[dict[str, Any]]:
    """Return the numbers of the study's comparison table.

    Returns
    -------
    list of dict
        Keys ``metric value unit low high n``. `low` and `high` are the 5 and 95 % quantiles over
        what the median was taken of (communities, components, pairs of restarts), NaN for plain
        numbers. What a result does not have is NaN with n = 0; the rows are always the same.
    """
    motifs = list_motifs(result)
    communities, tested, significant = _counts(motifs)
    sizes = np.array([one.members.size for motif in motifs for one in motif.communities])
    similarity = restart_similarity(result)
    active = np.array([motif.active_s for motif in motifs])
    subjects, neurons = result.sizes["subject"], result.sizes["neuron"]
    explained = float(result["explained_variance"])
    return [
        _metric("components", len(motifs), "1", subjects),
        _metric("explained_variance", explained, "1", subjects),
        _metric("communities", communities, "1", neurons),
        _metric("significant_communities", significant if tested else np.nan, "1", tested),
        _metric("community_size", _median(sizes), "neuron", sizes.size, sizes),
        _metric("active_time", _median(active), "s", active.size, active),
        _metric("restart_similarity", _median(similarity), "1", similarity.size, similarity),
    ]
