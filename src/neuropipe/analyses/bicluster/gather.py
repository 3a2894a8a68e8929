"""The summary of chains that carry all it needs: for chains run by hand, `BiclusterModel`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from neuropipe.analyses.bicluster.chain_state import Problem
from neuropipe.analyses.bicluster.prepare import Prepared
from neuropipe.analyses.bicluster.spec import Settings
from neuropipe.analyses.bicluster.summarise import summarise
from neuropipe.errors import DataError

__all__ = ["summarize"]


def summarize(
    chains: Sequence[xr.Dataset], loss: str = "pear", *, data: xr.Dataset | None = None
) -> xr.DataTree:
    """Gather chains into the result: point partitions, bands, prediction, diagnostics.

    Parameters
    ----------
    chains : sequence of xarray.Dataset
        From ``BiclusterModel.run_chain`` or the stage ``chain``, all of the same counts.
    loss : {"pear", "vi", "binder"}
        What the point partitions optimise.
    data : xarray.Dataset, optional
        Coordinates ``unit``, ``time`` and, if known, ``region`` and ``trial``; attribute
        ``bin_width_s``. Without it units are numbered and a bin lasts one second.

    Returns
    -------
    xarray.DataTree
        What `fit` returns.

    Raises
    ------
    DataError
        If there is no chain, or the chains do not belong together.

    Examples
    --------
    >>> from neuropipe.analyses import bicluster
    >>> data, _ = bicluster.simulate(0, n_per=2, n_clusters=2, p=1, T=20)
    >>> model = bicluster.BiclusterModel(p=1, n_states_max=2)
    >>> plan = {"warmup": 2, "draws": 8, "thin": 1, "latent_thin": 2}
    >>> chains = [model.run_chain(data["counts"].values, chain=k, **plan) for k in (0, 1)]
    >>> bicluster.summarize(chains)["unit_cluster"].shape
    (4,)
    """
    _check(chains)
    first = chains[0]
    seen = first["counts"].transpose("unit", "time").values.astype(np.float64)
    counts, held = np.where(np.isnan(seen), -1.0, seen), first["held"].values
    problem = Problem.of(
        np.where(held, -1.0, counts),
        offset=first["log_exposure"].values if "log_exposure" in first else None,
        start=first["first_of_trial"].values,
    )
    named = _named(first, data)
    settings = Settings.model_validate(
        {
            "model": {
                "p": first.sizes["latent"],
                "n_states_max": first.sizes["state"],
                "family": first.attrs["family"],
            },
            "mcmc": {"latent_thin": int(first.attrs["latent_thin"]), "chains": len(chains)},
            "loss": loss,
        }
    )
    numbered = [one.assign_attrs(chain=one.attrs.get("chain", k)) for k, one in enumerate(chains)]
    ready = Prepared(problem, counts, held, named.assign(counts=first["counts"].variable), (), ())
    return summarise(ready, settings, numbered)


def _check(chains: Sequence[xr.Dataset]) -> None:
    if not len(chains):
        raise DataError("chains: none given; expected one or more datasets of `run_chain`")
    for k, one in enumerate(chains):
        if not one["counts"].equals(chains[0]["counts"]):
            raise DataError(f"chains: number {k} belongs to other counts than number 0")
        if one["draw"].size != chains[0]["draw"].size:
            raise DataError(
                f"chains: number {k} has {one['draw'].size} draws, number 0 has "
                f"{chains[0]['draw'].size}; run all with the same `draws` and `thin`"
            )


def _named(chain: xr.Dataset, data: xr.Dataset | None) -> xr.Dataset:
    """Return a dataset with the coordinates of the result."""
    if data is not None:
        names = [name for name in ("unit", "time", "region", "trial") if name in data]
        found = xr.Dataset(coords={name: data[name] for name in names}, attrs=data.attrs)
        for dim in ("unit", "time"):
            if found.sizes.get(dim) != chain.sizes[dim]:
                raise DataError(
                    f"data: {found.sizes.get(dim)} entries of {dim}, the chains have "
                    f"{chain.sizes[dim]}; give the data that the chains saw"
                )
        return found
    number = np.arange(chain.sizes["unit"])
    unit = chain["unit"].values if "unit" in chain.coords else [f"unit-{i}" for i in number]
    time = np.arange(chain.sizes["time"]) + 0.5
    trial = np.cumsum(chain["first_of_trial"].values) - 1
    return xr.Dataset(
        coords={"unit": unit, "time": time, "trial": ("time", trial)}, attrs={"bin_width_s": 1.0}
    )
