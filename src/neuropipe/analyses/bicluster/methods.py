"""The methods paragraph: what was done, with the numbers of this result, ready to paste."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.bicluster.spec import Settings
from neuropipe.analyses.methods_text import changed_sentence, paragraph, software_sentence

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["text"]

REFERENCES = {
    "Wei": "Wei G (2024). Bayesian bi-clustering of neural spiking activity with latent "
    "structures. ICLR 2024, arXiv:2309.02213.",
    "Miller & Harrison": "Miller JW, Harrison MT (2018). Mixture models with a prior on the "
    "number of components. J Am Stat Assoc 113, 340-356.",
    "Fox": "Fox EB, Sudderth EB, Jordan MI, Willsky AS (2011). A sticky HDP-HMM with application "
    "to speaker diarization. Ann Appl Stat 5, 1020-1056.",
    "Polson": "Polson NG, Scott JG, Windle J (2013). Bayesian inference for logistic models using "
    "Polya-Gamma latent variables. J Am Stat Assoc 108, 1339-1349.",
    "Neal": "Neal RM (2000). Markov chain sampling methods for Dirichlet process mixture models. "
    "J Comput Graph Stat 9, 249-265.",
    "Watanabe": "Watanabe S (2010). Asymptotic equivalence of Bayes cross validation and widely "
    "applicable information criterion in singular learning theory. J Mach Learn Res 11, 3571-3594.",
    "Fritsch": "Fritsch A, Ickstadt K (2009). Improved criteria for clustering based on the "
    "posterior similarity matrix. Bayesian Anal 4, 367-391.",
    "Vehtari": "Vehtari A, Gelman A, Simpson D, Carpenter B, Buerkner PC (2021). "
    "Rank-normalization, folding, and localization: an improved R-hat. Bayesian Anal 16, 667-718.",
}
FAMILIES = {
    "negbin": "negative binomial counts (one dispersion per unit, Gamma({a_r:g}, {h_r:g}) prior)",
    "poisson": "Poisson counts",
}
# What a sweep does to trajectories and dispersions, and what else moves, by family.
SWEEPS = {
    "negbin": (
        "slice sampling of dispersions, Polya-Gamma augmentation (Polson et al. 2013), forward "
        "filtering and backward sampling of trajectories, a scan of the states with trajectories "
        "integrated out",
        "Labels of some units and the scale of innovations also moved with trajectories "
        "integrated out, and the frame of each cluster",
    ),
    "poisson": (
        "trajectories, proposed window by window from a negative binomial of large size by "
        "Polya-Gamma augmentation (Polson et al. 2013) with forward filtering and backward "
        "sampling, and corrected by Metropolis-Hastings",
        "The frame of each cluster also moved",
    ),
}
PARTITIONS = {
    "mfm": "a mixture of finite mixtures (number of components geometric with {rho:g}, Dirichlet "
    "weights with {gamma:g}; Miller & Harrison 2018)",
    "dp": "a Dirichlet process (concentration ~ Exp(1))",
}
LOSSES = {
    "pear": "the largest posterior expected adjusted Rand index (Fritsch & Ickstadt 2009)",
    "vi": "the smallest bound of the expected variation of information",
    "binder": "the smallest expected Binder loss",
}


def _strengths(settings: Settings) -> str:
    model, hyper = settings.model, settings.model.hyperpriors
    if hyper is None:
        return f"concentrations {model.alpha_h:g} and {model.gamma_h:g}, stickiness {model.kappa:g}"
    rows, shared, stay = (f"{a:g}, {b:g}" for a, b in (hyper.rows, hyper.shared, hyper.stay))
    return (
        f"concentration and stickiness of the rows sampled, their sum with a Gamma({rows}) prior "
        f"and the share of stickiness with Beta({stay}); concentration of the shared weights with "
        f"Gamma({shared})"
    )


def _model(settings: Settings) -> str:
    model = settings.model
    values = model.model_dump()
    factors = f"{model.p} latent factor{'s' * (model.p != 1)}"
    return (
        f"The log rate of a unit is its baseline plus the common log rate of its cluster plus its "
        f"loadings times {factors} of the cluster (baselines normal around "
        f"{'the log mean count' if model.m_d == 'empirical' else format(model.m_d, 'g')}), with "
        f"{FAMILIES[model.family].format(**values)}. Clusters of units follow "
        f"{PARTITIONS[model.partition].format(**values)}; states of time a sticky hierarchical "
        f"Dirichlet process hidden Markov model (at most {model.n_states_max} states; "
        f"{_strengths(settings)}; Fox et al. 2011); within a state the trajectory of each cluster "
        f"follows linear dynamics of its own (innovation variance about {model.q0:g} a priori)."
    )


def _sampler(settings: Settings) -> str:
    mcmc = settings.mcmc
    split = (
        f"a split-merge move every {mcmc.sm_every} sweeps"
        if mcmc.sm_every
        else "no split-merge move"
    )
    first, last = SWEEPS[settings.model.family]
    return (
        f"{mcmc.chains} chains from different starts ran {mcmc.warmup} warm-up sweeps and "
        f"{mcmc.draws} more, of which every {mcmc.thin}th was kept (trajectories: every "
        f"{mcmc.thin * mcmc.latent_thin}th). Sweeps comprised {first}, conjugate draws of dynamics "
        f"and transitions ({mcmc.n_inner} rounds), and labels with {mcmc.n_aux} auxiliary clusters "
        "(Neal 2000) proposed by Laplace approximations with Metropolis-Hastings correction; "
        f"{split}. {last} (shifts, scales and shears that leave the rates as they are); states of "
        "whole bouts moved with dynamics and transitions integrated out. The "
        "warm-up began with k-means clusters and states of varied dynamics; in it clusters were "
        "also merged, split and divided anew by the widely applicable information criterion "
        "(Watanabe 2010)."
    )


def _outcome(settings: Settings, result: xr.DataTree) -> str:
    held = settings.heldout
    prediction = (
        f" {100 * held.fraction:g} % of the entries, in blocks of {held.block_bins} bins, were "
        "held out; their log predictive density exceeded that of constant negative binomial rates "
        f"by {float(result['held_out_bits_per_spike']):.3f} bits per spike."
        if held.fraction
        else ""
    )
    rhat = float(np.nanmax(result["rhat"].values[:3]))
    verdict = "" if result.attrs["converged"] else " By these criteria the chains did NOT converge."
    return (
        f"The partition shown has {LOSSES[settings.loss]}.{prediction} Convergence was asked for "
        "by rank-normalised R-hat below 1.05 and effective sample sizes over 100 of the log joint "
        "density and the numbers of clusters and states (Vehtari et al. 2021), and an adjusted "
        f"Rand index over 0.8 between the partitions of any two chains; the largest R-hat was "
        f"{rhat:.2f}.{verdict}"
    )


def text(settings: Settings, result: xr.DataTree) -> str:
    """Return the methods paragraph with its references.

    Parameters
    ----------
    settings : Settings
        Of this result.
    result : xarray.DataTree
        Result of the analysis.
    """
    dropped = json.loads(result.attrs.get("dropped_units", "[]"))
    silent = f" {len(dropped)} units without a spike were left out." if len(dropped) else ""
    if settings.on_silent != "drop":
        silent += f" Units without a spike: {settings.on_silent}."
    opening = (
        f"Clusters of units and states of time were estimated from spike counts of "
        f"{result.sizes['unit']} units in {result.sizes['time']} bins of "
        f"{result.attrs['bin_width_s']:g} s by Bayesian bi-clustering (Wei 2024).{silent}"
    )
    parts = (
        opening, _model(settings), _sampler(settings), _outcome(settings, result),
        changed_sentence(settings), software_sentence(result.attrs),
    )  # fmt: skip
    return paragraph(parts, REFERENCES)
