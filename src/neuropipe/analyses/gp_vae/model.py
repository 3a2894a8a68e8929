"""The GP-VAE for Python users: the whole chain, and loading of a result."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import xarray as xr

from neuropipe.analyses.gp_vae import stages
from neuropipe.analyses.gp_vae.fitted import Fitted
from neuropipe.analyses.gp_vae.kernels.linear_model import Modality
from neuropipe.analyses.gp_vae.spec import ANALYSIS, Settings

__all__ = ["fit", "load"]


def fit(data: xr.Dataset, settings: Settings | None = None, seed: int = 0) -> xr.Dataset:
    """Run every stage: fits of all sizes and restarts, then the summary.

    Parameters
    ----------
    data : xarray.Dataset
        One variable per modality ``<m>(trial, time_<m>, unit_<m>)``, NaN or ``valid_<m>`` where
        missing; optional ``regressor_<m>``.
    settings : Settings, optional
        Defaults if not given.
    seed : int
        Every random number derives from it.

    Returns
    -------
    xarray.Dataset
        Latents, loadings, predictions, scores.

    Raises
    ------
    DataError
        If the input cannot be used; the message says what was found.
    """
    settings = Settings() if settings is None else settings
    parts = {
        "fit": [
            stages.fit(data, settings, seed, {}, **key) for key in ANALYSIS.scatter(settings)["fit"]
        ]
    }
    return stages.summary(data, settings, seed, parts)


def load(result: xr.Dataset) -> Fitted:
    """Rebuild the model of a result.

    Parameters
    ----------
    result : xarray.Dataset
        Of `fit`, or read from ``result.nc``.

    Returns
    -------
    Fitted
        Its methods give posteriors and predictions of other trials.
    """
    settings = Settings.model_validate_json(str(result.attrs["fit_settings"]))
    data = {}
    for name in map(str, result["modality"].values):
        predicted = result[f"prediction_{name}"]
        kept = np.isfinite(result[f"noise_{name}"].values)
        times = result[f"time_{name}"].values
        empty = np.zeros((1, times.size, int(kept.sum())))
        begin = min(
            float(result[f"time_{m}"].values[0]) for m in map(str, result["modality"].values)
        )
        one = Modality(
            empty, np.ones(empty.shape, bool), times - begin, str(predicted.attrs["likelihood"]),
            float(predicted.attrs["bin_width_s"]), str(predicted.attrs["kernel"]),
        )  # fmt: skip
        data[name] = one
    fitted = stages.read_fitted(result, data, settings)
    return replace(fitted, mlp=tuple(json.loads(str(result.attrs["mlp"]))))
