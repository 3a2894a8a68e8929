"""Side by side: numbers of latent factors, widths of bins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from neuropipe.analyses.bicluster.model import fit
from neuropipe.analyses.bicluster.spec import Settings
from neuropipe.errors import DataError
from neuropipe.stats.clustering_scores import adjusted_rand_score

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["compare_models", "rebin_check"]


def compare_models(
    data: xr.Dataset,
    settings: Settings | None = None,
    seed: int = 0,
    *,
    p: Sequence[int] = (1, 2, 3),
    n_states_max: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Fit with several numbers of factors and states; rank by prediction of held-out entries.

    Parameters
    ----------
    data : xarray.Dataset
        Input of `fit`.
    settings : Settings, optional
        Everything else; entries must be held out.
    seed : int
        The same for all, so that all are compared on the same entries.
    p, n_states_max : sequence of int
        Values to try; `n_states_max` as in the settings if not given.

    Returns
    -------
    pandas.DataFrame
        ``p n_states_max bits_per_spike standard_error clusters converged``, best first.

    Raises
    ------
    DataError
        If no entry is held out.
    """
    import pandas as pd

    settings = Settings() if settings is None else settings
    if not settings.heldout.fraction:
        raise DataError("heldout.fraction is 0: models are compared on held-out entries")
    rows: list[dict[str, Any]] = []
    for factors in p:
        for states in n_states_max or (settings.model.n_states_max,):
            values = settings.model_dump()
            values["model"] |= {"p": factors, "n_states_max": states}
            result = fit(data, Settings.model_validate(values), seed)
            rows.append(
                {
                    "p": factors,
                    "n_states_max": states,
                    "bits_per_spike": float(result["held_out_bits_per_spike"]),
                    "standard_error": float(result["held_out_bits_per_spike_se"]),
                    "clusters": int(result["unit_cluster"].values.max()) + 1,
                    "converged": result.attrs["converged"],
                }
            )
    return pd.DataFrame(rows).sort_values("bits_per_spike", ascending=False, ignore_index=True)


def _doubled(data: xr.Dataset) -> xr.Dataset:
    """Return data with bins joined in pairs within a trial; half-seen pairs are unobserved."""
    data = data.transpose("unit", "time", ...)
    counts = data["counts"].values.astype(np.float64)
    if "valid" in data:
        counts[~data["valid"].values] = np.nan
    trial = data["trial"].values if "trial" in data else np.zeros(counts.shape[1], int)
    starts = np.flatnonzero(np.r_[True, np.diff(trial) != 0, True])
    first = np.concatenate([np.arange(a, b - 1, 2) for a, b in pairwise(starts)])
    time = data["time"].values
    wide = xr.Dataset(
        {"counts": (("unit", "time"), counts[:, first] + counts[:, first + 1])},
        coords={
            "unit": data["unit"].values,
            "trial": ("time", trial[first]),
            "time": (time[first] + time[first + 1]) / 2,
        },
    )
    if "offset" in data:
        # The mean exposure of the pair: none given and an offset of zero are the same.
        offset = data["offset"].values
        mean = np.logaddexp(offset[:, first], offset[:, first + 1]) - np.log(2.0)
        wide["offset"] = (("unit", "time"), mean)
    return wide


def rebin_check(
    data: xr.Dataset,
    settings: Settings | None = None,
    seed: int = 0,
    *,
    halved: xr.Dataset | None = None,
) -> dict[str, float]:
    """Compare the clusters of units at the bins given with those at other widths.

    Parameters
    ----------
    data : xarray.Dataset
        Input of `fit`. Its bins are joined in pairs within a trial; a pair with an unobserved bin
        is unobserved.
    settings : Settings, optional
        Defaults if not given; the same for all widths.
    seed : int
        Seed of every fit.
    halved : xarray.Dataset, optional
        The same recording in bins half as wide: they need the spikes, so assemble them again with
        half the ``bin_ms``.

    Returns
    -------
    dict
        ``doubled`` and, if given, ``halved``: adjusted Rand index over the units that both have.
    """
    base = fit(data, settings, seed)
    others = {"doubled": _doubled(data)} | ({} if halved is None else {"halved": halved})
    found = {}
    for name, one in others.items():
        other = fit(one, settings, seed)
        known = np.intersect1d(base["unit"].values, other["unit"].values)
        labels = [each["unit_cluster"].sel(unit=known).values for each in (base, other)]
        found[name] = adjusted_rand_score(*labels)
    return found
