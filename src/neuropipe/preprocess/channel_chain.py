"""The chains of EEG, MEG and intracranial recordings: which step gets which settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neuropipe.preprocess.channels import (
    DATA_TYPES,
    bad_channels,
    choose_channels,
    interpolate_bad,
)
from neuropipe.preprocess.envelope import band_power, high_gamma
from neuropipe.preprocess.filtering import bandpass, notch, resolve_line
from neuropipe.preprocess.ica import remove_components
from neuropipe.preprocess.rates import lower_rate
from neuropipe.preprocess.reference import average_reference, contact_reference

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CHANNEL_CHAINS", "SEEDED", "raw_channels"]

Run = Callable[["xr.Dataset", Any], "xr.Dataset"]
# Steps that draw random numbers, and so take a seed.
SEEDED = ("ica",)
LAZY = ("signal", "valid")


def raw_channels(raw: xr.Dataset) -> xr.Dataset:
    """Return ``/raw`` with everything loaded but its samples, its attributes on ``signal``."""
    lazy = {name: raw.variables[name] for name in LAZY if name in raw}
    small = raw.drop_vars(list(lazy)).load()
    kept = {key: value for key, value in raw.attrs.items() if key != "all_valid"}
    signal = lazy["signal"].copy(deep=False)
    signal.attrs = {**kept, **signal.attrs}
    return small.assign({**lazy, "signal": signal})


def _source(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    modality = str(ds.attrs["schema"]).removeprefix("neuropipe.")
    auxiliary = getattr(settings, "ica", None) is not None
    return choose_channels(ds, types=DATA_TYPES[modality], auxiliary=auxiliary)


def _notch(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    ds, line_hz = resolve_line(ds, settings.line_hz)
    return ds if line_hz is None else notch(ds, line_hz=line_hz)


def _bandpass(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    if settings.bandpass_hz is None or settings.bandpass_hz == (None, None):
        return ds
    low, high = settings.bandpass_hz
    return bandpass(ds, low_hz=low, high_hz=high)


def _bad_channels(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    search = settings.bad_channels
    return bad_channels(ds, z=None if search is None else search.z)


def _interpolate(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    search = settings.bad_channels
    return interpolate_bad(ds) if search is not None and search.interpolate else ds


def _ica(ds: xr.Dataset, settings: Any, seed: int = 0) -> xr.Dataset:
    if settings.ica is None:
        return ds
    return remove_components(ds, **settings.ica.model_dump(), seed=seed)


def _average(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    return average_reference(ds, kind=settings.reference) if settings.reference else ds


def _contacts(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    return ds if settings.reference == "none" else contact_reference(ds, kind=settings.reference)


def _high_gamma(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    return high_gamma(ds, **settings.high_gamma.model_dump()) if settings.high_gamma else ds


def _band_power(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    return band_power(ds, **settings.band_power.model_dump()) if settings.band_power else ds


def _resample(ds: xr.Dataset, settings: Any) -> xr.Dataset:
    return lower_rate(ds, rate_hz=settings.resample_hz) if settings.resample_hz else ds


_FIRST: dict[str, Run] = {
    "source": _source,
    "notch": _notch,
    "bandpass": _bandpass,
    "bad_channels": _bad_channels,
}
_LAST: dict[str, Run] = {"band_power": _band_power, "resample": _resample}
CHANNEL_CHAINS: dict[str, dict[str, Run]] = {
    "eeg": {**_FIRST, "ica": _ica, "interpolate": _interpolate, "reference": _average, **_LAST},
    "meg": {**_FIRST, "ica": _ica, **_LAST},
    "ieeg": {**_FIRST, "reference": _contacts, "high_gamma": _high_gamma, **_LAST},
}
