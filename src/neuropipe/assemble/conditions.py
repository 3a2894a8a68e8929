"""Stores to ``patterns (subject, region, run, condition, channel[, time])``."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.assemble.condition_settings import GlmConfig, Input
from neuropipe.assemble.epoch_patterns import epoch_patterns
from neuropipe.assemble.exclusion import Account
from neuropipe.assemble.fmri_patterns import REGIONS, fmri_patterns, run_names
from neuropipe.assemble.patterns import SubjectPatterns
from neuropipe.assemble.result_patterns import LATENTS, result_patterns
from neuropipe.assemble.result_series import Result
from neuropipe.assemble.runs import one_modality
from neuropipe.assemble.trial_settings import TrialsConfig
from neuropipe.assemble.windows import labels_found
from neuropipe.config.models import FmriPreprocess
from neuropipe.errors import ConfigError, DataError, Issue, issues_to_json
from neuropipe.seeds import stage_generator

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["GlmConfig", "Input", "conditions"]

CELL = ("subject", "region")
SAME_TIME = 1e-4


def _by_subject(stores: Sequence[xr.DataTree], scope: str) -> dict[str, list[xr.DataTree]]:
    found: dict[str, list[xr.DataTree]] = defaultdict(list)
    for tree in sorted(stores, key=lambda tree: str(tree.attrs.get("recording", ""))):
        found[str(tree.attrs.get("subject_id", ""))].append(tree)
    if scope == "subject" and len(found) > 1:
        raise ConfigError(
            f"input.scope: `subject` takes one subject, found {', '.join(sorted(found))}; write "
            "`scope: cohort`"
        )
    return dict(sorted(found.items()))


def _check(settings: Input, modality: str) -> None:
    """Raise `ConfigError` for keys that do not fit the modality."""
    if not settings.labels:
        raise ConfigError("input.labels: names no condition; write `labels: [label, ...]`")
    volumes = modality == "fmri" and not settings.results
    wrong = {
        "span_s": volumes and settings.span_s is not None,
        "keep_time": volumes and settings.keep_time,
        "regions": not volumes and settings.regions is not None,
    }
    for key in (key for key, is_wrong in wrong.items() if is_wrong):
        raise ConfigError(f"input.{key}: patterns of {modality} do not take it; leave it out")


def _subjects(
    stores: Sequence[xr.DataTree], settings: Input, fmri: FmriPreprocess | None, seed: int,
    account: Account, results: Sequence[Result],
) -> list[SubjectPatterns]:  # fmt: skip
    groups = _by_subject(stores, settings.scope or "cohort")
    if settings.results:
        found = [
            result_patterns(
                trees, [one for one in results if one.subject == subject], settings, account, seed,
            )
            for subject, trees in groups.items()
        ]  # fmt: skip
        return [one for one in found if one is not None]
    if one_modality(stores) != "fmri":
        found = [
            # By the name of the subject, so that another one changes no fold of this one.
            epoch_patterns(trees, settings, account, stage_generator(seed, f"folds {subject}"))
            for subject, trees in groups.items()
        ]
        return [one for one in found if one is not None]
    from neuropipe.preprocess.fmri_parcels import load_atlas_image

    atlas = None if settings.regions is None else load_atlas_image(settings.regions, key=REGIONS)
    ordered = [tree for trees in groups.values() for tree in trees]
    names = dict(zip(map(id, ordered), run_names(ordered), strict=True))
    found = [
        fmri_patterns(
            trees, [names[id(tree)] for tree in trees], settings, fmri or FmriPreprocess(), atlas,
            account,
        )
        for trees in groups.values()
    ]  # fmt: skip
    return [one for one in found if one is not None]


def _issues(
    subjects: Sequence[SubjectPatterns], settings: Input, stores: Sequence[xr.DataTree]
) -> list[Issue]:
    """Return issues of conditions that a subject lacks; raise if all do."""
    issues = []
    for k, label in enumerate(settings.labels):
        lacking = [one.subject for one in subjects if not one.counts[:, k].any()]
        if len(lacking) == len(subjects):
            found = _labels_found(stores, settings)
            raise DataError(
                f"input.labels: no recording has an event labelled {label!r} that can be used; "
                f"correct `labels`, or leave it out (labels found: {found})"
            )
        if lacking:
            text = f"no event labelled {label!r} in {', '.join(lacking)}"
            issues.append(Issue("CONDITION_MISSING", "input.labels", text))
    return issues


def _labels_found(stores: Sequence[xr.DataTree], settings: Input) -> str:
    events = TrialsConfig(
        by="events", labels=settings.labels, column=settings.column, window_s=settings.window_s
    )
    return labels_found(stores, events)


def _natural(text: str) -> tuple[int, str]:
    return len(text), text


class _Layout:
    """Sizes and orders that all subjects share.

    Parameters
    ----------
    subjects : sequence of SubjectPatterns
    settings : Input
    """

    def __init__(self, subjects: Sequence[SubjectPatterns], settings: Input) -> None:
        self.subjects = subjects
        self.runs = sorted({run for one in subjects for run in one.runs}, key=_natural)
        self.regions = list(dict.fromkeys(name for one in subjects for name in one.regions))
        self.conditions = list(settings.labels)
        self.cells = [
            (s, self.regions.index(name), one, region)
            for s, one in enumerate(subjects)
            for name, region in one.regions.items()
        ]
        self.n_channels = max(len(region.names) for *_, region in self.cells)
        self.n_samples = max(len(x) for *_, region in self.cells for x in region.residuals)
        self.size = (len(subjects), len(self.regions))
        self.time = self._time()

    def _time(self) -> np.ndarray | None:
        first = self.subjects[0].time
        for one in self.subjects[1:]:
            if first is None or one.time is None:
                continue
            if len(one.time) != len(first) or not np.allclose(one.time, first, atol=SAME_TIME):
                raise DataError(
                    f"{self.subjects[0].recordings[0]} and {one.recordings[0]}: trials have other "
                    "times; bring the recordings to one rate (`preprocess.<modality>.resample_hz`)"
                )
        return first

    def run_places(self, one: SubjectPatterns) -> list[int]:
        """Return where the runs of a subject stand."""
        return [self.runs.index(run) for run in one.runs]

    def patterns(self) -> np.ndarray:
        """Return patterns of all, NaN where there are none."""
        shape = (*self.size, len(self.runs), len(self.conditions), self.n_channels)
        values = np.full(shape if self.time is None else (*shape, len(self.time)), np.nan)
        for s, r, one, region in self.cells:
            values[s, r, self.run_places(one), :, : len(region.names)] = region.values
        return values

    def residuals(self) -> np.ndarray:
        """Return noise samples of all, NaN behind the last of each run."""
        shape = (*self.size, len(self.runs), self.n_samples, self.n_channels)
        values = np.full(shape, np.nan, dtype=np.float32)
        for s, r, one, region in self.cells:
            for run, left in zip(self.run_places(one), region.residuals, strict=True):
                values[s, r, run, : len(left), : len(region.names)] = left
        return values

    def counts(self) -> np.ndarray:
        """Return the events of each subject, run and condition."""
        shape = (len(self.subjects), len(self.runs), len(self.conditions))
        values = np.zeros(shape, dtype=np.int64)
        for s, one in enumerate(self.subjects):
            values[s, self.run_places(one)] = one.counts
        return values

    def channels(self) -> dict[str, Any]:
        """Return name and place of every channel, and how many each region has."""
        dims = (*CELL, "channel")
        names = np.full((*self.size, self.n_channels), "", dtype=object)
        places = np.full((*self.size, self.n_channels, 3), np.nan)
        number = np.zeros(self.size, dtype=np.int64)
        for s, r, _, region in self.cells:
            count = len(region.names)
            names[s, r, :count], places[s, r, :count] = region.names, region.places
            number[s, r] = count
        found: dict[str, Any] = {"channel_name": (dims, names), "n_channels": (CELL, number)}
        if np.isfinite(places).any():
            axes = {axis: (dims, places[..., k], {"units": "mm"}) for k, axis in enumerate("xyz")}
            found |= axes
        return found | self._vertices()

    def _vertices(self) -> dict[str, Any]:
        """Return the surface and the number of the vertex of every channel, where one has any."""
        if not any((one.vertex is not None) and (one.vertex >= 0).any() for *_, one in self.cells):
            return {}
        dims, shape = (*CELL, "channel"), (*self.size, self.n_channels)
        structure, vertex = np.full(shape, "", dtype=object), np.full(shape, -1, dtype=np.int64)
        for s, r, _, region in self.cells:
            count = len(region.names)
            if region.structure is not None and region.vertex is not None:
                structure[s, r, :count], vertex[s, r, :count] = region.structure, region.vertex
        return {"structure": (dims, structure), "vertex": (dims, vertex)}

    def grid(self) -> dict[str, Any]:
        """Return affine and shape of the volume if all subjects share them."""
        first = self.subjects[0].grid
        same = all(
            one.grid.keys() == first.keys()
            and all(np.allclose(one.grid[key], first[key], atol=1e-4) for key in first)
            for one in self.subjects
        )
        return dict(first) if same else {}

    def dof(self) -> np.ndarray:
        """Return the degrees of freedom of the noise samples."""
        values = np.zeros(self.size, dtype=np.int64)
        for s, r, _, region in self.cells:
            values[s, r] = region.dof
        return values


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(list(values), dtype=object)


def _dataset(layout: _Layout) -> xr.Dataset:
    import xarray as xr

    first = layout.subjects[0]
    dims = (*CELL, "run", "condition", "channel", *(() if layout.time is None else ("time",)))
    data: dict[str, Any] = {
        "patterns": (dims, layout.patterns(), {"units": first.units}),
        "n_events": (("subject", "run", "condition"), layout.counts()),
    }
    if layout.n_samples:
        data["noise_residuals"] = ((*CELL, "run", "sample", "channel"), layout.residuals())
        data["noise_dof"] = (CELL, layout.dof())
    coords: dict[str, Any] = {
        "subject": ("subject", _texts([one.subject for one in layout.subjects])),
        "region": ("region", _texts(layout.regions)),
        "run": ("run", _texts(layout.runs)),
        "condition": ("condition", _texts(layout.conditions)),
        "unit_kind": ("subject", _texts([one.row for one in layout.subjects])),
    }
    if layout.time is not None:
        coords["time"] = ("time", layout.time, {"units": "s"})
    return xr.Dataset(data, coords | layout.channels())


def _making(
    settings: Input, modality: str, fmri: FmriPreprocess | None, layout: _Layout,
    results: Sequence[Result],
) -> dict[str, Any]:  # fmt: skip
    """Return how the patterns were made, for methods texts."""
    facts: dict[str, Any] = {"runs": len(layout.runs), "where": settings.units.where}
    if modality != "fmri":
        return facts | {
            "how": "trial_mean",
            "window_s": settings.window_s,
            "baseline_s": settings.baseline_of(modality),
            "folds": settings.folds,
            "keep_time": settings.keep_time,
            "bin_ms": str(settings.bin_ms) if modality == "spikes" else None,
            "results": {one.label: [one.analysis, one.series] for one in results},
        }
    facts["regions"] = None if settings.regions is None else Path(settings.regions).name
    block = fmri or FmriPreprocess()
    if settings.glm.estimate != "glm":
        facts |= {"lag_s": settings.glm.lag_s, "fd_threshold_mm": block.fd_threshold_mm}
        return facts | {"how": settings.glm.estimate}
    keys = ("confounds", "csf_wm", "detrend", "high_pass_hz", "fd_threshold_mm")
    model = {"noise": settings.glm.noise, "residuals": settings.glm.residuals}
    model["software"] = f"nilearn {version('nilearn')}"
    return facts | {"how": "glm"} | {key: getattr(block, key) for key in keys} | model


def conditions(
    stores: Sequence[xr.DataTree], settings: Input, *, fmri: FmriPreprocess | None = None,
    seed: int = 0, results: Sequence[Result] = (),
) -> xr.Dataset:  # fmt: skip
    """Estimate the response of every channel to every condition, run by run.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Recordings of one modality: ingested ones of fMRI and spikes, else preprocessed ones; of
        one subject or a cohort, in any order.
    settings : Input
        The block ``input:`` of the analysis.
    fmri : FmriPreprocess, optional
        The block ``preprocess.fmri``, whose confounds, high pass and censoring the model of fMRI
        takes; its scale and parcellation play no part. Absent: the defaults.
    seed : int
        Seed of the folds of trials.
    results : sequence of Result
        Of the analyses that ``input.result`` names, for all subjects.

    Returns
    -------
    xarray.Dataset
        ``patterns (subject, region, run, condition, channel[, time])``, NaN where a subject has
        no such run, condition or channel. fMRI: weights of the model, or means of volumes, per
        scanner run; other modalities: means of the trials of a fold (spikes: Hz; with
        ``keep_time`` counts per bin). ``noise_residuals (subject, region, run, sample, channel)``
        float32, NaN behind the last sample, and ``noise_dof (subject, region)``, where there are
        any; ``n_events (subject, run, condition)``. Coordinates ``subject``, ``region``, ``run``
        (text), ``condition`` in the order of ``labels``, ``time`` (seconds after the event),
        ``channel_name``, ``x``, ``y``, ``z`` (mm) per subject, region and channel,
        ``n_channels (subject, region)``, ``unit_kind (subject)``; ``structure``, ``vertex`` of
        channels that are vertices of a surface. Attributes ``modality``,
        ``estimate``, ``recordings`` (JSON, by subject), ``excluded``, ``issues`` (JSON),
        ``making`` (JSON: how the patterns were made),
        ``affine`` (16 numbers) and ``volume_shape`` where voxels of all lie in one volume.

    Raises
    ------
    ConfigError
        If there is no condition, modalities are mixed, or a setting does not fit them.
    DataError
        If no recording has a condition, or recordings of a subject do not fit each other.
    """
    modality, account = one_modality(stores), Account()
    _check(settings, modality)
    subjects = _subjects(stores, settings, fmri, seed, account, results)
    if settings.results:
        modality = LATENTS
    account.check_left(subjects)
    account.issues += _issues(subjects, settings, stores)
    layout = _Layout(subjects, settings)
    ds = _dataset(layout)
    estimate = settings.glm.estimate if modality == "fmri" else "trial_mean"
    recordings = {one.subject: list(one.recordings) for one in subjects}
    return ds.assign_attrs(
        modality=modality,
        estimate=estimate,
        recordings=json.dumps(recordings, ensure_ascii=False),
        excluded=json.dumps(account.excluded, ensure_ascii=False),
        issues=issues_to_json(account.issues),
        making=json.dumps(_making(settings, modality, fmri, layout, results), ensure_ascii=False),
        **layout.grid(),
    )
