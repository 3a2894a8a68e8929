"""Patterns of one subject from results of other analyses, around the events of recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.assemble.condition_settings import Input
from neuropipe.assemble.epoch_patterns import fold_patterns, summarise_trials
from neuropipe.assemble.exclusion import Account
from neuropipe.assemble.patterns import RegionPatterns, SubjectPatterns
from neuropipe.assemble.result_series import Result, Segment, cut, segments_of, step_of
from neuropipe.assemble.trial_settings import TrialsConfig
from neuropipe.assemble.windows import find_windows, labels_found
from neuropipe.errors import DataError
from neuropipe.seeds import stage_generator

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LATENTS", "result_patterns"]

LATENTS = "latents"  # modality of patterns whose rows are those of results
ANY_TIME = (-np.inf, np.inf)


@dataclass(frozen=True)
class _Trials:
    """Trials ``(trial, time, row)`` of one result, their labels and times after the event."""

    values: np.ndarray
    labels: np.ndarray
    time: np.ndarray
    step: float


def _of_store(segments: Sequence[Segment], tree: xr.DataTree) -> list[Segment]:
    """Return the segments of the run and session of a recording."""
    attrs = tree.attrs
    name = str(attrs.get("recording", ""))
    run, session = str(attrs.get("run", "")), str(attrs.get("session_id", ""))
    return [
        s
        for s in segments
        if (not s.recordings or name in s.recordings)
        and s.run in (None, run)
        and s.session in (None, session)
    ]


def _trials(
    stores: Sequence[xr.DataTree], one: Result, settings: Input, account: Account
) -> _Trials | None:
    """Return the windows around all events that lie within the result."""
    config = TrialsConfig(
        by="events", labels=list(settings.labels), column=settings.column,
        window_s=settings.window_s,
    )  # fmt: skip
    segments = segments_of(one)
    step, (start, stop) = step_of(segments), settings.window_s
    count = max(1, round((stop - start) / step)) if step > 0 else 1
    values, labels = [], []
    for tree in stores:
        windows = find_windows([tree], config, ANY_TIME, settings.span_s)
        own = _of_store(segments, tree)
        lost = []
        for onset, label in zip(windows.onset.tolist(), windows.label.tolist(), strict=True):
            found = cut(own, onset, start, count, step)
            if found is None:
                lost.append(f"{label} at {onset:g} s")
                continue
            values.append(found)
            labels.append(label)
        if lost:
            account.excluded.append(
                {"kind": "trials", "recording": str(tree.attrs.get("recording", "")),
                 "subject": str(tree.attrs.get("subject_id", "")),
                 "reason": f"the result of {one.label} does not hold the window",
                 "count": len(lost), "names": lost[:20]}
            )  # fmt: skip
    if not values:
        return None
    time = start + (np.arange(count) + 0.5) * step
    return _Trials(np.stack(values), np.array(labels, dtype=object), time, step)


def _region(
    trials: _Trials, one: Result, settings: Input, rng: np.random.Generator
) -> tuple[RegionPatterns, np.ndarray]:
    values, _ = summarise_trials(trials.values, trials.time, trials.step, LATENTS, settings)
    names = [f"{one.label} {k + 1}" for k in range(values.shape[2])]
    places = np.full((len(names), 3), np.nan)
    return fold_patterns(
        values, trials.labels, trials.time, settings, LATENTS, rng, names=names, places=places
    )


def result_patterns(
    stores: Sequence[xr.DataTree],
    results: Sequence[Result],
    settings: Input,
    account: Account,
    seed: int,
) -> SubjectPatterns | None:
    """Return the mean responses of latents or states of one subject, a region per result.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Recordings of one subject, for their events.
    results : sequence of Result
        Of the recordings of this subject, several where analyses ran per session.
    settings : Input
    account : Account
        Gets what is left out, and issues.
    seed : int
        Of the folds of trials.

    Returns
    -------
    SubjectPatterns or None
        None if no result holds a window around an event.

    Raises
    ------
    DataError
        If results of one analysis have other rows, or times of several differ.
    """
    regions: dict[str, RegionPatterns] = {}
    counts = np.zeros((settings.folds, len(settings.labels)), dtype=np.int64)
    time, subject = None, str(stores[0].attrs.get("subject_id", ""))
    for label in dict.fromkeys(one.label for one in results):
        own = [one for one in results if one.label == label]
        if len(own) > 1:
            raise DataError(
                f"sub-{subject}: {len(own)} results of {label}, whose latents or states are not "
                "the same ones; select one session or recording with `input.recordings`"
            )
        trials = _trials(stores, own[0], settings, account)
        if trials is None:
            continue
        if time is not None and settings.keep_time and not _same(time, trials.time):
            raise DataError(
                f"input.result: {', '.join(regions)} and {label} have other times; give them one "
                "step, or write `keep_time: false`"
            )
        time = trials.time
        rng = stage_generator(seed, f"folds {subject}")  # the same folds in every result
        regions[label], found = _region(trials, own[0], settings, rng)
        counts = np.maximum(counts, found)
    if not regions or time is None:
        config = TrialsConfig(by="events", labels=list(settings.labels), column=settings.column,
                              window_s=settings.window_s)  # fmt: skip
        remedy = f"correct `input.labels` (labels found: {labels_found(stores, config)})"
        for tree in stores:
            account.leave_out(tree, "no event with a result around it", remedy)
        return None
    return SubjectPatterns(
        subject=subject,
        runs=tuple(str(k + 1) for k in range(settings.folds)),
        regions=regions,
        counts=counts,
        recordings=tuple(str(tree.attrs.get("recording", "")) for tree in stores),
        units="1",
        row="latent",
        time=time if settings.keep_time else None,
    )


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, atol=1e-6))
