"""Smooth latent trajectories, shared between and private to modalities (GPFA and GP-VAE).

With one modality and a linear decoder this is Gaussian-process factor analysis of counts or
signals; with several it is the multi-modal GP-VAE, whose latents are `shared` or
`private:<modality>`. The input is that of `neuropipe.assemble.multimodal`: one variable per
modality ``<m>(trial, time_<m>, unit_<m>)`` on its own clock. Python users may also give ``video
(trial, time_video, y, x)`` and ``events (trial, time_events, unit_events)`` of 0 and 1.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = [
    "Settings",
    "figures",
    "fit",
    "load",
    "pyro_model",
    "pyro_posterior",
    "score",
    "simulate",
]

_WHERE = {
    "Settings": "neuropipe.analyses.gp_vae.spec:Settings",
    "fit": "neuropipe.analyses.gp_vae.model:fit",
    "load": "neuropipe.analyses.gp_vae.model:load",
    "pyro_model": "neuropipe.analyses.gp_vae.probabilistic:pyro_model",
    "pyro_posterior": "neuropipe.analyses.gp_vae.probabilistic:pyro_posterior",
    "score": "neuropipe.analyses.gp_vae.scoring:score",
    "simulate": "neuropipe.simulate.spikes_and_frames:spikes_and_frames",
}


def figures(result: Any, truth: Any = None) -> Any:
    """Return the report figures of a result, by slug; with the truth of a simulation one more."""
    return importlib.import_module("neuropipe.analyses.gp_vae.figures").figures(result, truth)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Face(ModuleType):
    """Keeps ``gp_vae.figures`` the function after the module of that name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "figures" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
