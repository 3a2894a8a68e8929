"""Bayesian bi-clustering of spike counts: clusters of neurons x states of time.

Neurons of a cluster read out one low-dimensional trajectory; bins of a state share linear
dynamics, and all clusters switch at the same moments. Markov chains sample both partitions, their
numbers of groups included; the result says whether the chains agree.

Spikes only: ``counts(unit, time)`` from `neuropipe.assemble.binned`, in Python any counts.
"""

from __future__ import annotations

from neuropipe.analyses.face import make_lazy

__all__ = make_lazy(
    __name__,
    {
        "BiclusterModel": "neuropipe.analyses.bicluster.model:BiclusterModel",
        "Priors": "neuropipe.analyses.bicluster.chain_state:Priors",
        "Settings": "neuropipe.analyses.bicluster.spec:Settings",
        "compare_models": "neuropipe.analyses.bicluster.comparison:compare_models",
        "figures": "neuropipe.analyses.bicluster.figures:figures",
        "fit": "neuropipe.analyses.bicluster.model:fit",
        "posterior_predictive": "neuropipe.analyses.bicluster.predictive:posterior_predictive",
        "rebin_check": "neuropipe.analyses.bicluster.comparison:rebin_check",
        "score": "neuropipe.analyses.bicluster.scoring:score",
        "simulate": "neuropipe.simulate.planted_biclusters:planted_biclusters",
        "summarize": "neuropipe.analyses.bicluster.gather:summarize",
    },
)
