"""A study on disk as the workflow leaves it, without running anything."""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from pydantic import Field

from neuropipe.config.models import InputConfig, StrictModel, StudyConfig
from neuropipe.config.recordings import Recording
from neuropipe.status import Cell

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "neuropipe", "font.size": 8}


@functools.cache
def drawing(seed: int, wide: bool) -> tuple[bytes, bytes]:
    """Return a figure as SVG and PDF; drawn once, since drawing is slow."""
    rng = np.random.default_rng(seed)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.85 if wide else 3.35, 2.6), layout="constrained")
        axes = figure.subplots()
        for n in range(3):
            axes.plot(np.cumsum(rng.normal(size=200)), label=f"AVA{n}", lw=0.8)
        axes.set(xlabel="time (s)", ylabel="activity (s.d.)", title="TITLE")
        axes.legend(frameon=False)
        svg, pdf = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(pdf, format="pdf", metadata={"CreationDate": None})
    return svg.getvalue(), pdf.getvalue()


class McmcSettings(StrictModel):
    chains: int = Field(4, description="Chains.")
    warmup: int = Field(2500, description="Draws thrown away at the start of each chain.")


class FakeSettings(StrictModel):
    rank: int | list[int] | str = Field("auto", description="Number of components, or a list.")
    restarts: int = Field(8, description="Random starting points.")
    tolerance: float = Field(1e-6, description="Relative change of the loss at which to stop.")
    mcmc: McmcSettings = Field(default_factory=McmcSettings, description="Sampler.")


@dataclass
class FakeStudy:
    """Writes the files of a study and keeps the objects that describe it."""

    root: Path
    recordings: list[Recording] = field(default_factory=list)
    runs: list[Any] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def study(self) -> Any:
        config = StudyConfig.model_validate(
            {"study": "worm-pilot", "seed": 20240501, "report": self.report}
        )
        labels = {run.label: dict(run.given) for run in self.runs}
        raw = {"study": "worm-pilot", "seed": 20240501, "analyses": labels, "report": self.report}
        return SimpleNamespace(
            root=self.root, config=config, recordings=tuple(self.recordings),
            runs=tuple(self.runs), raw=raw,
        )  # fmt: skip

    def write(self, path: str, content: Any) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content if isinstance(content, str) else json.dumps(content))

    def write_figure(self, folder: str, slug: str, number: int, *, wide: bool = True) -> None:
        svg, pdf = drawing(number % 3, wide)
        target = self.root / folder
        target.mkdir(parents=True, exist_ok=True)
        name = folder.split("/")[1].encode()
        (target / f"fig-{slug}.svg").write_bytes(svg.replace(b"TITLE", name))
        (target / f"fig-{slug}.pdf").write_bytes(pdf)
        self.write(f"{folder}/fig-{slug}.tsv", "time\tactivity\n0\t1\n")

    def add_recording(self, subject: str, *, issues: list[dict[str, str]] = (), **row: Any) -> None:
        name = f"sub-{subject}_calcium"
        row = {"path": f"raw/{subject}_2024.h5", "cohort": "worm"} | row
        self.recordings.append(Recording(name, subject, "calcium", **row))
        number = len(self.recordings)
        digest = f"{number:064x}"
        attrs = {"sampling": "regular", "rate": 3.0, "source_sha256": digest,
                 "species": "Caenorhabditis elegans", "session_start": ""}  # fmt: skip
        self.write(
            f"stores/sub-{subject}/calcium/{name}.report.json",
            {"recording": name, "modality": "calcium", "attrs": attrs, "issues": list(issues),
             "source": [{"path": f"{subject}_2024.h5", "sha256": digest, "bytes": 10_000_000}],
             "content_sha256": digest, "sizes": {"time": 2880, "roi": 98}, "wall_s": 1.5,
             "versions": {"numpy": "2.4.6", "h5py": "3.14"}},
        )  # fmt: skip
        self.write(
            f"preprocessed/{name}.json",
            {"recording": name, "issues": [], "wall_s": 2.5, "content_sha256": digest,
             "versions": {"xarray": "2026.9.0"}, "code": {"preprocess": "ab" * 32}},
        )  # fmt: skip
        captions = {
            "traces": "Best, median and worst row by signal to noise, before and after. Good: the "
            "same transients in both. Bad: steps or slow drift that stay after the chain.",
            "missing": "Share of missing samples of each row. Good: near zero everywhere.",
        }
        for slug in captions:
            self.write_figure(f"preprocessed/{name}", slug, number, wide=slug == "traces")
        figures = [{"slug": s, "title": s.title(), "caption": c} for s, c in captions.items()]
        self.write(f"preprocessed/{name}/figures.json", {"headline": "", "figures": figures})
        self.cells += [Cell(stage, name, "", "done") for stage in ("ingest", "preprocess")]

    def add_run(
        self, label: str, collections: list[tuple[str, str, tuple[str, ...]]], **settings: Any
    ) -> None:
        analysis = SimpleNamespace(
            name="ntf",
            title="Non-negative tensor factorisation",
            scopes=("cohort", "recording"),
            table_files=("motifs.csv",),
            courses="",
            about="Which neurons act together, when, and in which animals?",
        )
        members = {recording.name: recording for recording in self.recordings}
        groups = tuple(
            SimpleNamespace(name=name, scope=scope, recordings=tuple(members[m] for m in names))
            for name, scope, names in collections
        )
        given = settings | ({"use": "ntf"} if label != "ntf" else {})
        run = SimpleNamespace(
            label=label, analysis=analysis, settings=FakeSettings(**settings), given=given,
            input=InputConfig(scope=groups[0].scope), collections=groups,
        )  # fmt: skip
        self.runs.append(run)
        rows = ["collection\tsubject\tsession\tcohort\tmodality\tmetric\tvalue\tunit\tlow\thigh\tn"]
        for number, group in enumerate(groups):
            self._write_result(label, group, number)
            rows += self._metric_rows(group, number + 3 * len(self.runs))
        self.write(f"results/{label}/table.tsv", "\n".join(rows) + "\n")

    def _write_result(self, label: str, group: Any, number: int) -> None:
        folder = f"results/{group.name}/{label}"
        for slug in ("components", "communities"):
            self.write_figure(folder, slug, number, wide=slug == "components")
        figures = [
            {"slug": "components", "title": "Components", "caption": "Weights of each component. "
             "Error bars: range over restarts. Good: the same shape in every restart."},
            {"slug": "communities", "title": "Communities", "caption": "Share of nodes."},
        ]  # fmt: skip
        headline = "5 components explain 61.2 % of the variance of 98 neurons in 3 subjects."
        self.write(f"{folder}/figures.json", {"headline": headline, "figures": figures})
        issue = {"code": "TIME_NOT_ALIGNED", "path": "input.align", "severity": "warning",
                 "message": "The recordings do not share a clock; time factors are not comparable.",
                 "hint": "Set input.align to epochs."}  # fmt: skip
        self.write(
            f"{folder}/provenance.json",
            {"collection": group.name, "label": label, "analysis": "ntf", "seed": 1234567 + number,
             "versions": {"numpy": "2.4.6", "torch": "2.13.0"}, "converged": 1, "issues": [issue],
             "code": {"analyses.ntf": "cd" * 32}, "content_sha256": "ef" * 32, "wall_s": 312.4,
             "cpu_s": 600.1, "git_commit": "0123456789abcdef0123456789abcdef01234567"},
        )  # fmt: skip
        lines = ["neuron\tcommunity\tweight\tentropy_of_the_community_assignment_over_restarts"]
        lines += [f"AVA{n}\t{n % 5}\t{0.123456 * n}\t{1e-7 * n}" for n in range(40)]
        self.write(f"{folder}/summary.tsv", "\n".join(lines) + "\n")
        self.write(
            f"{folder}/methods.md",
            f"Neural activity was factorised with `rank = auto` ({len(group.recordings)} "
            "recordings), *alternating* least squares.\n\n## References\n\n"
            "- Kolda and Bader (2009). https://doi.org/10.1137/07070111X\n",
        )
        for stage in ("assemble", "affinity", "fit", "communities", "result"):
            state = "done" if stage in ("result", "assemble") else "missing"
            self.cells.append(Cell(stage, group.name, label, state))

    @staticmethod
    def _metric_rows(group: Any, number: int) -> list[str]:
        first = group.recordings[0]
        head = f"{group.name}\t{first.subject if len(group.recordings) == 1 else ''}\t\t"
        head += f"{first.cohort}\tcalcium\t"
        share = 0.55 + 0.03 * number
        return [
            f"{head}explained_variance\t{share}\t1\t{share - 0.04}\t{share + 0.03}\t98",
            f"{head}components\t{3 + number}\t\t\t\t",
            f"{head}event_time\t{12.5 + number}\ts\t\t\t12",
        ]

    def fail(self, label: str, collection: str, error: str) -> None:
        rest = [c for c in self.cells if (c.label, c.collection) != (label, collection)]
        log = f"logs/ntf_fit/{collection}_{label}.log"
        self.write(log, error)
        failed = Cell("fit", collection, label, "failed", (), error, log)
        self.cells = [*rest, failed, Cell("result", collection, label, "missing")]


