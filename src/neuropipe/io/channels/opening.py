"""From a source to the handle that ingest reads: sidecars, stated units, checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.channels.handle import ChannelHandle
from neuropipe.io.channels.source import ChannelSource, restate_units
from neuropipe.io.channels.units import DATA_TYPES, si_unit

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["LAYERS", "open_channels"]

# ``module:function`` of what lies beside a recording and knows better than its header. Each is
# called as ``layer(source, modality, override)`` and returns the source, changed
# (``dataclasses.replace``, `restate_units`) or as it was, when there are no such files.
LAYERS: tuple[str, ...] = ("neuropipe.io.bids.layer:apply",)


def _layer(target: str) -> Callable[[ChannelSource, str, IngestOverride], ChannelSource]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def open_channels(
    source: ChannelSource, modality: str | None, override: IngestOverride
) -> ChannelHandle:
    """Return the handle of a source, after its sidecars and the user had their say.

    Parameters
    ----------
    source : ChannelSource
        What the format module found.
    modality : str or None
        ``eeg``, ``meg`` or ``ieeg``, as the recordings table says; None: by channel types.
    override : IngestOverride
        ``units`` states the unit of the stored numbers.

    Raises
    ------
    IngestError
        ``EMPTY``, ``MISSING_SIDECAR`` for iEEG without channel types, ``UNITS``.
    """
    _check_not_empty(source)
    modality = modality or _kind(source)
    for target in LAYERS:
        source = _layer(target)(source, modality, override)
    if modality == "ieeg" and not source.types_stated:
        raise IngestError(
            "MISSING_SIDECAR",
            source.path,
            "nothing states the channel types of this iEEG recording: its header knows no "
            "seeg or ecog, and would call every channel eeg",
            "add *_channels.tsv (columns name, type, units) beside it; NWB cannot state them: "
            "ch_type under ingest.readers.nwb_electrical",
        )
    if override.units is not None:
        source = _state_units(source, override.units)
    return ChannelHandle(source, modality)


def _check_not_empty(source: ChannelSource) -> None:
    for what, number in zip(("samples", "channels"), source.samples.shape, strict=True):
        if not number:
            text = f"there are no {what}, at least 1 expected"
            raise IngestError("EMPTY", source.path, text, "is this the right file?")


def _kind(source: ChannelSource) -> str:
    types = set(source.channels.ch_type)
    if types & {"mag", "grad"}:
        return "meg"
    return "ieeg" if types & {"seeg", "ecog"} else "eeg"


def _state_units(source: ChannelSource, word: str) -> ChannelSource:
    """Apply the unit of the user to every channel of that kind of quantity."""
    stated = si_unit(word)
    if stated is None:
        text = f"`units: {word}` is no unit of a potential or a field"
        raise IngestError("UNITS", source.path, text, "such as V, mV, uV, T, fT, T/m")
    table = source.channels
    here = [
        name
        for name, unit, kind in zip(table.name, table.units, table.ch_type, strict=True)
        if unit == stated[0] or (not unit and kind in DATA_TYPES)
    ]
    if not here:
        found = ", ".join(sorted({unit or "unknown" for unit in table.units}))
        text = f"`units: {word}`, but no channel is in {stated[0]}; found {found}"
        raise IngestError("UNITS", source.path, text, "remove the key `units`")
    source = restate_units(source, dict.fromkeys(here, word))
    return replace(source, units_given=bool(np.size(here)))
