"""Dynamic functional connectomes by non-negative tensor factorisation of pair affinities.

Any modality enters through `neuropipe.assemble.cohort` under the same names: ``activity(subject,
neuron, time)``, where ``neuron`` stands for the named row (``unit_kind`` says which).

======== ======================== ============================================================
modality rows                     what to preprocess and set
======== ======================== ============================================================
calcium  identified neurons       the defaults are made for it
eeg, meg channels                 an envelope (``band_power``), not the raw signal: the sign of
                                  an oscillation is no event; ``units.where: ch_type == 'eeg'``
fmri     parcels                  ``parcellation``; slow, so ``affinity.window_s: 40`` and the
                                  repetition time as ``affinity.bin_s``
ieeg     contacts of one patient  ``high_gamma``; ``input.scope: recording``
======== ======================== ============================================================

Contacts sit elsewhere in every patient, so a cohort of them is refused. Time is put
together by ``input.align``: ``absolute`` (one clock of the protocol), ``epochs`` (pieces at the
events, for protocols in other orders) or ``single`` (one recording).
"""

from __future__ import annotations

from neuropipe.analyses.face import make_lazy

__all__ = make_lazy(
    __name__,
    {
        "AffinitySettings": "neuropipe.analyses.ntf.spec:AffinitySettings",
        "CommunitySettings": "neuropipe.analyses.ntf.spec:CommunitySettings",
        "NTFResult": "neuropipe.analyses.ntf.kernels.factorise:NTFResult",
        "Settings": "neuropipe.analyses.ntf.spec:Settings",
        "affinity_tensor": "neuropipe.analyses.ntf.model:affinity_tensor",
        "detect_communities": "neuropipe.analyses.ntf.backends:detect_communities",
        "dynamic_connectome": "neuropipe.analyses.ntf.graphs:dynamic_connectome",
        "figures": "neuropipe.analyses.ntf.figures:figures",
        "fit": "neuropipe.analyses.ntf.model:fit",
        "fit_ntf": "neuropipe.analyses.ntf.model:fit_ntf",
        "motif_table": "neuropipe.analyses.ntf.summary:motif_table",
        "score": "neuropipe.analyses.ntf.scoring:score",
        "select_rank": "neuropipe.analyses.ntf.model:select_rank",
        "simulate": "neuropipe.simulate.planted_calcium:planted_calcium",
        "wiring_table": "neuropipe.analyses.ntf.summary:wiring_table",
    },
)
