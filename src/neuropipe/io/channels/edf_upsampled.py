"""EDF files of several rates brought to the highest by mne, on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neuropipe.errors import Issue
from neuropipe.io.channels.edf_header import EdfHeader
from neuropipe.io.channels.facts import local_start
from neuropipe.io.channels.mne_header import call_mne
from neuropipe.io.channels.mne_samples import MneSamples
from neuropipe.io.channels.source import ChannelSource
from neuropipe.store.clock import RegularClock

__all__ = ["upsampled"]


def upsampled(header: EdfHeader, issues: Sequence[Issue]) -> ChannelSource:
    """Return all channels at the highest rate, floats.

    Resampling needs a channel as a whole: in blocks it would ring at their edges. The recording
    is therefore held in memory.

    Raises
    ------
    IngestError
        ``BAD_TIME`` for records with gaps, and what mne says of the file.
    """
    import mne

    from neuropipe.io.channels.edf import edf_table

    path = header.path
    read = mne.io.read_raw_bdf if header.itemsize == 3 else mne.io.read_raw_edf
    raw, found = call_mne(read, path, preload=True, verbose="warning")
    picks = header.signals
    table, _, _, inferred = edf_table(header, picks)
    table = replace(table, declared=table.units)
    rates = header.samples[picks] / header.record_s
    lower = int(np.count_nonzero(rates < rates.max()))
    text = f"{lower} of {len(picks)} channels resampled to {rates.max():g} Hz by mne (FFT)"
    start, more = local_start(header.started, path)
    return ChannelSource(
        path=path,
        channels=table,
        samples=MneSamples(raw, path),
        time=RegularClock(0.0, float(raw.info["sfreq"]), len(raw.times)),
        types_stated=False,
        attrs=start,
        source_files=(path,),
        issues=(*issues, *inferred, *found, *more, Issue("MIXED_RATES", str(path), text)),
    )
