"""Spike recordings to ``counts (unit, time)``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.assemble.cuts import Cut
from neuropipe.assemble.exclusion import Account
from neuropipe.assemble.runs import (
    Run,
    check_scope,
    common_rows,
    cut_run,
    one_modality,
    read_runs,
    row_coords,
    seen_rows,
)
from neuropipe.assemble.trial_settings import BinWidth, TrialsConfig
from neuropipe.assemble.windows import find_windows
from neuropipe.config.models import InputConfig
from neuropipe.errors import ConfigError, issues_to_json

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Input", "binned"]

WHOLE = TrialsConfig()


class Input(InputConfig):
    """Keys of ``input:`` for analyses that get the binned spikes of a recording or a session."""

    bin_ms: BinWidth = Field(
        500.0,
        description="Bins of spikes, milliseconds; a text may be a ratio such as 100/3.",
    )


def _runs_json(runs: Sequence[Run], cuts: Sequence[Cut]) -> str:
    """Return which bins each run has, and where it begins on the session's clock."""
    rows, first = [], 0
    for run, cut in zip(runs, cuts, strict=True):
        recordings = [source.recording for source in run.sources]
        rows.append({"run": run.name, "recordings": recordings, "first_bin": first,
                     "bins": len(cut.time), "start_s": cut.first})  # fmt: skip
        first += len(cut.time)
    return json.dumps(rows, ensure_ascii=False)


def binned(stores: Sequence[xr.DataTree], settings: Input) -> xr.Dataset:
    """Bin the spikes of a recording, or of all spike recordings of a session.

    Recordings of one run lie side by side along `unit`, runs follow each other along `time`.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Ingested spike recordings of one session, in any order.
    settings : Input
        The block ``input:`` of the analysis.

    Returns
    -------
    xarray.Dataset
        ``counts (unit, time)``, 0 where not observed; ``valid (unit, time)``, False there (or
        attribute ``all_valid``). Coordinates ``time``: bin centres, seconds, in uniform steps; on
        the session's clock, which the runs behind the first continue without a pause;
        ``trial (time)``: number of the run, at whose first bin chains restart; ``unit`` (text),
        ``unit_kind``, ``recording`` and ``region`` per unit. Attributes ``bin_width_s``,
        ``modality``, ``runs`` (JSON: where each begins), ``excluded`` and ``issues`` (JSON).

    Raises
    ------
    ConfigError
        If there are other recordings than spikes, several with scope ``recording``, or no unit
        is left.
    DataError
        If runs have different units, or nothing was observed.
    """
    import xarray as xr

    check_scope(stores, settings.scope or "recording")
    modality = one_modality(stores)
    if modality != "spikes":
        raise ConfigError(
            f"input.recordings: counts of spikes are asked for, but the recordings are {modality}; "
            "select spikes with `input.recordings: {modality: spikes}`"
        )
    account = Account()
    runs = read_runs(stores, settings, settings.bin_ms, account, enters=lambda name: True)
    account.check_left(runs)
    names = common_rows(runs, settings.units, account)
    cuts = [
        cut_run(run, find_windows(run.stores, WHOLE, run.span, settings.span_s), names)
        for run in runs
    ]
    cuts, names = seen_rows(runs, cuts, names, account)
    counts = np.concatenate([cut.values[0] for cut in cuts]).T
    valid = np.concatenate([cut.valid[0] for cut in cuts]).T
    trial = np.repeat(np.arange(len(runs)), [len(cut.time) for cut in cuts])
    step = cuts[0].step
    time = cuts[0].first + (np.arange(len(trial)) + 0.5) * step
    # Of one run the very edges of binning: no rounding lies between.
    time[: len(cuts[0].time)] = cuts[0].time
    dims, seconds = ("unit", "time"), {"units": "s"}
    coords: dict[str, Any] = {"time": ("time", time, seconds), "trial": ("time", trial)}
    ds = xr.Dataset(
        {"counts": (dims, np.ascontiguousarray(counts), {"units": "1"})},
        coords | row_coords(runs[0], names),
        {
            "bin_width_s": step,
            "modality": modality,
            "subject": runs[0].sources[0].subject,
            "runs": _runs_json(runs, cuts),
            "excluded": json.dumps(account.excluded, ensure_ascii=False),
            "issues": issues_to_json(account.issues),
        },
    )
    if valid.all():
        return ds.assign_attrs(all_valid=1)
    return ds.assign(valid=(dims, np.ascontiguousarray(valid)))
