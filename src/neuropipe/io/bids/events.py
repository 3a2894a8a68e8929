"""events.tsv: onsets in seconds from the first sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.arrays import object_array
from neuropipe.io.bids.tables import Table, free_column, free_name, read_table
from neuropipe.io.delimited import is_number

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["read_events"]

# The usual column of labels first.
LABELS = ("trial_type", "event_type", "stim_type", "condition", "value")
KNOWN = ("onset", "duration")
NO_CODE = -1
MAX_LINES = 20


def read_events(path: Path) -> tuple[xr.Dataset, list[Issue]]:
    """Return the events of a BIDS table, in the order of their onsets.

    Parameters
    ----------
    path : Path
        ``*_events.tsv``.

    Returns
    -------
    tuple of xarray.Dataset and list of Issue
        Dim ``event``: ``onset`` s (0 = first sample), ``duration`` s (NaN unknown), ``label``,
        ``code`` (column ``value`` where it is a whole number, else -1), ``source``, and every
        other column as ``x_<name>``.

    Raises
    ------
    IngestError
        ``ENCODING``, ``NOT_THIS_FORMAT``, ``NOT_A_NUMBER`` or ``BAD_TIME``.
    """
    import xarray as xr

    table = read_table(path, KNOWN)
    issues: list[Issue] = []
    if not len(table):
        text = "a header without events"
        issues.append(Issue("EMPTY", str(path), text, "copy it again, if it had some", "info"))
    onset, duration = table.numbers("onset"), table.numbers("duration")
    for name, values in (("onset", onset), ("duration", duration)):
        if np.isinf(values).any():
            row = int(np.flatnonzero(np.isinf(values))[0])
            text = f"line {row + 2}: {name} {values[row]} s, expected a number or n/a"
            raise IngestError("BAD_TIME", path, text, "correct the table")
    keep = np.flatnonzero(np.isfinite(onset))
    if len(keep) < len(onset):
        lines = [str(row + 2) for row in np.flatnonzero(np.isnan(onset))]
        shown = ", ".join([*lines[:MAX_LINES], *(["..."] if len(lines) > MAX_LINES else [])])
        text = f"{len(lines)} of {len(onset)} events have no onset (lines {shown}); left out"
        issues.append(Issue("BAD_TIME", str(path), text, "correct the table"))
    if (duration < 0).any():
        row = int(np.flatnonzero(duration < 0)[0])
        text = f"line {row + 2}: duration {duration[row]} s, expected 0 or more, or n/a"
        raise IngestError("BAD_TIME", path, text, "correct the table")
    keep = keep[np.argsort(onset[keep], kind="stable")]
    named = next((name for name in LABELS if any(table.texts(name))), "")
    columns: dict[str, Any] = {
        "onset": onset,
        "duration": duration,
        "label": object_array(table.texts(named)),
        "code": _codes(table),
        "source": object_array([path.name] * len(table)),
    }
    for name in table.columns:
        if name not in KNOWN and not name == named == LABELS[0]:
            columns[free_name(name)] = free_column(table, name)
    return xr.Dataset({name: ("event", values[keep]) for name, values in columns.items()}), issues


def _codes(table: Table) -> np.ndarray:
    found = np.full(len(table), NO_CODE, dtype=np.int64)
    for row, text in enumerate(table.texts("value")):
        if is_number(text) and float(text).is_integer() and abs(float(text)) < 2**53:
            found[row] = int(float(text))
    return found
