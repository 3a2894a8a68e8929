"""The plan of a study: every job with its inputs, outputs, settings and code.

The Snakefile asks the plan for params, inputs and resources; `status` compares it with what lies in
the study folder; ``run --here`` walks through it without Snakemake.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neuropipe.analyses.registry import Analysis, Resources
from neuropipe.code_sets import (
    CONNECTOME_CODE,
    FIGURE_CODE,
    PREPROCESS_CODE,
    QUALITY_CODE,
    assemble_code,
    figure_code,
    ingest_code,
)
from neuropipe.config.recordings import Recording
from neuropipe.io.companions import Folders
from neuropipe.seeds import job_seed
from neuropipe.sizes import by_size, by_stores, stage_request
from neuropipe.sources import atlas_files, references, source_files
from neuropipe.store import layout
from neuropipe.store.code import CodeState
from neuropipe.study import Collection, Run, Study, table_rows

__all__ = ["Job", "make_plan"]


@dataclass(frozen=True)
class Job:
    """One job of the workflow.

    Attributes
    ----------
    rule : str
        Name of the Snakemake rule.
    wildcards : mapping
        Values of its wildcards, in the order of the log file's name.
    inputs, outputs : tuple of str
        Paths in the study folder (sources may lie outside).
    files : tuple of str
        Those of the inputs that no job makes: the user's own.
    settings : mapping
        Everything configured that decides the output, JSON values.
    code : tuple of str
        Modules and packages whose code decides the output.
    step : tuple of str
        Arguments of ``neuropipe step`` but the settings.
    record : str
        File that holds the provenance of the output; ``""`` when the output needs none.
    request : callable
        Tells what the job asks for, from the sizes of its inputs when it is called.
    state : CodeState
        The code when the plan was made; one for all jobs of a plan.
    """

    rule: str
    wildcards: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]
    code: tuple[str, ...]
    step: tuple[str, ...]
    record: str = ""
    files: tuple[str, ...] = ()
    request: Callable[[], Resources] = field(default=Resources, compare=False, repr=False)
    state: CodeState = field(default_factory=CodeState, compare=False, repr=False)

    @functools.cached_property
    def name(self) -> str:
        """``<rule>/<wildcards>``: the log without its suffix."""
        return self.log.removeprefix("logs/").removesuffix(".log")

    @functools.cached_property
    def log(self) -> str:
        """Log file of the job."""
        named = dict(self.wildcards)
        folder = [named.pop("folder")] if "folder" in named else []
        parts = [
            f"{key}-{value}" if value.isdigit() or key == "subject" else value
            for key, value in named.items()
        ]
        return layout.log_file("/".join([self.rule, *folder]), *(parts or ["all"]))

    @property
    def resources(self) -> Resources:
        """What the job asks for at its first attempt."""
        return self.request()

    @functools.cached_property
    def settings_json(self) -> str:
        """The settings as one line of JSON, keys sorted."""
        return json.dumps(self.settings, sort_keys=True, ensure_ascii=False)

    @property
    def fingerprint(self) -> str:
        """Hash of the code that decides the output."""
        return self.state.fingerprint(self.code)

    @property
    def modules(self) -> dict[str, str]:
        """Module -> fingerprint of the code that decides the output."""
        return self.state.modules(self.code)

    @property
    def arguments(self) -> list[str]:
        """All arguments of ``neuropipe step``."""
        return [*self.step, "--settings", self.settings_json]


def make_plan(study: Study) -> dict[str, Job]:
    """Return every job of a study by name, producers before consumers."""
    state = CodeState()
    return {job.name: replace(job, state=state) for job in _jobs(study)}


def _jobs(study: Study) -> Iterator[Job]:
    used = [recording for recording in study.recordings if not recording.exclude]
    folders = Folders(study.root)
    # A recording that gives others their clock comes before them.
    for recording in sorted(used, key=lambda recording: len(references(study, recording))):
        yield _ingest(study, recording, folders)
    for name in study.config.ingest.connectomes:
        yield _connectome(study, name)
    yield _index(study)
    for recording in used:
        if has_steps(recording.modality):
            yield _preprocess(study, recording)
        yield _recording_figures(study, recording)
    # Results that enter another analysis come before it.
    for run in sorted(study.runs, key=lambda run: bool(run.input.results)):
        for collection in run.collections:
            yield _assemble(study, run, collection)
            yield from _stages(study, run, collection)
            yield _figures(study, run, collection)
        if run.collections:
            yield _table(study, run)
    yield _report(study)


def has_steps(modality: str) -> bool:
    """Tell whether a modality has preprocessing; spikes have none."""
    return modality != "spikes"


def _ingest(study: Study, recording: Recording, folders: Folders) -> Job:
    ingest = study.config.ingest.model_dump(mode="json", exclude={"connectomes"})
    readers, overrides = ingest.pop("readers"), ingest.pop("overrides")
    if recording.reader:
        readers = {name: readers[name] for name in readers if name == recording.reader}
    override = {name: overrides[name] for name in overrides if name == recording.name}
    row = {k: v for k, v in recording.to_dict().items() if k not in ("cohort", "exclude")}
    settings = {
        "recording": row,
        "ingest": {**ingest, "readers": readers, "overrides": override},
    }
    store = layout.store_file(recording)
    files = source_files(study.root, recording, study.config.ingest, folders)
    others = references(study, recording)
    stores = tuple(layout.store_file(other) for other in others)
    needed = (*stores, *(layout.report_marker(other) for other in others))
    options = ("--inputs", *stores) if stores else ()
    outputs = tuple(layout.store_file(recording, s) for s in (".zarr", ".nwb", ".report.json"))
    return Job(
        rule="ingest_recording",
        wildcards={"folder": layout.store_folder(recording), "recording": recording.name},
        inputs=(*files, *needed),
        outputs=outputs,
        settings=settings,
        code=ingest_code(recording.modality),
        step=("ingest", "--source", recording.path, *options, "--output", store),
        record=layout.report_marker(recording),
        files=files,
        request=by_size(study.root, files[:50], memory=0.25, minutes=1 / 500),
    )


def _connectome(study: Study, name: str) -> Job:
    ingest = study.config.ingest
    config = ingest.connectomes[name]
    store = layout.connectome_store(name)
    tables = tuple(path for path in config.tables if (study.root / path).exists())
    return Job(
        rule="ingest_connectome",
        wildcards={"connectome": name},
        inputs=tables,
        files=tables,
        outputs=(store, layout.connectome_marker(name)),
        settings={
            "connectome": config.model_dump(mode="json"),
            "labels": ingest.labels.model_dump(mode="json", exclude={"ambiguous"}),
            "strict": ingest.strict,
        },
        code=CONNECTOME_CODE,
        step=("connectome", "--output", store),
        record=layout.connectome_marker(name),
        request=by_size(study.root, config.tables, memory=10, minutes=1 / 10),
    )


def _index(study: Study) -> Job:
    used = [recording for recording in study.recordings if not recording.exclude]
    reports = tuple(layout.report_marker(recording) for recording in used)
    return Job(
        rule="ingest_index",
        wildcards={},
        inputs=reports,
        outputs=(layout.INDEX,),
        settings={"study": study.config.study},
        code=("neuropipe.cli.step_stores",),
        step=("index", "--inputs", *reports, "--output", layout.INDEX),
    )


def _preprocess(study: Study, recording: Recording) -> Job:
    config = study.config.preprocess.model_dump(mode="json")
    shared = {key: config[key] for key in ("keep_steps", "write_nwb", "steps")}
    settings: dict[str, Any] = {
        "preprocess": {**shared, recording.modality: config.get(recording.modality)}
    }
    if (config.get(recording.modality) or {}).get("ica"):
        settings["seed"] = job_seed(study.config.seed, recording.name, "preprocess")
    store, out = layout.store_file(recording), layout.preprocessed_store(recording)
    fmri = study.config.preprocess.fmri
    atlas = atlas_files(study.root, fmri) if recording.modality == "fmri" else ()
    return Job(
        rule="preprocess_recording",
        wildcards={"recording": recording.name},
        inputs=(store, layout.report_marker(recording), *atlas),
        files=atlas,
        outputs=(out, layout.preprocessed_marker(recording)),
        settings=settings,
        code=PREPROCESS_CODE,
        step=("preprocess", "--input", store, "--output", out),
        record=layout.preprocessed_marker(recording),
        request=by_stores(study.root, [recording], memory=6, minutes=1 / 50),
    )


def _recording_figures(study: Study, recording: Recording) -> Job:
    store, processed = layout.store_file(recording), layout.preprocessed_store(recording)
    out = layout.figures_folder(recording)
    inputs, options = (store, layout.report_marker(recording)), ("--raw", store)
    if has_steps(recording.modality):
        inputs += (processed, layout.preprocessed_marker(recording))
        options += ("--processed", processed)
    return Job(
        rule="recording_figures",
        wildcards={"recording": recording.name},
        inputs=inputs,
        outputs=(out,),
        settings={},
        code=QUALITY_CODE,
        step=("quality", *options, "--output", out),
        record=f"{out}/figures.json",
        request=by_stores(study.root, [recording], memory=4, minutes=1 / 100),
    )


def _member_inputs(
    collection: Collection, ingested: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the stores of the members and their completion markers."""
    stores, markers = [], []
    for recording in collection.recordings:
        steps = has_steps(recording.modality) and recording.modality not in ingested
        stores.append(
            layout.preprocessed_store(recording) if steps else layout.store_file(recording)
        )
        markers.append(
            layout.preprocessed_marker(recording) if steps else layout.report_marker(recording)
        )
    return tuple(stores), tuple(markers)


