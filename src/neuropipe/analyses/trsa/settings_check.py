"""What the configuration alone tells to be impossible, so that `validate` can say it."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from neuropipe.analyses.trsa.spec_limits import (
    CROSSVALIDATED,
    LEAST_CONDITIONS,
    LEAST_FLEXIBLE,
    MAPPED,
    SQUARED,
    WHITENED_COMPARATORS,
)

__all__ = ["file_problems", "settings_problems"]

Problems = Iterator[str]
SUFFIXES = (".csv", ".nc")
SHOWN = 10
NO_MODELS = ("precision", "covariance")
LATENTS = "latents"


def _measure(settings: Any, inputs: Any, modalities: Sequence[str]) -> str:
    """Return the measure; "" where it depends on the number of scanner runs."""
    if settings.rdm.measure != "auto":
        return str(settings.rdm.measure)
    if "fmri" in modalities:
        return ""
    return "crossnobis" if inputs.folds > 1 else "euclidean"


def _labels(settings: Any, inputs: Any, modalities: Sequence[str]) -> Problems:
    names = list(getattr(inputs, "labels", []))
    if not names:
        yield "input.labels: names no condition; write `labels: [label, ...]`"
    elif len(names) < LEAST_CONDITIONS:
        yield (
            f"input.labels: {len(names)} condition{'' if len(names) == 1 else 's'} "
            f"({', '.join(names)}); RDMs need {LEAST_CONDITIONS} or more"
        )
    strange = sorted(set(settings.categories) - set(names))
    if names and strange:
        yield f"categories: {', '.join(strange)}: not among input.labels ({', '.join(names)})"
    flexible = [m.name for m in settings.models if m.kind not in ("fixed", *NO_MODELS)]
    if flexible and 0 < len(names) < LEAST_FLEXIBLE:
        yield (
            f"models: {', '.join(flexible)}: flexible models are fitted to some conditions and "
            f"scored on others; they need {LEAST_FLEXIBLE} labels, found {len(names)}"
        )


def _input(settings: Any, inputs: Any, modalities: Sequence[str]) -> Problems:
    fmri = "fmri" in modalities
    given = {
        "span_s": fmri and inputs.span_s is not None,
        "keep_time": fmri and inputs.keep_time,
        "regions": bool(modalities) and not fmri and inputs.regions is not None,
    }
    for key in (key for key, is_given in given.items() if is_given):
        yield f"input.{key}: patterns of {', '.join(modalities)} do not take it; leave it out"


def _estimates(settings: Any, inputs: Any, modalities: Sequence[str]) -> Problems:
    measure = _measure(settings, inputs, modalities)
    one_fold = "fmri" not in modalities and inputs.folds < 2
    if measure in CROSSVALIDATED and one_fold:
        yield f"rdm.measure: {measure} needs two folds or more; raise input.folds"
    if settings.compare in WHITENED_COMPARATORS and measure and measure not in SQUARED:
        yield (
            f"compare: {settings.compare} is made for squared distances, not for {measure}; choose "
            "cosine, pearson or spearman"
        )
    if settings.time is not None and not inputs.keep_time:
        yield "time: windows need a time axis; set input.keep_time: true"


def _searchlight(settings: Any, inputs: Any, modalities: Sequence[str]) -> Problems:
    chosen = settings.searchlight
    if chosen is None:
        return
    if inputs.results:
        yield "searchlight: latents and states have no place; write searchlight: null"
        return
    if inputs.keep_time:
        yield "searchlight: patterns have a time axis; set input.keep_time: false"
    if inputs.regions is not None:
        yield "searchlight: maps go over all channels; it needs input.regions: null"
    measure = _measure(settings, inputs, modalities)
    if measure and measure not in MAPPED:
        yield f"searchlight: rdm.measure is {measure}; searchlights offer {', '.join(MAPPED)}"
    if not any(m.kind == "fixed" for m in settings.models) and not chosen.keep_rdms:
        yield "searchlight: needs a fixed model to compare with; name one under models"


CHECKS: tuple[Callable[[Any, Any, Sequence[str]], Problems], ...] = (
    _labels,
    _input,
    _estimates,
    _searchlight,
)


def settings_problems(settings: Any, inputs: Any, modalities: Sequence[str]) -> list[str]:
    """Return what would be refused whatever the recordings hold, keys under the label's block.

    Parameters
    ----------
    settings : Settings
        Of the analysis.
    inputs : neuropipe.assemble.condition_settings.Input
        Its block ``input``.
    modalities : sequence of str
        Of the recordings that enter.
    """
    if inputs.results:
        modalities = (LATENTS,)  # the recordings give their events alone
    return [text for check in CHECKS for text in check(settings, inputs, modalities)]


def _model_problems(model: Any, labels: Sequence[str], path: Path) -> Problems:
    where = f"models: {model.name}: {model.path}"
    if path.suffix not in SUFFIXES:
        yield f"{where}: expected {' or '.join(SUFFIXES)}"
        return
    if path.suffix != ".csv" or model.kind in NO_MODELS:
        return
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = list(csv.reader(file))
    columns = rows[0][1:] if rows else []
    names = [row[0] for row in rows[1:] if row]
    if columns != names:
        yield f"{where}: first row and first column must be the same labels"
    lacking = [label for label in labels if label not in columns]
    if lacking:
        yield (
            f"{where}: conditions {', '.join(lacking[:SHOWN])} are missing; it has "
            f"{', '.join(columns[:SHOWN])}"
        )


def file_problems(settings: Any, inputs: Any, root: Path) -> list[str]:
    """Return what files of models would be refused for, as far as CSV tables tell.

    Parameters
    ----------
    settings, inputs
        As in `settings_problems`.
    root : Path
        Study folder.
    """
    return [
        text
        for model in settings.models
        if (root / model.path).is_file()
        for text in _model_problems(model, inputs.labels, root / model.path)
    ]
