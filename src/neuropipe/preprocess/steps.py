"""What a step is, how it is recorded, and where steps of installed packages take their place."""

from __future__ import annotations

import difflib
import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING, Any

from neuropipe.errors import ConfigError, Issue, issues_from_json, issues_to_json

if TYPE_CHECKING:
    import xarray as xr
    from pydantic import BaseModel

__all__ = [
    "Step",
    "add_issue",
    "installed_steps",
    "place_steps",
    "record",
    "recorded_step",
    "row_dim",
    "with_activity",
]

GROUP = "neuropipe.steps"
LIBRARIES = ("neuropipe", "numpy", "scipy", "pandas", "xarray")


@dataclass(frozen=True)
class Step:
    """One named step of a preprocessing chain.

    Attributes
    ----------
    name : str
        Key in the configuration and in the attribute ``pipeline``.
    modalities : tuple of str
        Modalities that the step applies to.
    after : str
        Name of the step that it follows.
    settings : type
        Pydantic model of its settings.
    run : callable
        ``run(ds, settings) -> ds`` on the dataset of ``activity (time, <row>)`` and ``valid``;
        does not change its argument.
    """

    name: str
    modalities: tuple[str, ...]
    after: str
    settings: type[BaseModel]
    run: Callable[[xr.Dataset, Any], xr.Dataset]


def row_dim(ds: xr.Dataset) -> str:
    """Return the row dim of ``activity``: ``roi``, ``channel``, ``parcel`` and so on."""
    return next(str(dim) for dim in ds["activity"].dims if dim != "time")


def with_activity(ds: xr.Dataset, values: Any, valid: Any, units: str | None = None) -> xr.Dataset:
    """Return `ds` with new values and mask; samples that are not finite are never valid.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)``.
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``.
    valid : numpy.ndarray
        Bool, shape ``(n_times, n_rows)``.
    units : str, optional
        New unit; absent keeps the old one.
    """
    import numpy as np

    old = ds["activity"]
    attrs = dict(old.attrs) if units is None else {**old.attrs, "units": units}
    mask = np.asarray(valid, dtype=bool) & np.isfinite(values)
    return ds.assign(activity=(old.dims, values, attrs), valid=(old.dims, mask))


@functools.cache
def _versions(extra: tuple[str, ...] = ()) -> dict[str, str]:
    found = {}
    for name in (*LIBRARIES, *extra):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _history(attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the step list so far; what ingest wrote becomes its first entry."""
    held = json.loads(attrs.get("pipeline") or "[]")
    return held if isinstance(held, list) else [{"step": "ingest", **held}]


def record(
    ds: xr.Dataset, name: str, parameters: Mapping[str, Any], packages: Sequence[str] = ()
) -> xr.Dataset:
    """Append one step with its parameters and library versions to the attribute ``pipeline``."""
    entry = {
        "step": name,
        "parameters": dict(parameters),
        "versions": dict(_versions(tuple(packages))),
    }
    text = json.dumps([*_history(ds.attrs), entry], ensure_ascii=False)
    return ds.assign_attrs(pipeline=text)


def recorded_step(
    name: str, packages: Sequence[str] = ()
) -> Callable[[Callable[..., xr.Dataset]], Callable[..., xr.Dataset]]:
    """Make a function ``(ds, **parameters) -> ds`` record itself in ``pipeline``.

    The parameters are recorded with their defaults, so that a later change of a default cannot
    change what an old store says; `packages` are libraries whose versions matter beside the usual.
    """

    def decorate(function: Callable[..., xr.Dataset]) -> Callable[..., xr.Dataset]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def run(ds: xr.Dataset, **parameters: Any) -> xr.Dataset:
            bound = signature.bind(ds, **parameters)
            bound.apply_defaults()
            given = {key: value for key, value in bound.arguments.items() if value is not ds}
            return record(function(ds, **parameters), name, given, packages)

        return run

    return decorate


def add_issue(
    ds: xr.Dataset, code: str, message: str, hint: str = "", *, rows: Iterable[Any] = ()
) -> xr.Dataset:
    """Append a warning to the attribute ``issues``; `rows` are named in its path and message."""
    named = [str(row) for row in rows]
    path = str(ds.attrs.get("recording", ""))
    if named:
        shown = ", ".join(named[:10]) + (f" and {len(named) - 10} more" if len(named) > 10 else "")
        path = f"{path}/{row_dim(ds)}"
        message = f"{message}: {shown}"
    issues = [*issues_from_json(ds.attrs.get("issues", "")), Issue(code, path, message, hint)]
    return ds.assign_attrs(issues=issues_to_json(issues))


def installed_steps() -> dict[str, tuple[Step, str]]:
    """Return the steps of installed packages: name -> (step, distribution).

    Raises
    ------
    ConfigError
        If an entry point holds no `Step`, or two packages offer one name.
    """
    found: dict[str, tuple[Step, str]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        step = entry.load()
        if not isinstance(step, Step):
            raise ConfigError(f"entry point {entry.name!r} of {GROUP}: {entry.value} is no Step")
        if step.name in found:
            raise ConfigError(f"two installed packages offer the step {step.name!r}; remove one")
        found[step.name] = (step, entry.dist.name if entry.dist else "")
    return found


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigError` for a configured step that is not installed, with the closest name."""
    known = list(known)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Installed: {known or 'none'}."
            raise ConfigError(f"preprocess.steps.{name}: no installed package offers it. {hint}")


def place_steps(chain: Sequence[str], extra: Mapping[str, str]) -> list[str]:
    """Put extra steps behind the steps that they follow.

    Parameters
    ----------
    chain : sequence of str
        Built-in steps, in order.
    extra : mapping
        Name of an extra step -> name of the step that it follows.

    Returns
    -------
    list of str
        All names; steps that follow the same one stand in name order.

    Raises
    ------
    ConfigError
        If an extra step follows a step that does not exist, or itself in a circle.
    """
    order = list(chain)
    waiting = dict(sorted(extra.items(), reverse=True))
    while waiting:
        ready = [name for name, after in waiting.items() if after in order]
        if not ready:
            name, after = sorted(waiting.items())[0]
            raise ConfigError(
                f"preprocess.steps.{name}: it follows {after!r}, which is no step of this chain "
                f"({', '.join(order)}); correct `after` in the package that offers it"
            )
        for name in ready:
            order.insert(order.index(waiting.pop(name)) + 1, name)
    return order