def _assemble(study: Study, run: Run, collection: Collection) -> Job:
    stores, markers = _member_inputs(collection, run.input.ingested)
    files = tuple(path for path in run.input.files if (study.root / path).exists())
    out = layout.input_file(collection.name, run.label)
    options: tuple[str, ...] = ()
    if run.connectome is not None:
        weights = layout.connectome_store(run.connectome)
        markers = (*markers, weights, layout.connectome_marker(run.connectome))
        options = ("--connectome", weights)
    entering = study.results_for(run, collection)
    if entering:
        results = tuple(layout.result_file(*names) for names in entering)
        markers = (*markers, *results, *(layout.input_file(*names) for names in entering))
        options = (*options, "--results", *results)
    return Job(
        rule="analysis_assemble",
        wildcards={"collection": collection.name, "analysis": run.label},
        inputs=(*stores, *markers, *files),
        files=files,
        outputs=(out,),
        settings=_assemble_settings(study, run, collection),
        code=assemble_code(run.analysis),
        step=("assemble", run.analysis.name, "--inputs", *stores, *options, "--output", out),
        record=out,
        request=by_stores(study.root, collection.recordings, memory=4, minutes=1 / 50),
    )


def _assemble_settings(study: Study, run: Run, collection: Collection) -> dict[str, Any]:
    """Return the input block, and what else decides the input dataset."""
    settings: dict[str, Any] = {"input": run.input.model_dump(mode="json")}
    own = {recording.modality for recording in collection.recordings}
    blocks = study.config.preprocess.model_dump(mode="json", include=own & {*run.input.ingested})
    if blocks:
        settings["preprocess"] = blocks
    if run.input.results:
        settings["results"] = {
            label: {"analysis": one.name, "series": one.series}
            for label in run.input.results
            for one in [study.run(label).analysis]
        }
    if run.input.seeded:
        settings["seed"] = study.seed(collection.name, run)
    return settings


