"""Bayesian bi-clustering of spike counts: clusters of neurons x states of time.

Neurons of a cluster read out one low-dimensional trajectory; bins of a state share linear
dynamics, and all clusters switch at the same moments. Markov chains sample both partitions, their
numbers of groups included; the result says whether the chains agree.

Spikes only: ``counts(unit, time)`` from `neuropipe.assemble.binned`, in Python any counts.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = [
    "BiclusterModel",
    "Priors",
    "Settings",
    "compare_models",
    "figures",
    "fit",
    "posterior_predictive",
    "rebin_check",
    "score",
    "simulate",
    "summarize",
]

_PACKAGE = "neuropipe.analyses.bicluster"
_WHERE = {
    "BiclusterModel": f"{_PACKAGE}.model:BiclusterModel",
    "Priors": f"{_PACKAGE}.chain_state:Priors",
    "Settings": f"{_PACKAGE}.spec:Settings",
    "compare_models": f"{_PACKAGE}.comparison:compare_models",
    "rebin_check": f"{_PACKAGE}.comparison:rebin_check",
    "fit": f"{_PACKAGE}.model:fit",
    "posterior_predictive": f"{_PACKAGE}.predictive:posterior_predictive",
    "score": f"{_PACKAGE}.scoring:score",
    "summarize": f"{_PACKAGE}.gather:summarize",
    "simulate": "neuropipe.simulate.planted_biclusters:planted_biclusters",
}


def figures(result: Any) -> Any:
    """Return the report figures of a result, by slug."""
    return importlib.import_module(f"{_PACKAGE}.figures").figures(result)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Face(ModuleType):
    """Keeps ``bicluster.figures`` the function after the module of that name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "figures" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
