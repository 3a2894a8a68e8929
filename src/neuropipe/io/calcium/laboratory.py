"""What files of a laboratory cannot say themselves: kind, units and names of their traces."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import Issue
from neuropipe.io.calcium.names import NamesColumns, TraceNames, read_names
from neuropipe.io.checks import inside

__all__ = ["TIME_UNITS", "LaboratorySettings", "side_names", "stated_kind"]

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


class LaboratorySettings(StrictModel):
    """Keys that all formats without meaning of their own share."""

    kind: Literal["fluorescence", "dff", "deconvolved"] | None = Field(
        None, description="What the traces are; null: taken as fluorescence, with an issue."
    )
    unit: str | None = Field(None, description="Unit of the traces; null: that of the kind.")
    time_unit: Literal["s", "ms", "us"] = Field("s", description="Unit of all times.")
    names_table: str | None = Field(
        None,
        description="CSV or JSON of names, relative to the folder of the data file; null: the "
        "names that the file itself holds.",
    )
    index_base: Literal[0, 1] | None = Field(
        None, description="Number of the first trace in the names table."
    )
    names_columns: NamesColumns = Field(
        default_factory=NamesColumns, description="Columns of the names table."
    )


def stated_kind(settings: LaboratorySettings, path: Path, issues: list[Issue]) -> str:
    """Return what the traces are; where nobody says so, fluorescence and an issue."""
    if settings.kind is not None:
        return settings.kind
    message = "the settings do not say what the traces are; taken as raw fluorescence"
    hint = "set `kind: fluorescence` or `kind: dff`"
    issues.append(Issue("KIND_ASSUMED", str(path), message, hint))
    return "fluorescence"


def side_names(
    settings: LaboratorySettings, path: Path, n_traces: int, files: list[str]
) -> TraceNames | None:
    """Return the names of the table beside the data, None without one; note it in `files`."""
    if settings.names_table is None:
        return None
    table = inside(Path(settings.names_table), path.parent, path)
    files.append(str(table))
    base, columns = settings.index_base, settings.names_columns
    return read_names(table, n_traces, index_base=base, columns=columns)
