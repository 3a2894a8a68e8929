"""Discrete brain states, each with a directed coupling network of its own."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "Settings",
    "align_states",
    "decode",
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


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
