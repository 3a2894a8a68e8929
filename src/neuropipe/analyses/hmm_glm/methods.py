"""The methods paragraph: what was done, with the numbers of this result, ready to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.analyses.hmm_glm.spec import Settings
from neuropipe.analyses.hmm_glm.summary import best_agreement
from neuropipe.analyses.methods_text import (
    changed_sentence,
    counted,
    paragraph,
    software_sentence,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["text"]

REFERENCES = {
    "Li et al. 2024": "Li C, Kim SY, Rodgers C, Choi H, Wu A (2024). One-hot generalized linear "
    "model for switching brain state discovery. ICLR 2024, arXiv:2310.15263.",
    "Escola": "Escola S, Fontanini A, Katz D, Paninski L (2011). Hidden Markov models for the "
    "stimulus-response relationships of multistate neural systems. Neural Computation 23, "
    "1071-1132.",
    "Pillow": "Pillow JW et al. (2008). Spatio-temporal correlations and visual signalling in a "
    "complete neuronal population. Nature 454, 995-999.",
    "Jang": "Jang E, Gu S, Poole B (2017). Categorical reparameterization with Gumbel-Softmax. "
    "ICLR 2017, arXiv:1611.01144.",
    "Stephens": "Stephens M (2017). False discovery rates: a new deal. Biostatistics 18, 275-294.",
    "Vidaurre": "Vidaurre D et al. (2016). Spectrally resolved fast transient brain states in "
    "electrophysiological data. NeuroImage 126, 81-95.",
    "La Camera": "Li T, La Camera G (2024). A sticky Poisson hidden Markov model for spike data. "
    "bioRxiv 2024.08.07.606969.",
    "Czado": "Czado C, Gneiting T, Held L (2009). Predictive model assessment for count data. "
    "Biometrics 65, 1254-1261.",
    "Schwarz": "Schwarz G (1978). Estimating the dimension of a model. Annals of Statistics 6, "
    "461-464.",
}

FAMILY = {
    "poisson": "Counts were Poisson with a {link} link",
    "negbin": "Counts were negative binomial with a {link} link and a dispersion per unit",
    "bernoulli": "Bins were Bernoulli with a logistic link",
    "gaussian": "Activity was Gaussian with {noise} in each state",
}
NOISE = {"diagonal": "a variance per row", "full": "a full covariance of the rows"}
BASIS = {
    "exp": "the exponential mean of the last {bins} {noun} (decay {decay:g} per bin, sum 1)",
    "raised_cosine": "{count} raised cosines on a logarithmic axis over the last {bins} {noun} "
    "(each with sum 1)",
    "lags": "each of the last {bins} {noun} by itself (a vector autoregression per state, Vidaurre "
    "et al. 2016)",
}
PRIOR = {
    "none": "Weights had a ridge penalty alone (precision {ridge:g}{l1}).",
    "gaussian": "The weights of the states were drawn to a common mean with a common variance, "
    "both learned (Li et al. 2024, Gaussian variant; ridge {ridge:g}).",
    "onehot": "Each connection of each state was taken as {classes} with probabilities of the pair "
    "that all states share and a strength of its own (the one-hot model of Li et al. 2024), by "
    "empirical Bayes on estimates and their Fisher information (Stephens 2017; ridge {ridge:g}).",
    "onehot-gumbel": "Each connection of each state was taken as {classes} with probabilities of "
    "the pair that all states share and a strength of its own, relaxed by the Gumbel-Softmax "
    "distribution (Jang et al. 2017) and fitted by stochastic gradients as in Li et al. 2024.",
}
CLASSES = {"signed": "inhibitory, absent or excitatory", "unsigned": "present or absent"}
START = {
    "score": "clusters of the smoothed scores of the one-state model",
    "perturb": "the one-state model with noise",
    "kmeans": "clusters of the smoothed activity",
}


def _defaults(settings: Settings) -> Settings:
    """Return the defaults; that of the folds depends on whether the states are given."""
    folds = Settings(states=list(settings.candidates)).cv_folds
    return Settings().model_copy(update={"cv_folds": folds})


def _model(settings: Settings, result: xr.Dataset) -> str:
    family = str(result.attrs["family"])
    rules = settings.history
    observed = FAMILY[family].format(link=result.attrs["link"], noise=NOISE[settings.covariance])
    past = "no coupling (a hidden Markov model without history)"
    if rules.bins:
        noun = "bin" if rules.bins == 1 else "bins"
        basis = BASIS[rules.basis].format(**rules.model_dump(), noun=noun)
        past = f"a coupling from every row to every row (Pillow et al. 2008) through {basis}"
    covariates = "; regressors entered linearly" if "regressor_weight" in result else ""
    bias = "in each state" if settings.bias == "per_state" else "common to the states"
    trials = counted(result.sizes["trial"], "trial")
    return (
        f"Discrete states were inferred from {counted(result.sizes['unit'], 'row')} in {trials} "
        f"(step {1000 * float(result.attrs['bin_width_s']):g} ms) by a hidden Markov model whose "
        f"states are generalised linear models (HMM-GLM, Escola et al. 2011; Li et al. 2024). "
        f"{observed}; each state had {past}, and each row a base level {bias}{covariates}."
    )


def _prior(settings: Settings) -> str:
    rules = settings.regularisation
    found = []
    if settings.history.bins:
        lasso = f", absolute penalty {rules.l1:g}" if rules.l1 else ""
        found.append(
            PRIOR[settings.prior].format(
                ridge=rules.ridge, l1=lasso, classes=CLASSES[settings.connection_types]
            )
        )
    if settings.dale:
        found.append("All connections of a sender to other rows had one sign (Dale's principle).")
    sticky = settings.sticky
    if sticky.kappa or sticky.alpha != 1:
        found.append(
            f"Rows of the transition matrix had a Dirichlet prior with {sticky.alpha:g} on every "
            f"state and {sticky.kappa:g} more on staying (sticky transitions, Li and La Camera "
            "2024)."
        )
    return " ".join(found)


def _fitting(settings: Settings, result: xr.Dataset) -> str:
    agreement = best_agreement(result)
    agreed = f" The two best agree in {agreement:.0%} of the bins." if agreement > 0 else ""
    first = (
        f" The first {settings.drop_first} bins of a trial served as history only."
        if settings.drop_first
        else ""
    )
    kept = "the two best after ten iterations were run" if settings.restarts > 2 else "run"
    return (
        "Parameters were estimated by expectation maximisation with one Fisher-scoring step per "
        f"iteration from {counted(settings.restarts, 'start')} ({START[settings.init]}; {kept} "
        f"until the objective grew by less than {settings.tol:g}, at most {settings.max_iter} "
        f"iterations).{agreed}{first}"
    )


def _selection(settings: Settings, result: xr.Dataset) -> str:
    used, tried = int(result.attrs["n_states"]), settings.candidates
    listed = ", ".join(map(str, tried))
    folds = (
        f"{settings.cv_folds} folds of held-out trials (or of blocks of the recording, with a gap "
        "of the length of the history)"
    )
    if len(tried) == 1:
        scored = f"; its held-out likelihood comes from {folds}" if settings.cv_folds else ""
        return f"The number of states was set to {used}{scored}."
    if not settings.cv_folds:
        return (
            f"The number of states was chosen among {listed} by the Bayes information criterion "
            f"(Schwarz 1978): {used}."
        )
    return (
        f"The number of states was chosen among {listed} by the log-likelihood of {folds}, from "
        "the forward pass with parameters of the training data, as the smallest within one "
        f"standard error of the best: {used}."
    )


def _intervals(settings: Settings) -> str:
    errors = "Standard errors of weights come from the Fisher information (Laplace)"
    fit = "Goodness of fit was looked at by the probability integral transform (Czado et al. 2009)."
    if not settings.bootstrap:
        return f"{errors}. {fit}"
    return (
        f"{errors}; intervals are 2.5 and 97.5 % quantiles over {settings.bootstrap} resamplings "
        f"of trials (or blocks), states aligned by their paths. {fit}"
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
        _model(settings, result), _prior(settings), _fitting(settings, result),
        _selection(settings, result), _intervals(settings),
        changed_sentence(settings, _defaults(settings)), software_sentence(result.attrs),
    )  # fmt: skip
    return paragraph(parts, REFERENCES)
