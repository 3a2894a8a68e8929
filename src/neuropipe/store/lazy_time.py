"""Sample times that are computed or read when asked for: those of long recordings fill memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing
from xarray.core.indexes import Index, PandasIndex
from xarray.core.indexing import IndexSelResult

from neuropipe.store.clock import RegularClock

__all__ = ["DeferredIndex", "computed_values", "regular_time", "with_indexes"]

# An index holds the times of every sample in memory, and reads them when a store is opened.
INDEXED_SAMPLES = 1 << 20


class _Computed(BackendArray):
    """A 1-D float64 array whose values are a function of the position."""

    def __init__(self, n: int, values: Callable[[np.ndarray], np.ndarray]) -> None:
        self.shape, self.dtype = (n,), np.dtype(np.float64)
        self._values = values

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        (place,) = key
        if isinstance(place, slice):
            place = np.arange(*place.indices(self.shape[0]))
        return np.asarray(self._values(np.asarray(place)))


def computed_values(
    n: int, values: Callable[[np.ndarray], np.ndarray]
) -> indexing.LazilyIndexedArray:
    """Return data of a variable that are computed from positions when asked for.

    Parameters
    ----------
    n : int
        Length.
    values : callable
        Positions (int64 array) -> float64 values, the same whichever positions are asked for
        together.
    """
    return indexing.LazilyIndexedArray(_Computed(n, values))


def regular_time(clock: RegularClock) -> xr.Variable:
    """Return the coordinate ``time`` of a regular clock, seconds, not held in memory."""
    return xr.Variable(("time",), computed_values(clock.count, clock.at), {"units": "s"})


class DeferredIndex(Index):
    """Index of sorted sample times that reads them at the first selection by time.

    The values stay lazy; ``isel`` and shapes need none of them.
    """

    def __init__(self, variable: xr.Variable) -> None:
        self._variable = variable
        self._loaded: PandasIndex | None = None

    @classmethod
    def from_variables(
        cls, variables: Mapping[Any, xr.Variable], *, options: Mapping[str, Any]
    ) -> DeferredIndex:
        """Return the index of the one variable given."""
        (variable,) = variables.values()
        return cls(variable)

    @property
    def loaded(self) -> PandasIndex:
        """The same index with its times in memory."""
        if self._loaded is None:
            dim = self._variable.dims[0]
            self._loaded = PandasIndex(np.asarray(self._variable.values), dim)
        return self._loaded

    def create_variables(
        self, variables: Mapping[Any, xr.Variable] | None = None
    ) -> dict[Any, xr.Variable]:
        """Return the variables as they are, lazy."""
        return dict(variables or {})

    def sel(self, labels: dict[Any, Any], method: Any = None, tolerance: Any = None) -> Any:
        """Select by time, seconds."""
        (label,) = labels.values()
        dim = self._variable.dims[0]
        found = self.loaded.sel({dim: label}, method=method, tolerance=tolerance)
        return IndexSelResult({dim: found.dim_indexers[dim]})

    def isel(self, indexers: Mapping[Any, Any]) -> Index | None:
        """Return the index of the samples chosen."""
        dim = self._variable.dims[0]
        chosen = self._variable.isel({dim: indexers[dim]})
        if chosen.dims != (dim,):
            return None
        if chosen.size > INDEXED_SAMPLES:
            return DeferredIndex(chosen)
        return PandasIndex(np.asarray(chosen.values), dim)

    def to_pandas_index(self) -> pd.Index:
        """Return the times as a pandas index."""
        return self.loaded.to_pandas_index()

    def equals(self, other: Index, **_: Any) -> bool:
        """Say whether both hold the same times."""
        if not isinstance(other, DeferredIndex):
            return False
        same = other._variable is self._variable
        return same or self.loaded.equals(other.loaded)


def with_indexes(ds: xr.Dataset) -> xr.Dataset:
    """Give each dim with a coordinate its index; that of many samples is read when first used."""
    for name in [str(name) for name in ds.coords if ds[name].dims == (name,)]:
        if name in ds.xindexes:
            continue
        large = ds.sizes[name] > INDEXED_SAMPLES
        ds = ds.set_xindex(name, DeferredIndex if large else PandasIndex)
    return ds
