"""Representational analysis from geometry to topology: RDMs, descriptors, models, identification.

Any modality enters through `neuropipe.assemble.conditions` under the same names:
``patterns(subject, region, run, condition, channel[, time])``, of which only ``condition`` and
``channel`` are required, or single observations ``patterns(observation, channel[, time])`` with
coordinates ``condition``, ``run`` and ``subject``. Subjects may differ in their channels; only RDMs
are compared.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__all__ = [
    "Settings",
    "agtic",
    "calc_rdms",
    "compare_descriptors",
    "figures",
    "fit",
    "score",
    "searchlight_image",
    "searchlight_surface",
    "simulate",
]

_WHERE = {
    "Settings": "neuropipe.analyses.trsa.spec:Settings",
    "agtic": "neuropipe.analyses.trsa.kernels.agtic:agtic",
    "calc_rdms": "neuropipe.analyses.trsa.model:calc_rdms",
    "compare_descriptors": "neuropipe.analyses.trsa.model:compare_descriptors",
    "fit": "neuropipe.analyses.trsa.model:fit",
    "score": "neuropipe.analyses.trsa.scoring:score",
    "searchlight_image": "neuropipe.analyses.trsa.map_files:searchlight_image",
    "searchlight_surface": "neuropipe.analyses.trsa.map_files:searchlight_surface",
    "simulate": "neuropipe.simulate.planted_layers:planted_layers",
}


def figures(result: Any) -> Any:
    """Return the report figures of a result, by slug."""
    return importlib.import_module("neuropipe.analyses.trsa.figures").figures(result)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


class _Face(ModuleType):
    """Keeps ``trsa.figures`` the function after the module of that name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "figures" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
