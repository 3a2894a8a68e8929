"""Ingest of one source, and the check that one is refused, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import IngestError, UserError
from neuropipe.io.ingest import ingest_recording
from neuropipe.store.schema import check_tree
from neuropipe.store.zarr import open_store

START = "2024-01-01T09:00:00+00:00"
THREE_NEURONS = xr.Dataset(
    {"activity": (("subject", "neuron", "time"), np.ones((1, 3, 40)))},
    {"subject": ["01"], "neuron": ["a", "b", "c"], "time": np.arange(40) / 4},
)


def ingest_source(
    source: Path,
    out: Path,
    modality: str,
    *,
    override: dict[str, Any] | None = None,
    row: dict[str, Any] | None = None,
    others: tuple[Path, ...] = (),
    **settings: Any,
) -> tuple[dict[str, Any], xr.DataTree]:
    """Ingest a source as `sub-01_<modality>`; return its report and its tree of the schema.

    `settings` are those of all recordings, `override` those of this one, `row` further columns of
    the table of recordings.
    """
    name = f"sub-01_{modality}"
    recording = Recording(name=name, subject="01", modality=modality, path="x", **(row or {}))
    if override:
        settings["overrides"] = {name: override}
    config = IngestConfig.model_validate(settings)
    store = out / f"{name}.zarr"
    report = ingest_recording(recording, source, config, store, others=others)
    tree = open_store(store)
    assert check_tree(tree) == []
    return report, tree


def refusal_check(ingest: Callable[..., object]) -> Callable[..., IngestError]:
    """Return a check of one code and message for `ingest(source, out, ...)`."""

    def check_refusal(
        code: str, fragment: str, source: Path, out: Path, *settings: Any, **arguments: Any
    ) -> IngestError:
        """Ingest, check code and message, and that nothing lies under any name."""
        with pytest.raises(IngestError, match=fragment) as caught:
            ingest(source, out, *settings, **arguments)
        assert isinstance(caught.value, UserError)
        assert caught.value.code == code, caught.value
        assert "partial" not in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert not list(out.glob("*")) if out.exists() else True
        return caught.value

    return check_refusal


def codes(report: dict[str, Any], severity: str | None = None) -> list[str]:
    """Return the codes of the issues, of one severity where it is named."""
    return [i["code"] for i in report["issues"] if severity in (None, i["severity"])]
