"""Discrete brain states, each with a directed coupling network of its own.

Any modality enters through `neuropipe.assemble.trials` under the same names: ``counts`` (spikes) or
``activity(trial, time, unit)``, where ``unit`` stands for the row (``unit_kind`` says which).

======== ================ ========================================================================
modality rows             what to preprocess and set
======== ================ ========================================================================
spikes   units            the defaults are made for it; ``input.bin_ms`` 3 to 20
calcium  cells            dF/F as ``family: gaussian``, events as ``bernoulli``
eeg, meg channels         an envelope (``band_power``) with ``history: {basis: lags}`` (HMM-MAR), or
                          ``history: {bins: 0}`` and ``covariance: full``
ieeg     contacts         ``high_gamma``; as above
fmri     parcels          ``parcellation``; ``history: {bins: 0}`` and ``covariance: full``
======== ================ ========================================================================
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = [
    "Settings",
    "align_states",
    "decode",
    "figures",
    "fit",
    "held_out_score",
    "oracle",
    "score",
    "simulate",
    "simulate_gaussian",
]

_WHERE = {
    "Settings": "neuropipe.analyses.hmm_glm.spec:Settings",
    "align_states": "neuropipe.analyses.hmm_glm.model:align_states",
    "decode": "neuropipe.analyses.hmm_glm.evaluate:decode",
    "fit": "neuropipe.analyses.hmm_glm.model:fit",
    "held_out_score": "neuropipe.analyses.hmm_glm.evaluate:held_out_score",
    "oracle": "neuropipe.analyses.hmm_glm.scoring:oracle",
    "score": "neuropipe.analyses.hmm_glm.scoring:score",
    "simulate": "neuropipe.simulate.switching_glm:switching_glm",
    "simulate_gaussian": "neuropipe.simulate.switching_gaussian:switching_gaussian",
}


def figures(result: Any) -> Any:
    """Return the report figures of a result, by slug."""
    return importlib.import_module("neuropipe.analyses.hmm_glm.figures").figures(result)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Face(ModuleType):
    """Keeps ``hmm_glm.figures`` the function after the module of that name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "figures" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
