"""Comparison of a result with the planted truth of `neuropipe.simulate.planted_layers`."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.analyses.trsa.kernels.compare import compare
from neuropipe.analyses.trsa.kernels.pairs import to_pairs

__all__ = ["score"]

DESCRIPTORS = {
    "geometry": "geometry (0, 1)",
    "topology": "RGTM (0.4, 0.6)",
    "local": "RGTM (0, 0.3)",
}


def score(result: xr.Dataset, truth: xr.Dataset) -> dict[str, float]:
    """Return how well the planted geometry was found.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `fit`.
    truth : xarray.Dataset
        Second return value of the simulator.

    Returns
    -------
    dict
        ``rdm_correlation``: mean Pearson correlation of the subjects' mean RDM of a layer with the
        planted one; ``identification_geometry``, ``identification_topology``,
        ``identification_local``: accuracies; ``true_model_wins``: share of models that score best
        in the layer they were made from.
    """
    labels = result["condition"].values.astype(str)
    true = truth["true_rdm"].sel(
        condition=labels, condition_2=labels, region=result["region"].values
    )
    rdms = result["rdm"]
    mean = rdms.mean([d for d in rdms.dims if d not in ("region", "pair")]).values
    fit = compare(mean, to_pairs(true.values), "pearson")
    found = {"rdm_correlation": float(np.diagonal(fit).mean())}
    if "identification_accuracy" in result:
        accuracy = result["identification_accuracy"]
        for name, descriptor in DESCRIPTORS.items():
            if descriptor in accuracy["descriptor"].values:
                found[f"identification_{name}"] = float(accuracy.sel(descriptor=descriptor))
    if "model_score" in result:
        own = result["model_score"].mean(
            [d for d in result["model_score"].dims if d not in ("model", "region")]
        )
        both = [name for name in own["model"].values if name in own["region"].values]
        wins = [str(own["model"].values[own.sel(region=n).values.argmax()]) == n for n in both]
        found["true_model_wins"] = float(np.mean(wins)) if wins else float("nan")
    return found