@pytest.fixture
def fake(tmp_path: Path) -> FakeStudy:
    """An empty study; add recordings and runs."""
    return FakeStudy(tmp_path / "study")


def fill(fake: FakeStudy, n: int = 3) -> FakeStudy:
    issues = [
        {"code": "NO_SESSION_START", "path": "source", "message": "The source states no start "
         "of the session.", "hint": "Fill in session_start.", "severity": "info"},
        {"code": "AMBIGUOUS_LABEL", "path": "roi 14", "message": "RIM has no side; the row stays "
         "unlabelled.", "hint": "Give RIML or RIMR in the names table.", "severity": "warning"},
    ]  # fmt: skip
    for number in range(1, n + 1):
        fake.add_recording(f"w{number:02d}", issues=issues if number == 1 else [])
    names = tuple(recording.name for recording in fake.recordings)
    fake.add_run("ntf", [("cohort-worm", "cohort", names)], rank=5)
    each = [(name, "recording", (name,)) for name in names]
    fake.add_run("ntf_single", each, rank=5, restarts=2)
    fake.add_run("ntf_grid", each, rank=[3, 4, 5], mcmc={"chains": 2})
    fake.fail("ntf_grid", names[-1], "ComputationError: rank 5: the loss is not finite\n"
              "(analyses/ntf/kernels.py:120) after 3 restarts")  # fmt: skip
    stale = next(c for c in fake.cells if c.label == "ntf_single" and c.stage == "result")
    fake.cells[fake.cells.index(stale)] = Cell(
        "result", stale.collection, stale.label, "stale", ("restarts: 8 -> 2",)
    )
    return fake


@pytest.fixture
def filled(fake: FakeStudy) -> FakeStudy:
    """Three worms, three labels of one analysis, one failure, one stale result."""
    return fill(fake)


@pytest.fixture
def make_filled(tmp_path: Path) -> Callable[[int], FakeStudy]:
    """Return a study with any number of recordings."""
    return lambda n: fill(FakeStudy(tmp_path / f"study-{n}"), n)


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of screenshots: $NEUROPIPE_ARTIFACTS, or a temporary one."""
    given = os.environ.get("NEUROPIPE_ARTIFACTS")
    return Path(given) if given else tmp_path_factory.mktemp("artifacts")
