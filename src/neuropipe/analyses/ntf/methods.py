"""The methods paragraph: what was done, with the numbers of this result, ready to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.methods_text import (
    changed_sentence,
    counted,
    paragraph,
    software_sentence,
)
from neuropipe.analyses.ntf.motifs import list_motifs
from neuropipe.analyses.ntf.spec import SHIFT_DRAWS, Settings
from neuropipe.analyses.ntf.summary import restart_similarity

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["text"]

REFERENCES = {
    "Dyballa": "Dyballa L, Lang S, Haslund-Gourley A, Yemini E, Zucker SW (2024). Learning dynamic "
    "representations of the functional connectome in neurobiological networks. ICLR 2024, "
    "arXiv:2402.14102.",
    "Williams": "Williams AH et al. (2018). Unsupervised discovery of demixed, low-dimensional "
    "neural dynamics across multiple timescales through tensor component analysis. Neuron 98, "
    "1099-1115.",
    "Cichocki": "Cichocki A, Phan AH (2009). Fast local algorithms for large scale nonnegative "
    "matrix and tensor factorizations. IEICE Trans Fundamentals E92-A, 708-721.",
    "Tomasi": "Tomasi G, Bro R (2005). PARAFAC and missing values. Chemometrics and Intelligent "
    "Laboratory Systems 75, 163-180.",
    "Traag": "Traag VA, Waltman L, van Eck NJ (2019). From Louvain to Leiden: guaranteeing "
    "well-connected communities. Scientific Reports 9, 5233.",
    "von Luxburg": "von Luxburg U (2007). A tutorial on spectral clustering. Statistics and "
    "Computing 17, 395-416.",
    "Dahl": "Dahl DB (2005). Sequentially-allocated merge-split sampler for conjugate and "
    "nonconjugate Dirichlet process mixture models. Technical report, Texas A&M University.",
    "Westfall": "Westfall PH, Young SS (1993). Resampling-based multiple testing. Wiley, New York.",
    "Peixoto": "Peixoto TP (2018). Nonparametric weighted stochastic block models. Physical Review "
    "E 97, 012306.",
}

AFFINITY = {
    "excess": "the co-fluctuation of the two absolute derivatives above what their activity "
    "levels give: their covariance in a centred window of {window_s:g} s divided by the product of "
    "their standard deviations, negative values set to 0, times the geometric mean of the "
    "standard deviations",
    "differential": "the similarity of the two absolute derivatives over intervals in which both "
    "derivatives keep a constant sign, weighted by their mean size (Dyballa et al. 2024, our "
    "formula)",
    "abs_corr": "the absolute correlation of the two traces in a centred window of {window_s:g} s",
    "abs_dcorr": "the absolute correlation of the two derivatives in a centred window of "
    "{window_s:g} s",
}

SIGNIFICANCE = {
    "none": "The significance of communities was not tested.",
    "permute": "The score of a community (mean rank of its internal weights, standardised for its "
    "number of pairs) was compared with the largest score that the same detection found in each of "
    "{null_draws} graphs with the observed weights in random places (p family-wise within a "
    "motif). That p says that the weights are not exchangeable, which independent neurons of "
    "unequal activity also make them; it is no test of interaction, as circular_shift is.",
    "circular_shift": "Communities were tested against {shift_draws} data sets in which every "
    "trace was rotated by a random time, separately while the same components were active, so that "
    "neurons keep their activity, also its level in the motif, and lose only its coincidence. The "
    "components of each were fitted from those found and their communities detected in the same "
    "way; weights (square roots) were standardised pair by pair over all data sets, and the sum "
    "inside a community was compared with the largest of each rotated data set (p family-wise over "
    "all motifs).",
}

MODELS = {
    "exponential": "exponential weights (rate ~ Gamma(1, 1), integrated out)",
    "normal": "normal square roots of the weights (normal-inverse-gamma prior, integrated out)",
}


BACKENDS = {
    "wsbm": "Each component's graph was partitioned by a dense weighted stochastic block model "
    "(Peixoto 2018, own implementation) with {model}: greedy moves of single neurons and merges of "
    "blocks from {k_max} blocks down to one, best of {starts}.",
    "leiden": "Each component's graph was partitioned by the Leiden method (Traag et al. 2019, "
    "modularity with resolution {resolution:g}), best of {starts}; coarser levels merge blocks by "
    "a dense weighted stochastic block model (Peixoto 2018) with {model}.",
    "spectral": "Each component's graph was partitioned by spectral clustering (von Luxburg 2007, "
    "k-means with {starts} on the embedding by the normalised Laplacian) into at most {k_max} "
    "blocks, their number and the coarser levels by the description length of a dense weighted "
    "stochastic block model (Peixoto 2018) with {model}.",
    "graph_tool": "Each component's graph was partitioned by the nested weighted stochastic block "
    "model of graph-tool (Peixoto 2018) with {weights} weights, degree-corrected or not by "
    "description length, best of {starts} of each; coarser levels merge blocks by a dense weighted "
    "stochastic block model with {model}.",
}


def _affinity(settings: Settings, result: xr.Dataset) -> str:
    rules = settings.affinity
    formula = AFFINITY[rules.mode].format(window_s=rules.window_s)
    neurons, subjects = result.sizes["neuron"], result.sizes["subject"]
    align = str(result.attrs.get("align", ""))
    aligned = f" (time aligned: {align})" if align else ""
    return (
        f"Dynamic functional connectomes were estimated from {counted(neurons, 'neuron')} in "
        f"{counted(subjects, 'subject')}{aligned}, after Dyballa et al. (2024). Gaps of up to "
        f"{rules.max_gap_s:g} s were interpolated; neurons that were not identified in a subject "
        "stayed missing. Derivatives were computed with a Savitzky-Golay filter (order 2, "
        f"window {rules.deriv_window_s:g} s or 5 frames if longer); their absolute values were "
        f"divided by their {rules.scale_quantile:g} quantile and clipped at 1. The affinity of a "
        f"pair of neurons was {formula}, averaged in bins of {rules.bin_s:g} s."
    )


def _rank(settings: Settings, used: int) -> str:
    ranks = settings.candidate_ranks
    if not ranks:
        return f"The number of components was set to {used}."
    tried = f"{ranks[0]} to {ranks[-1]}" if settings.rank == "auto" else ", ".join(map(str, ranks))
    return (
        f"The number of components was chosen among {tried} by cross-validation "
        f"({settings.cv_folds} folds, each holding out 10 % of the observed pair-by-subject "
        "fibres, or of pair-by-time blocks with a single subject) as the smallest within one "
        f"standard error of the lowest error: {used}."
    )


def _factorisation(settings: Settings, result: xr.Dataset) -> str:
    similarity = restart_similarity(result)
    agreement = (
        f" The restarts had a median factor match score of {np.median(similarity):.2f} "
        "(Williams et al. 2018)."
        if similarity.size
        else ""
    )
    bootstrap = (
        f" Intervals of the factors are 5 and 95 % quantiles over {settings.bootstrap} resamplings "
        "of subjects."
        if settings.bootstrap
        else ""
    )
    return (
        "The tensor of affinities (pairs x time bins x subjects) was factorised into non-negative "
        "components by hierarchical alternating least squares (Cichocki and Phan 2009) on "
        f"the observed cells only (Tomasi and Bro 2005), with {settings.inner} sweeps per mode and "
        f"iteration, a ridge of {settings.ridge:g} on the pair factors where data were missing, at "
        f"most {settings.max_iter} iterations, ended when the relative error changed by less than "
        f"{settings.tol:g}; the best of {counted(settings.restarts, 'random start')} was kept. "
        f"{_rank(settings, result.sizes['component'])} The model explains "
        f"{100 * float(result['explained_variance']):.0f} % of the squared affinity.{agreement}"
        f"{bootstrap}"
    )


def _communities(settings: Settings, result: xr.Dataset) -> str:
    rules = settings.communities
    found = sum(len(motif.communities) for motif in list_motifs(result))
    test = SIGNIFICANCE[settings.significance].format(
        null_draws=rules.null_draws, shift_draws=SHIFT_DRAWS
    )
    how = BACKENDS[rules.backend].format(
        model=MODELS[rules.weights],
        weights=rules.weights,
        k_max=rules.k_max,
        resolution=rules.resolution,
        starts=counted(rules.restarts, "start"),
    )
    sampled = (
        f" Of the block model, {rules.samples} partitions were drawn from the posterior (Gibbs "
        "moves and sequentially allocated merge-splits, Dahl 2005, from the best partition) for "
        "the probability that two neurons are in one block."
        if rules.samples
        else ""
    )
    return (
        f"{how} Blocks of at least {rules.min_size} neurons "
        "whose mean internal weight exceeded the median of the graph by more than 0.4 of what the "
        "strongest block did, and the mean of the graph, count as communities, the rest as "
        f"background; {found} {'was' if found == 1 else 'were'} found. {test}{sampled}"
    )


def _connectome(result: xr.Dataset) -> str:
    if "wiring_weight" not in result:
        return ""
    kinds = ", ".join(str(kind) for kind in result["kind"].values.tolist())
    return (
        f"The mean weight between the members of each community in a connectome ({kinds}; measured "
        "ordered pairs only), minus what the in- and out-strengths of its neurons let expect "
        "(iterative proportional fitting), was compared with that of "
        f"{int(result.attrs['wiring_draws'])} random sets with the same size and profile of "
        "strengths (permutation of neurons within strata of about ten), one-sided; p values are "
        "family-wise over the communities of all motifs (Westfall and Young 1993), Bonferroni over "
        "kinds."
    )


def text(settings: Settings, result: xr.Dataset) -> str:
    """Return the methods paragraph of a result, in Markdown, with its references.

    Parameters
    ----------
    settings : Settings
        Settings of the fit.
    result : xarray.Dataset
        Result of the analysis; its attribute ``versions`` (JSON) names the software.
    """
    parts = (
        _affinity(settings, result), _factorisation(settings, result),
        _communities(settings, result), _connectome(result),
        changed_sentence(settings), software_sentence(result.attrs),
    )  # fmt: skip
    return paragraph(parts, REFERENCES)
