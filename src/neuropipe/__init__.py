"""neuropipe: from raw neural recordings to a report that can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from fractions import Fraction

    import pandas as pd
    import xarray as xr

__all__ = [
    "__version__",
    "align",
    "open",
    "open_result",
    "open_study",
    "plot",
    "results",
    "to_pynapple",
]

FIRST_COLUMNS = ("label", "collection", "metric", "value", "low", "high", "unit", "n")
_LAZY = {
    "open_study": "neuropipe.browse:StudyView",
    "plot": "neuropipe.browse:plot",
    "to_pynapple": "neuropipe.export.timeseries:to_pynapple",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("neuropipe")
    if name in _LAZY:
        from importlib import import_module

        module, _, attribute = _LAZY[name].partition(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return what is meant to be used: what a tab offers."""
    return sorted(__all__)


def open(recording: str, *, preprocessed: bool = False, study: Path | str = ".") -> xr.DataTree:
    """Open the store of a recording, arrays loaded when they are used.

    Parameters
    ----------
    recording : str
        Name of a recording of the study, such as ``sub-01_calcium``.
    preprocessed : bool
        The preprocessed store instead of the ingested one.
    study : Path or str
        The study folder.

    Returns
    -------
    xarray.DataTree
        Groups of the store.

    Raises
    ------
    ConfigError
        If the study has no such recording.
    MissingInput
        If the store has not been made.
    """
    from neuropipe.store import layout
    from neuropipe.store.zarr import open_store
    from neuropipe.study import load_study

    row = load_study(study).recording(recording)
    path = layout.preprocessed_store(row) if preprocessed else layout.store_file(row)
    return open_store(Path(study) / path)


def align(
    dt: float | str | Fraction,
    streams: Mapping[str, Any] | Sequence[str],
    *,
    span_s: tuple[float, float] | None = None,
    max_gap_steps: float = 3,
    force: bool = False,
    preprocessed: bool = False,
    study: Path | str = ".",
) -> xr.DataTree:
    """Bring recordings and behaviour of one session to a common grid; nothing is written.

    Parameters
    ----------
    dt : float, str or Fraction
        Width of a cell of the grid, seconds; a text may be a ratio such as ``"1/30"``.
    streams : mapping or sequence of str
        Recordings of the study by name, behaviour as ``<recording>/behavior/<variable>``; or
        name -> store or variable, as `neuropipe.assemble.streams.align` takes them.
    span_s : tuple of float, optional
        First and last moment of the grid, seconds on the session clock; default: all.
    max_gap_steps : float
        A continuous sample whose neighbours lie further apart than so many median steps is NaN.
    force : bool
        Allow fMRI to be interpolated to less than half its repetition time.
    preprocessed : bool
        Preprocessed stores in place of the ingested ones; spikes have none.
    study : Path or str
        The study folder.

    Returns
    -------
    xarray.DataTree
        Root coordinate ``time``, one group per stream with ``valid`` beside its samples.

    Raises
    ------
    DataError
        If the streams are of different sessions, or have no common grid.
    ConfigError, MissingInput
        As `open`.
    """
    from neuropipe.assemble import streams as assemble

    if not hasattr(streams, "items"):
        opened = {}
        for name in streams:
            recording, _, inner = str(name).partition("/")
            spikes = recording.endswith("_spikes")
            tree = open(recording, preprocessed=preprocessed and not spikes, study=study)
            opened[(inner or recording).rpartition("/")[2]] = tree[inner] if inner else tree
        streams = opened
    return assemble.align(dt, streams, span_s=span_s, max_gap_steps=max_gap_steps, force=force)


def open_result(collection: str, label: str, *, study: Path | str = ".") -> xr.Dataset:
    """Open the result of one analysis of one collection.

    Parameters
    ----------
    collection : str
        Recording, session, subject or cohort, such as ``cohort-worm``.
    label : str
        Key under ``analyses`` of the configuration.
    study : Path or str
        The study folder.

    Raises
    ------
    MissingInput
        If the result has not been made.
    """
    from neuropipe.errors import MissingInput
    from neuropipe.store import layout
    from neuropipe.store.provenance import read_dataset

    path = Path(study) / layout.result_file(collection, label)
    if not path.exists():
        have = sorted(f"{one.parent.parent.name}/{one.parent.name}"
                      for one in Path(study).glob(layout.result_file("*", "*")))  # fmt: skip
        there = f"there is {', '.join(have)}" if have else "there is none yet"
        raise MissingInput(f"{path}: no such result; {there}")
    return read_dataset(path)


def results(study: Path | str = ".", **where: str | Sequence[str]) -> pd.DataFrame:
    """Return a table of all metrics of all results of a study, one row per collection and metric.

    Parameters
    ----------
    study : Path or str
        The study folder.
    **where : str or sequence of str
        Columns with the values to keep, such as ``metric="dwell_time"``.

    Returns
    -------
    pandas.DataFrame
        Label, collection, metric and value, then the other columns of
        ``results/<label>/table.tsv``; empty when nothing was run.

    Raises
    ------
    ConfigError
        If there is no such column.
    """
    import pandas as pd

    from neuropipe.errors import ConfigError

    tables = sorted((Path(study) / "results").glob("*/table.tsv"))
    frames = [pd.read_csv(path, sep="\t").assign(label=path.parent.name) for path in tables]
    if not frames:
        return pd.DataFrame()
    whole = pd.concat(frames, ignore_index=True)
    first = [name for name in FIRST_COLUMNS if name in whole]
    whole = whole[[*first, *[name for name in whole if name not in first]]]
    for column, values in where.items():
        if column not in whole:
            raise ConfigError(f"{column}: no such column. One of {', '.join(whole)}.")
        wanted = [values] if isinstance(values, str) else [str(value) for value in values]
        whole = whole[whole[column].astype(str).isin(wanted)]
    return whole.reset_index(drop=True)
