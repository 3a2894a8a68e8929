"""A complete reader of another package: calcium traces in a JSON text with the suffix .toy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import IngestOverride, StrictModel
from neuropipe.io.registry import Reader, ReaderMatch

__all__ = ["READER", "ToySettings"]


class ToySettings(StrictModel):
    """Keys of the block ``ingest.readers.toy``."""

    scale: float = Field(1.0, description="Traces are multiplied by it.")


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a text that begins with a brace."""
    with path.open("rb") as file:
        return ReaderMatch("toy", "calcium", path) if file.read(1) == b"{" else None


def open_recording(path: Path, settings: ToySettings, override: IngestOverride) -> Any:
    """Open ``{"rate_hz": 4.0, "names": [...], "traces": [[...], ...]}``, rows first."""
    import xarray as xr

    from neuropipe.io.calcium.handle import ArraySource, CalciumHandle, object_array

    content = json.loads(path.read_text(encoding="utf-8"))
    traces = settings.scale * np.array(content["traces"], dtype=np.float64)
    raw = xr.Dataset(
        coords={
            "time": ("time", np.arange(traces.shape[1]) / content["rate_hz"], {"units": "s"}),
            "roi": ("roi", np.arange(traces.shape[0])),
            "label_source": ("roi", object_array(content["names"])),
        }
    )
    return CalciumHandle(raw, [ArraySource("dff", traces, rows_first=True)], {}, [str(path)], [])


READER = Reader(
    name="toy",
    modalities=("calcium",),
    extensions=(".toy",),
    settings=ToySettings,
    probe="toy_reader:probe",
    open="toy_reader:open_recording",
)
