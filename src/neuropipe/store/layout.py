"""Where every file of a study lies: the only place that composes paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuropipe.config.recordings import Recording

__all__ = [
    "across_folder",
    "connectome_marker",
    "connectome_store",
    "figures_folder",
    "input_file",
    "log_file",
    "part_file",
    "preprocessed_marker",
    "preprocessed_store",
    "report_marker",
    "result_file",
    "result_folder",
    "store_file",
    "store_folder",
    "table_file",
    "truth_file",
]

INDEX = "stores/dataset.json"
REPORT = "report/index.html"


def store_folder(recording: Recording) -> str:
    """Return ``sub-<l>[/ses-<l>]/<modality>``."""
    session = f"/ses-{recording.session}" if recording.session else ""
    return f"sub-{recording.subject}{session}/{recording.modality}"


def store_file(recording: Recording, suffix: str = ".zarr") -> str:
    """Return the path of the ingested store (``.zarr``, ``.nwb`` or ``.report.json``)."""
    return f"stores/{store_folder(recording)}/{recording.name}{suffix}"


def report_marker(recording: Recording) -> str:
    """Return the report of an ingest, its completion marker."""
    return store_file(recording, ".report.json")


def connectome_store(name: str) -> str:
    """Return the store of a connectome."""
    return f"stores/connectome/{name}.zarr"


def connectome_marker(name: str) -> str:
    """Return the report of a connectome's ingest, its completion marker."""
    return f"stores/connectome/{name}.report.json"


def preprocessed_store(recording: Recording) -> str:
    """Return the preprocessed store."""
    return f"preprocessed/{recording.name}.zarr"


def preprocessed_marker(recording: Recording) -> str:
    """Return the issues and provenance of a preprocessed store, its completion marker."""
    return f"preprocessed/{recording.name}.json"


def figures_folder(recording: Recording) -> str:
    """Return the folder of the data-quality figures of a recording."""
    return f"preprocessed/{recording.name}"


def input_file(collection: str, label: str) -> str:
    """Return the input dataset of an analysis."""
    return f"inputs/{collection}/{label}.nc"


def part_file(
    collection: str,
    label: str,
    stage: str,
    key: Mapping[str, int | str] | None = None,
    suffix: str = ".nc",
) -> str:
    """Return the part that one job of a stage writes."""
    name = "_".join(f"{k}-{v}" for k, v in key.items()) if key else "all"
    return f"work/{collection}/{label}/{stage}/{name}{suffix}"


def result_folder(collection: str, label: str) -> str:
    """Return the folder of one analysis of one collection."""
    return f"results/{collection}/{label}"


def result_file(collection: str, label: str, name: str = "result.nc") -> str:
    """Return a file of one analysis of one collection."""
    return f"{result_folder(collection, label)}/{name}"


def table_file(label: str) -> str:
    """Return the table of metrics of one label over all collections."""
    return f"results/{label}/table.tsv"


def across_folder(session: str) -> str:
    """Return the folder of the figure of all results of a session, made with the page."""
    return f"report/across/{session}"


def truth_file(collection: str, label: str) -> str:
    """Return what was planted in simulated recordings, if that is known: made by no job."""
    return f"truth/{collection}/{label}.nc"


def log_file(rule: str, *wildcards: str) -> str:
    """Return the log of one job: ``logs/<rule>/<wildcards>.log``."""
    return str(PurePosixPath("logs") / rule / ("_".join(wildcards) + ".log"))
