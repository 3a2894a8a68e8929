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

from neuropipe.analyses.face import make_lazy

__all__ = make_lazy(
    __name__,
    {
        "Settings": "neuropipe.analyses.hmm_glm.spec:Settings",
        "align_states": "neuropipe.analyses.hmm_glm.model:align_states",
        "decode": "neuropipe.analyses.hmm_glm.evaluate:decode",
        "figures": "neuropipe.analyses.hmm_glm.figures:figures",
        "fit": "neuropipe.analyses.hmm_glm.model:fit",
        "held_out_score": "neuropipe.analyses.hmm_glm.evaluate:held_out_score",
        "oracle": "neuropipe.analyses.hmm_glm.scoring:oracle",
        "score": "neuropipe.analyses.hmm_glm.scoring:score",
        "simulate": "neuropipe.simulate.switching_glm:switching_glm",
        "simulate_gaussian": "neuropipe.simulate.switching_gaussian:switching_gaussian",
    },
)
