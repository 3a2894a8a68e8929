"""neuropipe: from raw neural recordings to a report that can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["__version__", "open", "open_result", "results"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("neuropipe")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    from neuropipe.store import layout
    from neuropipe.store.provenance import read_dataset

    return read_dataset(Path(study) / layout.result_file(collection, label))


def results(study: Path | str = ".") -> pd.DataFrame:
    """Return a table of all metrics of all results of a study, one row per collection and metric.

    Parameters
    ----------
    study : Path or str
        The study folder.

    Returns
    -------
    pandas.DataFrame
        Columns of ``results/<label>/table.tsv`` after the column ``label``.
    """
    import pandas as pd

    tables = sorted((Path(study) / "results").glob("*/table.tsv"))
    frames = [pd.read_csv(path, sep="\t").assign(label=path.parent.name) for path in tables]
    if not frames:
        return pd.DataFrame()
    whole = pd.concat(frames, ignore_index=True)
    return whole[["label", *[column for column in whole if column != "label"]]]
