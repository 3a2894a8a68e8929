"""Representational analysis from geometry to topology: RDMs, descriptors, models, identification.

Any modality enters through `neuropipe.assemble.conditions` under the same names:
``patterns(subject, region, run, condition, channel[, time])``, of which only ``condition`` and
``channel`` are required, or single observations ``patterns(observation, channel[, time])`` with
coordinates ``condition``, ``run`` and ``subject``. Subjects may differ in their channels; only RDMs
are compared.
"""

from __future__ import annotations

from neuropipe.analyses.face import make_lazy

__all__ = make_lazy(
    __name__,
    {
        "Settings": "neuropipe.analyses.trsa.spec:Settings",
        "agtic": "neuropipe.analyses.trsa.kernels.agtic:agtic",
        "calc_rdms": "neuropipe.analyses.trsa.model:calc_rdms",
        "compare_descriptors": "neuropipe.analyses.trsa.model:compare_descriptors",
        "figures": "neuropipe.analyses.trsa.figures:figures",
        "fit": "neuropipe.analyses.trsa.model:fit",
        "score": "neuropipe.analyses.trsa.scoring:score",
        "searchlight_image": "neuropipe.analyses.trsa.map_files:searchlight_image",
        "searchlight_surface": "neuropipe.analyses.trsa.map_files:searchlight_surface",
        "simulate": "neuropipe.simulate.planted_layers:planted_layers",
    },
)
