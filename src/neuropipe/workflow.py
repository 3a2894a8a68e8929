"""What the rule files ask: inputs, params and resources of a job, and the targets."""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neuropipe.errors import NeuropipeError
from neuropipe.plan import Job, figure_files, make_plan, stage_list
from neuropipe.store import layout
from neuropipe.store.file_facts import facts_digest, file_facts
from neuropipe.study import Run, load_study

__all__ = ["Workflow", "put_interpreter_first"]

_GROWTH = (1.0, 1.5, 2.0)
Wildcards = Any


def _digits(values: set[str]) -> str:
    return "|".join(sorted(values)) if values else "none"


def _signed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the signature of a function, which Snakemake asks for at every call."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function


class Workflow:
    """The plan of a study in the form that rules need.

    Parameters
    ----------
    config : mapping
        The configuration as Snakemake merged it.
    root : Path or str
        The study folder.
    """

    def __init__(self, config: Mapping[str, Any], root: Path | str = ".") -> None:
        self.study = load_study(root, config)
        self.plan = make_plan(self.study)
        self.jobs: dict[tuple[str, tuple[str, ...]], Job] = {
            (job.rule, tuple(sorted(job.wildcards.values()))): job for job in self.plan.values()
        }

    def job(self, rule: str, wildcards: Wildcards) -> Job:
        """Return the job of a rule for the wildcards that Snakemake found.

        Raises
        ------
        NeuropipeError
            If the table and the configuration know no such job.
        """
        named = dict(wildcards)
        key = (rule, tuple(sorted(str(value) for value in named.values())))
        if key not in self.jobs:
            given = ", ".join(f"{k}={v}" for k, v in named.items())
            raise NeuropipeError(f"{rule}: the study has no recording or analysis for {given}")
        return self.jobs[key]

    def inputs(self, rule: str) -> Callable[[Wildcards], list[str]]:
        """Return an input function: the files of other jobs that a job reads.

        The user's own are params, see `files`: Snakemake fails a job that reads one from the
        future, and does not see one that is replaced by an older one.
        """

        def values(wildcards: Wildcards) -> list[str]:
            job = self.job(rule, wildcards)
            own = set(job.files)
            return [path for path in job.inputs if path not in own]

        return _signed(values)

    def files(self, rule: str) -> Callable[[Wildcards], str]:
        """Return a params function: what tells a change of the user's own files that a job reads.

        Also of one that is replaced by an older one, of one that is new and of one that is gone.
        """

        def value(wildcards: Wildcards) -> str:
            return facts_digest(file_facts(self.study.root, self.job(rule, wildcards).files))

        return _signed(value)

    def option(self, rule: str, name: str) -> Callable[[Wildcards], list[str]]:
        """Return a params function: the values after one option of the step (``--parts``)."""

        def values(wildcards: Wildcards) -> list[str]:
            words = list(self.job(rule, wildcards).step)
            if f"--{name}" not in words:
                return []
            rest = words[words.index(f"--{name}") + 1 :]
            end = next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))
            return rest[:end]

        return _signed(values)

    def flag(self, rule: str, name: str) -> Callable[[Wildcards], list[str]]:
        """Return a params function: one option of the step with its values, or nothing."""
        values = self.option(rule, name)
        return _signed(
            lambda wildcards: [f"--{name}", *found] if (found := values(wildcards)) else []
        )

    def settings(self, rule: str) -> Callable[[Wildcards], str]:
        """Return a params function: the resolved settings as JSON."""
        return _signed(lambda wildcards: self.job(rule, wildcards).settings_json)

    def code(self, rule: str) -> Callable[[Wildcards], str]:
        """Return a params function: the fingerprint of the code, so that an edit reruns the job."""
        return _signed(lambda wildcards: self.job(rule, wildcards).fingerprint)

    def threads(self, rule: str) -> Callable[[Wildcards], int]:
        """Return a function for ``threads``."""
        return _signed(lambda wildcards: self.job(rule, wildcards).resources.cpus)

    def mem_mb(self, rule: str) -> Callable[[Wildcards, int], int]:
        """Return a function for ``mem_mb``, growing with the attempt."""
        return _signed(lambda wildcards, attempt: self._grown(rule, wildcards, attempt, "mem_mb"))

    def minutes(self, rule: str) -> Callable[[Wildcards, int], int]:
        """Return a function for ``runtime``, growing with the attempt."""
        return _signed(lambda wildcards, attempt: self._grown(rule, wildcards, attempt, "minutes"))

    def _grown(self, rule: str, wildcards: Wildcards, attempt: int, what: str) -> int:
        # Snakemake asks again when the inputs of a job are there: then their sizes are known.
        value = getattr(self.job(rule, wildcards).resources, what)
        return math.ceil(value * _GROWTH[min(attempt, len(_GROWTH)) - 1])

    def analysis_names(self) -> list[str]:
        """Return the names of the enabled analyses, once each, in order."""
        return list(dict.fromkeys(run.analysis.name for run in self.study.runs))

    def staged_names(self) -> list[str]:
        """Return the enabled analyses that bring rules of their own."""
        return [
            name
            for name in self.analysis_names()
            if any(run.analysis.name == name and run.analysis.stages for run in self.study.runs)
        ]

    def labels(self, name: str) -> str:
        """Return a wildcard constraint: the labels of one analysis."""
        return _digits({run.label for run in self.study.runs if run.analysis.name == name})

    def single_labels(self) -> str:
        """Return a wildcard constraint: the labels of analyses that are one job."""
        return _digits({run.label for run in self.study.runs if not run.analysis.stages})

    def figure_patterns(self, name: str) -> list[str]:
        """Return the output patterns of the figures of one analysis."""
        analysis = next(r.analysis for r in self.study.runs if r.analysis.name == name)
        return list(figure_files(analysis, "{collection}", "{analysis}"))

    def titles(self, name: str) -> str:
        """Return the title of an analysis, the category of its figures."""
        return next(r.analysis.title for r in self.study.runs if r.analysis.name == name)

    def stores(self) -> list[str]:
        """Return every file of all stores, so that a deleted one is made again."""
        rules = ("ingest_recording", "ingest_connectome", "ingest_index", "preprocess_recording")
        return [path for job in self.plan.values() if job.rule in rules for path in job.outputs]

    def unreported(self) -> list[str]:
        """Return the products that the report does not read, so that a deleted one is made again.

        With those that it reads Snakemake would look up most files of a study twice.
        """
        (report,) = (job for job in self.plan.values() if job.rule == "report_page")
        known = {*report.inputs, *report.outputs}
        products = (path for job in self.plan.values() for path in job.outputs)
        return [path for path in products if not path.startswith("work/") and path not in known]

    def results(self, name: str | None = None) -> list[str]:
        """Return all results, or those of one analysis, with figures and tables."""
        return [
            path
            for run in self.study.runs
            if name in (None, run.analysis.name)
            for path in self._results_of(run)
        ]

    def _results_of(self, run: Run) -> list[str]:
        found = []
        for collection in run.collections:
            found.append(layout.input_file(collection.name, run.label))
            found.append(layout.result_file(collection.name, run.label))
            found += figure_files(run.analysis, collection.name, run.label)
        return [*found, layout.table_file(run.label)] if run.collections else []

    def stages(self, name: str) -> tuple[str, ...]:
        """Return the stages of an analysis."""
        return stage_list(next(r.analysis for r in self.study.runs if r.analysis.name == name))


def put_interpreter_first() -> None:
    """Let ``python3`` in the rules be the Python that runs Snakemake, here and on every node.

    A path in a param would rerun everything in another environment; with ``--sdm conda`` the
    environment of the rule comes before this one.
    """
    folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", "")])
