"""Independent components: those that follow the eyes or the heart are taken out."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError, DataError
from neuropipe.preprocess.blocks import per_row, time_blocks
from neuropipe.preprocess.filtering import Fir, filtered
from neuropipe.preprocess.sampling import sampling_rate, segments
from neuropipe.preprocess.steps import add_issue, recorded_step, with_activity

if TYPE_CHECKING:
    import mne
    import xarray as xr

__all__ = ["remove_components"]

# scikit-learn takes seeds of 32 bits.
MAX_SEED = 1 << 32
EXTRA = ("auxiliary", "auxiliary_channel", "auxiliary_type")


def _check_installed(method: str) -> None:
    if method == "picard" and importlib.util.find_spec("picard") is None:
        raise ConfigError(
            "preprocess.*.ica.method is 'picard', but the package python-picard is not installed; "
            "install it, or write `method: fastica`"
        )


def _fit(
    values: np.ndarray, kinds: list[str], rate: float, method: str, components: int | None,
    max_iterations: int, seed: int,
) -> tuple[Any, bool]:  # fmt: skip
    """Return the fitted `mne.preprocessing.ICA` and whether it converged."""
    import mne
    from sklearn.exceptions import ConvergenceWarning

    raw = _as_raw(values, kinds, rate)
    ica = mne.preprocessing.ICA(
        n_components=components, method=method, random_state=seed % MAX_SEED,
        max_iter=max_iterations, verbose="error",
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ica.fit(raw, verbose="error")
    failed = any(
        issubclass(entry.category, ConvergenceWarning) or "converge" in str(entry.message)
        for entry in seen
    )
    return ica, not failed


def _as_raw(values: np.ndarray, kinds: list[str], rate: float) -> mne.io.RawArray:
    """Return samples ``(n_times, n_channels)`` as an mne recording."""
    import mne

    info = mne.create_info([f"c{i}" for i in range(len(kinds))], rate, kinds, verbose="error")
    return mne.io.RawArray(np.ascontiguousarray(values.T, dtype=np.float64), info, verbose="error")


def _correlations(sources: np.ndarray, extra: np.ndarray) -> np.ndarray:
    """Return the size of the correlation of components and auxiliary channels, ``(n, m)``."""
    both = np.concatenate([sources, extra], axis=0)
    both = both - both.mean(axis=1, keepdims=True)
    size = np.sqrt((both**2).sum(axis=1, keepdims=True))
    both = both / np.where(size > 0, size, 1.0)
    return np.abs(both[: len(sources)] @ both[len(sources) :].T)


@recorded_step("ica", ("mne", "scikit-learn"))
def remove_components(
    ds: xr.Dataset, *, method: str = "fastica", components: int | None = None,
    high_pass_hz: float = 1.0, max_iterations: int = 1000, correlation: float = 0.7, seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    """Take out the independent components that follow an EOG or ECG channel.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, channel)``, ``valid``, ``channel_ok``, ``ch_type`` and, where the
        source has them, ``auxiliary (time, auxiliary_channel)``.
    method : {"fastica", "picard"}
        Algorithm.
    components : int or None
        Number of components; None: the rank of the good channels.
    high_pass_hz : float
        The fit is made on a copy of the good channels above this frequency, Hz.
    max_iterations : int
        Iterations of the fit.
    correlation : float
        Limit of the size of a component's correlation with an auxiliary channel.
    seed : int
        Start of the fit.

    Returns
    -------
    xarray.Dataset
        Good channels without these components, valid where all good channels are; bad channels
        as they were. ``ica_correlation (ica_component, auxiliary_channel)`` and ``ica_excluded``
        tell what was found. Without auxiliary channels nothing is taken out, with an issue.

    Raises
    ------
    ConfigError
        If ``picard`` is not installed.
    DataError
        If there are fewer good channels than components.
    """
    _check_installed(method)
    if "auxiliary" not in ds:
        return add_issue(
            ds,
            "NO_AUXILIARY",
            "ICA finds artefacts by EOG and ECG channels, and the recording has none; nothing was "
            "taken out",
            "write `ica: null`",
        )
    good = np.flatnonzero(ds["channel_ok"].values)
    if good.size < max(2, components or 0):
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: ICA with {components or 2} components "
            f"needs as many good channels, found {good.size}; lower `ica.components`"
        )
    rate = sampling_rate(ds)
    copy, extra, use = _fit_copy(ds, good, high_pass_hz, rate)
    kinds = [str(kind) for kind in ds["ch_type"].values[good]]
    ica, converged = _fit(copy[use], kinds, rate, method, components, max_iterations, seed)
    if not converged:
        ds = add_issue(
            ds, "ICA_NOT_CONVERGED", f"the fit did not converge in {max_iterations} iterations",
            "raise `ica.max_iterations`, or lower `ica.components`",
        )  # fmt: skip
    found = ica.get_sources(_as_raw(copy[use], kinds, rate)).get_data()
    strength = _correlations(found, extra[use].T)
    excluded = (strength > correlation).any(axis=1)
    ds = _applied(ds, good, ica, np.flatnonzero(excluded).tolist(), kinds, rate)
    names = ds["auxiliary_channel"].values
    return ds.drop_vars(EXTRA).assign(
        ica_correlation=(("ica_component", "ica_auxiliary"), strength),
        ica_excluded=("ica_component", excluded),
    ).assign_coords(ica_auxiliary=names)  # fmt: skip


def _fit_copy(
    ds: xr.Dataset, good: np.ndarray, high_pass_hz: float, rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the high-passed good channels, auxiliary channels, and the samples to fit on."""
    fir = Fir(high_pass_hz, None)
    rows = ds[["activity", "valid", "time", *(n for n in ("observed",) if n in ds)]]
    copy = filtered(
        rows.isel(channel=good).assign_attrs(ds.attrs), fir, "the high pass of ICA",
        "raise `ica.high_pass_hz`",
    )  # fmt: skip
    usable = np.isfinite(ds["auxiliary"].values)
    extra, whole = per_row(
        ds["auxiliary"].values, usable, segments(ds), fir.taps(rate), lambda x: fir.run(x, rate)
    )
    use = np.asarray(copy["valid"].values.all(axis=1) & whole.all(axis=1))
    if not use.any():
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: no sample is valid in all good channels "
            "and in the EOG and ECG; write `ica: null`"
        )
    return copy["activity"].values, extra, use


def _applied(
    ds: xr.Dataset, good: np.ndarray, ica: Any, exclude: list[int], kinds: list[str], rate: float
) -> xr.Dataset:
    """Return `ds` with components taken out of the good channels, block by block in time."""
    if not exclude:
        return ds
    values, valid = ds["activity"].values.copy(), ds["valid"].values.copy()
    valid[:, good] &= valid[:, good].all(axis=1, keepdims=True)
    for block in time_blocks(*values.shape):
        use = valid[block][:, good[0]]
        if use.any():
            place = np.ix_(np.flatnonzero(use) + block.start, good)
            raw = _as_raw(values[place], kinds, rate)
            values[place] = ica.apply(raw, exclude=exclude, verbose="error").get_data().T
    values[:, good] = np.where(valid[:, good], values[:, good], np.nan)
    return with_activity(ds, values, valid)
