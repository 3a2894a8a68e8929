"""The chain of steps of one recording: ingested store in, preprocessed store out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neuropipe.errors import ConfigError, DataError
from neuropipe.preprocess import calcium
from neuropipe.preprocess.fmri import FMRI_STEPS, raw_bold
from neuropipe.preprocess.normalise import normalise
from neuropipe.preprocess.resample import resample
from neuropipe.preprocess.smooth import smooth
from neuropipe.preprocess.steps import (
    Step,
    add_issue,
    check_known,
    installed_steps,
    place_steps,
    record,
    row_dim,
)

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import CalciumPreprocess, PreprocessConfig

__all__ = ["CALCIUM_STEPS", "preprocess"]

Run = Callable[["xr.Dataset", Any], "xr.Dataset"]
ORIGIN = ("source_series", "raw_samples", "min_samples")
GROUPS = ("events", "trials", "behavior")


def _neuropil(ds: xr.Dataset, settings: CalciumPreprocess) -> xr.Dataset:
    if settings.neuropil is None or "neuropil" not in ds:
        return ds.drop_vars("neuropil", errors="ignore")
    return calcium.neuropil(ds, **settings.neuropil.model_dump())


def _dff(ds: xr.Dataset, settings: CalciumPreprocess) -> xr.Dataset:
    if settings.dff is None or ds.attrs["source_series"] != "fluorescence":
        return ds
    return calcium.dff(ds, **settings.dff.model_dump())


def _derivative(ds: xr.Dataset, settings: CalciumPreprocess) -> xr.Dataset:
    return calcium.derivative(ds, method=settings.derivative) if settings.derivative else ds


def _smooth(ds: xr.Dataset, settings: CalciumPreprocess) -> xr.Dataset:
    return smooth(ds, **settings.smooth.model_dump()) if settings.smooth else ds


def _resample(ds: xr.Dataset, settings: CalciumPreprocess) -> xr.Dataset:
    return resample(ds, **settings.resample.model_dump()) if settings.resample else ds


def _normalise(ds: xr.Dataset, settings: CalciumPreprocess) -> xr.Dataset:
    if settings.normalise is None:
        return ds
    extra = {"burn_in": settings.burn_in} if settings.normalise == "causal_zscore" else {}
    return normalise(ds, method=settings.normalise, **extra)


CALCIUM_STEPS: dict[str, Run] = {
    "source": lambda ds, settings: calcium.choose_source(
        ds, source=settings.source, dff_on=settings.dff is not None
    ),
    "neuropil": _neuropil,
    "dff": _dff,
    "nan_runs": lambda ds, settings: calcium.mark_nan_runs(
        ds, max_nan_fraction=settings.max_nan_fraction
    ),
    "derivative": _derivative,
    "smooth": _smooth,
    "resample": _resample,
    "normalise": _normalise,
}
CHAINS: dict[str, dict[str, Run]] = {"calcium": CALCIUM_STEPS, "fmri": FMRI_STEPS}


def _installed_run(step: Step, package: str, given: dict[str, Any]) -> Run:
    settings = step.settings.model_validate(given)

    def run(ds: xr.Dataset, _: Any) -> xr.Dataset:
        result = step.run(ds, settings)
        wanted = {str(dim) for dim in ds["activity"].dims}
        if "activity" not in result or set(result["activity"].dims) != wanted:
            raise DataError(
                f"preprocess.steps.{step.name}: the step must return `activity` with dims "
                f"{sorted(wanted)}; correct the package {package or step.name!r}"
            )
        values, row = result["activity"].transpose("time", ...), row_dim(ds)
        mask = values.notnull()
        if "valid" in result:
            mask &= result["valid"].transpose("time", row)
        result = result.assign(activity=values, valid=mask)
        packages = (package,) if package else ()
        return record(result, step.name, settings.model_dump(mode="json"), packages)

    return run


def _chain(modality: str, settings: PreprocessConfig) -> list[tuple[str, Run]]:
    """Return the steps of a modality in order, those of installed packages in their places."""
    if modality not in CHAINS:
        raise ConfigError(
            f"preprocess: no chain for modality {modality!r}; chains exist for "
            f"{', '.join(sorted(CHAINS))}"
        )
    runs = dict(CHAINS[modality])
    wanted = {name: given for name, given in settings.steps.items() if given is not None}
    if not wanted:
        return list(runs.items())
    found = installed_steps()
    check_known(wanted, found)
    after = {}
    for name, given in wanted.items():
        step, package = found[name]
        if modality not in step.modalities:
            continue
        if name in CHAINS[modality]:
            raise ConfigError(f"preprocess.steps.{name}: the name belongs to a built-in step")
        after[name] = step.after
        runs[name] = _installed_run(step, package, given)
    order = place_steps(list(CHAINS[modality]), after)
    return [(name, runs[name]) for name in order]


def _modality(tree: xr.DataTree) -> str:
    schema = str(tree.attrs.get("schema", ""))
    if not schema.startswith("neuropipe."):
        raise DataError(
            f"{tree.attrs.get('recording', 'store')}: root attribute `schema` is {schema!r}, "
            "expected 'neuropipe.<modality>'; preprocess works on ingested stores"
        )
    return schema.removeprefix("neuropipe.")


def _start(tree: xr.DataTree, settings: PreprocessConfig, modality: str) -> xr.Dataset:
    """Return ``/raw`` with the root attributes, as the first step gets it.

    It is loaded, but for the samples of fMRI, which the first step reads block by block.
    """
    raw = tree.children["raw"].to_dataset(inherit=False)
    raw = raw_bold(raw) if modality == "fmri" else raw.load()
    least = getattr(getattr(settings, modality, None), "min_samples", 1)
    count = int(raw.sizes["time"])
    ds = raw.copy()
    ds.attrs = {**tree.attrs, "raw_samples": count, "min_samples": int(least)}
    name = tree.attrs.get("recording", "")
    if count < 2:
        raise DataError(f"{name}: {count} samples, expected two or more; exclude the recording")
    if count < least:
        ds = add_issue(
            ds,
            "SHORT_RECORDING",
            f"{name} has {count} samples, preprocess.{modality}.min_samples is {least}: it will "
            "be left out of cohorts",
            "lower `min_samples` to use it",
        )
    return ds


def _finish(ds: xr.Dataset, dtype: Any) -> xr.Dataset:
    """Cast to the precision of the source; keep a mask only where something is missing.

    The root attributes are those of every store; what belongs to the trace moves to ``activity``.
    """
    import numpy as np

    precision = np.float64 if dtype == np.float64 else np.float32
    origin = {key: ds.attrs.pop(key) for key in ORIGIN if key in ds.attrs}
    ds = ds.assign(activity=ds["activity"].astype(precision, copy=False).assign_attrs(origin))
    # A float64 value can overflow float32; what is not finite is not valid.
    valid = ds["valid"].values & np.isfinite(ds["activity"].values)
    ds.attrs.pop("all_valid", None)
    ds.attrs.setdefault("issues", "[]")
    if valid.all():
        return ds.drop_vars("valid").assign_attrs(all_valid=True)
    return ds.assign(valid=(ds["activity"].dims, valid))


def _own_clock(step: xr.Dataset, final: xr.Dataset) -> xr.Dataset:
    """Strip a kept step to its arrays; before a resampling its clock is called ``time_source``.

    Groups of a tree share the coordinates of the root, so that another clock needs another name.
    """
    step = step.drop_vars([name for name in step.coords if name != "time"])
    step.attrs = {}
    if step["time"].equals(final["time"]):
        return step
    return step.rename(time="time_source")


def preprocess(tree: xr.DataTree, settings: PreprocessConfig) -> xr.DataTree:
    """Run the chain of steps of one recording.

    Parameters
    ----------
    tree : xarray.DataTree
        Ingested store: root attributes, ``/raw``, and ``/events``, ``/trials``, ``/behavior``
        where the recording has them. Not changed.
    settings : PreprocessConfig
        The block ``preprocess`` of the configuration.

    Returns
    -------
    xarray.DataTree
        Root: ``activity (time, <row>)`` in the precision of the source (float32 or float64),
        ``valid`` (or attribute ``all_valid``), ``<row>_ok``, per-row coordinates, ``observed``,
        on ``activity`` the attributes ``units``, ``source_series``, ``raw_samples`` and
        ``min_samples``; attributes of the store, ``pipeline`` (JSON list of steps) and ``issues``
        (JSON) extended. Groups events, trials and behavior as they are. With ``keep_steps``,
        ``/proc/<step>`` holds ``activity`` and ``valid`` after each step that did something.

    Raises
    ------
    ConfigError
        If the modality has no chain, or a configured step is not installed.
    DataError
        If the recording cannot go through a step.
    """
    import xarray as xr

    modality = _modality(tree)
    chain = _chain(modality, settings)
    ds = _start(tree, settings, modality)
    dtypes = {str(name): variable.dtype for name, variable in ds.data_vars.items()}
    block = getattr(settings, modality)
    kept: dict[str, xr.Dataset] = {}
    for name, run in chain:
        before = ds.attrs.get("pipeline")
        ds = run(ds, block)
        if settings.keep_steps and ds.attrs.get("pipeline") != before:
            kept[f"/proc/{name}"] = ds[["activity", "valid"]].copy()
    kept = {path: _own_clock(step, ds) for path, step in kept.items()}
    ds = _finish(ds.copy(), dtypes.get(ds.attrs["source_series"]))
    groups = {
        f"/{name}": tree.children[name].to_dataset(inherit=False)
        for name in GROUPS
        if name in tree.children
    }
    return xr.DataTree.from_dict({"/": ds, **groups, **kept})
