"""Smooth latent trajectories, shared between and private to modalities (GPFA and GP-VAE).

With one modality and a linear decoder this is Gaussian-process factor analysis of counts or
signals; with several it is the multi-modal GP-VAE, whose latents are `shared` or
`private:<modality>`. The input is that of `neuropipe.assemble.multimodal`: one variable per
modality ``<m>(trial, time_<m>, unit_<m>)`` on its own clock. Python users may also give ``video
(trial, time_video, y, x)`` and ``events (trial, time_events, unit_events)`` of 0 and 1.
"""

from __future__ import annotations

from neuropipe.analyses.face import make_lazy

__all__ = make_lazy(
    __name__,
    {
        "Settings": "neuropipe.analyses.gp_vae.spec:Settings",
        "figures": "neuropipe.analyses.gp_vae.figures:figures",
        "fit": "neuropipe.analyses.gp_vae.model:fit",
        "load": "neuropipe.analyses.gp_vae.model:load",
        "pyro_model": "neuropipe.analyses.gp_vae.probabilistic:pyro_model",
        "pyro_posterior": "neuropipe.analyses.gp_vae.probabilistic:pyro_posterior",
        "score": "neuropipe.analyses.gp_vae.scoring:score",
        "simulate": "neuropipe.simulate.spikes_and_frames:spikes_and_frames",
    },
)
