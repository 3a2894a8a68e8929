"""Sentences on how the patterns were made, from what the assembler wrote into its attributes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from neuropipe.analyses.methods_text import counted

__all__ = ["patterns_sentences"]

Facts = Mapping[str, Any]
MOTION = {"none": "", "6p": "six motion parameters", "24p": "24 motion terms (six parameters, "
          "their differences, and the squares of both; Satterthwaite et al. 2013)"}  # fmt: skip
SERIES = {
    "latent_mean": "latents (posterior means)",
    "state_probability": "probabilities of states",
    "time_state": "states, one channel each",
}
NOISE = {
    "ols": "ordinary least squares",
    "ar1": "least squares after prewhitening (autoregression of order 1)",
}


def _nuisance(facts: Facts) -> str:
    parts = [MOTION.get(str(facts.get("confounds", "none")), str(facts.get("confounds")))]
    if facts.get("csf_wm"):
        parts.append("the mean signals of cerebrospinal fluid and white matter where known")
    if facts.get("detrend"):
        parts.append("a linear trend")
    if facts.get("high_pass_hz") is not None:
        parts.append(f"cosines up to {facts['high_pass_hz']:g} Hz")
    if facts.get("fd_threshold_mm") is not None:
        parts.append(
            "one regressor per volume before the steady state or with a framewise displacement "
            f"above {facts['fd_threshold_mm']:g} mm"
        )
    return ", ".join(part for part in parts if part) or "a constant"


def _glm(facts: Facts) -> str:
    return (
        "Patterns are the weights of a general linear model of each run "
        f"({counted(int(facts['runs']), 'run')}), fitted with "
        f"{facts.get('software', 'nilearn')} to every row: one "
        "regressor per event label, convolved with the haemodynamic response of Glover (1999), "
        f"together with {_nuisance(facts)}, by "
        f"{NOISE.get(str(facts['noise']), str(facts['noise']))}; "
        + (
            "the residuals give the noise covariance."
            if facts.get("residuals", True)
            else "residuals were not kept."
        )
    )


def _window_mean(facts: Facts) -> str:
    censored = ""
    if facts.get("fd_threshold_mm") is not None:
        censored = (
            "; volumes with a framewise displacement above "
            f"{facts['fd_threshold_mm']:g} mm do not count"
        )
    return (
        f"Patterns are means of the volumes from the onset to the offset of each event, both "
        f"{facts['lag_s']:g} s later, after a quadratic trend of each run "
        f"({counted(int(facts['runs']), 'run')}) was taken off every row{censored}."
    )


def _baseline(facts: Facts) -> str:
    baseline = facts.get("baseline_s")
    if baseline is None:
        return "; no baseline was taken off"
    start, stop = ("the window" if end is None else f"{end:g} s" for end in baseline)
    start = "the beginning of the window" if start == "the window" else start
    stop = "its end" if stop == "the window" else stop
    return f"; the mean from {start} to {stop} was taken off every trial"


def _trial_mean(facts: Facts) -> str:
    start, stop = facts["window_s"]
    rate = ""
    if facts.get("bin_ms") is not None:
        rate = f", spikes counted in bins of {facts['bin_ms']} ms"
    kept = "with their time axis" if facts.get("keep_time") else (
        "averaged over the time behind the baseline"
    )  # fmt: skip
    return (
        f"Patterns are means of trials from {start:g} to {stop:g} s around events{rate}, {kept}"
        f"{_baseline(facts)}. Trials were dealt at random into "
        f"{counted(int(facts['folds']), 'fold')} that take the place of runs, every condition "
        "spread evenly; deviations of trials from their mean give the noise covariance."
    )


def _rows_of_result(facts: Facts) -> str:
    parts = [
        f"{SERIES.get(series, series)} of the analysis {analysis} (`{label}`)"
        for label, (analysis, series) in facts["results"].items()
    ]
    return f"Channels are {'; '.join(parts)}."


MAKERS: dict[str, Callable[[Facts], str]] = {
    "glm": _glm,
    "window_mean": _window_mean,
    "trial_mean": _trial_mean,
}


def patterns_sentences(attrs: Mapping[str, Any]) -> str:
    """Return sentences on the making of the patterns; "" if the input does not tell.

    Parameters
    ----------
    attrs : mapping
        Attributes of a result; ``making`` is JSON of the assembler.
    """
    facts = json.loads(str(attrs.get("making", "{}") or "{}"))
    how = str(facts.get("how", ""))
    if how not in MAKERS:
        return ""
    parts = [MAKERS[how](facts)]
    if facts.get("results"):
        parts.append(_rows_of_result(facts))
    if facts.get("regions"):
        parts.append(f"Regions come from the image {facts['regions']}.")
    if facts.get("where"):
        parts.append(f"Rows were chosen by `{facts['where']}`.")
    return " ".join(parts)
