"""The duration that a JSON sidecar states, held against what the data file holds."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from neuropipe.errors import IngestError, Issue
from neuropipe.io.bids.tables import read_json
from neuropipe.io.channels.source import ChannelSource
from neuropipe.store.clock import RegularClock

__all__ = ["duration_issues", "stated_duration"]

KEY, KIND = "RecordingDuration", "RecordingType"
HINT = f"copy the data again, correct {KEY}, or keep the readable part with `allow_truncated: true`"


def stated_duration(content: dict[str, Any]) -> tuple[float, float] | None:
    """Return the duration that a sidecar states, and one unit of its last digit, in seconds.

    Returns
    -------
    tuple of float or None
        None: it states none, or the recording is not continuous.

    Examples
    --------
    >>> stated_duration({"RecordingDuration": 376.4})
    (376.4, 0.1)
    >>> stated_duration({"RecordingDuration": 3600})
    (3600.0, 1.0)
    """
    value = content.get(KEY)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        return None
    if str(content.get(KIND, "continuous")).lower() != "continuous":
        return None
    digits = Decimal(repr(value)).normalize().as_tuple().exponent
    return float(value), 10.0 ** min(int(digits), 0)


def duration_issues(source: ChannelSource, files: list[Path], allow_truncated: bool) -> list[Issue]:
    """Compare the samples of a recording without gaps with the duration of its own sidecar.

    Writers round, and some state the time of the last sample: a unit of the last digit and one
    sample are no difference. Where no header states a length, nothing but the sidecar tells that
    a file was cut between two samples.

    Parameters
    ----------
    source : ChannelSource
        Of it samples, time and `length_stated`.
    files : list of Path
        JSON sidecars, general ones first. Those that hold for several recordings state no
        duration of one.
    allow_truncated : bool
        Keep the readable part.

    Raises
    ------
    IngestError
        ``TRUNCATED``.
    """
    own = files[-1] if files and files[-1].stem == source.path.stem else None
    stated = stated_duration(read_json(own)) if own is not None else None
    if stated is None or not isinstance(source.time, RegularClock):
        return []
    seconds, digit = stated
    held, step = source.time.count / source.time.rate, 1.0 / source.time.rate
    text = f"{source.time.count} samples make {held:g} s, {KEY} in {own} says {seconds:g} s"
    if held > seconds + digit + 1.5 * step:
        return [Issue("DURATION_DIFFERS", str(source.path), text, "correct the sidecar", "info")]
    if held >= seconds - digit - 1.5 * step:
        return []
    if source.length_stated:
        hint = "was the data file or the sidecar changed?"
        return [Issue("DURATION_DIFFERS", str(source.path), text, hint)]
    data = str(source.source_files[1] if len(source.source_files) > 1 else source.path)
    # Of channels one after the other the last ones are lost, and all lie elsewhere.
    if not allow_truncated or not getattr(source.samples, "multiplexed", True):
        raise IngestError("TRUNCATED", data, text, HINT)
    return [Issue("TRUNCATED", data, f"{text}; kept the readable part", "copy the file again")]