def stage_list(analysis: Analysis) -> tuple[str, ...]:
    """Return the stages of an analysis; the generic one-job form has the stage ``fit``."""
    return analysis.stages or ("fit",)


def stage_rule(analysis: Analysis, stage: str) -> str:
    """Return the rule that runs a stage."""
    return f"{analysis.name}_{stage}" if analysis.stages else "analysis_fit"


def _keys(run: Run, collection: Collection, stage: str) -> list[dict[str, int | str]]:
    """Return the keys of the jobs of one stage: one per subject, or what the settings say."""
    if stage in run.analysis.subject_stages:
        return [{"subject": name} for name in sorted({r.subject for r in collection.recordings})]
    return [dict(key) for key in run.analysis.scatter(run.settings).get(stage, [{}])]


def _stages(study: Study, run: Run, collection: Collection) -> Iterator[Job]:
    analysis, made = run.analysis, []
    source = layout.input_file(collection.name, run.label)
    stages = stage_list(analysis)
    request = functools.partial(stage_request, study.root / source, run)
    # A file that is not there is told by the stage that reads it.
    read = tuple(f for f in getattr(run.settings, "files", ()) if (study.root / f).exists())
    for stage in stages:
        last = stage == stages[-1]
        parts = tuple(made)
        for key in _keys(run, collection, stage):
            out = _stage_output(run, collection, stage, key, last)
            made.append(out)
            words = [f"{k}={v}" for k, v in key.items()]
            options = ["--key", *words] if words else []
            options += ["--parts", *parts] if parts else []
            yield Job(
                rule=stage_rule(analysis, stage),
                wildcards={
                    "collection": collection.name,
                    "analysis": run.label,
                    **{k: str(v) for k, v in key.items()},
                },
                inputs=(source, *parts, *read),
                files=read,
                outputs=(out, *(_provenance_of(out) if last else ())),
                settings={
                    "settings": run.settings.model_dump(mode="json")
                    if last  # every result carries all its settings
                    else analysis.for_stage(run.settings, stage),
                    "seed": study.seed(collection.name, run),
                },
                code=analysis.code_modules,
                step=(analysis.name, stage, "--input", source, *options, "--output", out),
                record=_provenance_of(out)[0] if last else out,
                request=request,
            )


def _stage_output(
    run: Run, collection: Collection, stage: str, key: Mapping[str, int | str], last: bool
) -> str:
    if last:
        return layout.result_file(collection.name, run.label)
    suffix = run.analysis.part_suffix.get(stage, ".nc")
    return layout.part_file(collection.name, run.label, stage, key, suffix)


def _provenance_of(result: str) -> tuple[str]:
    return (str(Path(result).with_name("provenance.json")),)


def figure_files(analysis: Analysis, collection: str, label: str) -> tuple[str, ...]:
    """Return every file of ``analysis_figures``, the record first."""
    names = ["figures.json", "summary.tsv", "methods.md", *analysis.table_files]
    names += [
        f"fig-{slug}.{suffix}" for slug in analysis.figure_slugs for suffix in ("svg", "pdf", "tsv")
    ]
    return tuple(layout.result_file(collection, label, name) for name in names)


def _figures(study: Study, run: Run, collection: Collection) -> Job:
    result = layout.result_file(collection.name, run.label)
    folder = layout.result_folder(collection.name, run.label)
    outputs = figure_files(run.analysis, collection.name, run.label)
    planted = layout.truth_file(collection.name, run.label)
    known = bool(run.analysis.truth) and (study.root / planted).exists()
    options = ("--truth", planted) if known else ()
    return Job(
        rule=f"analysis_figures_{run.analysis.name}",
        wildcards={"collection": collection.name, "analysis": run.label},
        inputs=(result, *options[1:]),
        outputs=outputs,
        settings={"settings": run.settings.model_dump(mode="json")},
        code=figure_code(run.analysis),
        step=("figures", run.analysis.name, "--input", result, *options, "--output", folder),
        record=outputs[0],
        request=by_size(study.root, [result], memory=10, minutes=1 / 5),
    )


def _table(study: Study, run: Run) -> Job:
    rows, out = table_rows(run), layout.table_file(run.label)
    return Job(
        rule="analysis_table",
        wildcards={"analysis": run.label},
        inputs=tuple(row["result"] for row in rows),
        outputs=(out,),
        settings={"rows": rows},
        code=(*run.analysis.code_modules, "neuropipe.cli.step_results"),
        step=("table", run.analysis.name, "--output", out),
    )


def _report(study: Study) -> Job:
    inputs: list[str] = [layout.INDEX]
    inputs += [layout.connectome_marker(name) for name in study.config.ingest.connectomes]
    for recording in study.recordings:
        if recording.exclude:
            continue
        if has_steps(recording.modality):
            inputs.append(layout.preprocessed_marker(recording))
        inputs.append(layout.figures_folder(recording))
    for run in study.runs:
        for collection in run.collections:
            inputs += figure_files(run.analysis, collection.name, run.label)
            inputs.append(layout.result_file(collection.name, run.label, "provenance.json"))
        if run.collections:
            inputs.append(layout.table_file(run.label))
    config = {key: value for key, value in study.raw.items() if key != "execution"}
    return Job(
        rule="report_page",
        wildcards={},
        inputs=tuple(inputs),
        outputs=(layout.REPORT,),
        settings={"config": config},
        code=("neuropipe.report", "neuropipe.status", *FIGURE_CODE),
        step=("report", "--output", layout.REPORT),
        request=by_size(study.root, inputs, memory=20, minutes=1),
    )
