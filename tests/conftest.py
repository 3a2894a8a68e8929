"""What tests of several folders share: a study on disk and the commands given in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TOY = ROOT / "tests" / "data" / "toy_package"


LONG = ("fuzz", "many", "slurm")
# What a shell starts in the background ignores Ctrl-C, and so would every command that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes unless it is asked for, as with ``-m fuzz``."""
    unasked = [mark for mark in LONG if mark not in config.option.markexpr]
    left_out = [item for item in items if any(map(item.get_closest_marker, unasked))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@dataclass
class Answer:
    """Exit code and text of a command."""

    code: int
    out: str


@dataclass
class StudyFolder:
    """A study on disk and the commands that a user gives in it."""

    path: Path
    package: Path | None = None

    def environment(self) -> dict[str, str]:
        """Return the environment, other packages first on the path of modules."""
        paths = [str(TOY)]
        if self.package is not None:
            paths.insert(0, str(self.package / "src"))
        threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
        return {**os.environ, **threads, "COLUMNS": "200"}

    def neuropipe(self, *words: str) -> Answer:
        """Run the command line inside the study."""
        return self._run([sys.executable, "-m", "neuropipe", *words])

    def snakemake(self, *words: str) -> Answer:
        """Run Snakemake with our Snakefile inside the study."""
        snakefile = (self.package or ROOT) / "Snakefile"
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile)]
        return self._run([*command, "--cores", "2", *words])

    def _run(self, command: list[str]) -> Answer:
        done = subprocess.run(
            command, cwd=self.path, env=self.environment(), capture_output=True, text=True,
            check=False, timeout=400,
        )  # fmt: skip
        return Answer(done.returncode, done.stdout + done.stderr)

    def edit(self, **changes: object) -> None:
        """Merge changes into the configuration."""
        from neuropipe.config.load import merge

        file = self.path / "config" / "config.yaml"
        raw = merge(yaml.safe_load(file.read_text()), changes)
        file.write_text(yaml.safe_dump(raw, sort_keys=False))

    def would_run(self) -> set[str]:
        """Return the rules that Snakemake would run; empty: nothing to be done."""
        answer = self.snakemake("--dry-run", "--quiet", "reason")
        assert answer.code == 0, answer.out
        lines = [line.strip() for line in answer.out.splitlines()]
        return {
            line.split()[1].rstrip(":")
            for line in lines
            if line.startswith(("rule ", "localrule ")) and line.endswith(":")
        } - {"all"}

    def read(self, relative: str) -> dict:
        """Return a JSON file of the study."""
        return json.loads((self.path / relative).read_text())

    def hashes(self) -> dict[str, str]:
        """Return the content hash of every product that carries one."""
        from neuropipe.store.provenance import read_provenance

        files = [*self.path.glob("stores/**/*.report.json"), *self.path.glob("preprocessed/*.json")]
        files += [*self.path.glob("inputs/*/*.nc"), *self.path.glob("results/*/*/provenance.json")]
        return {
            str(file.relative_to(self.path)): read_provenance(file)["content_sha256"]
            for file in sorted(files)
        }


@pytest.fixture(scope="session")
def study_at() -> type[StudyFolder]:
    """Return the class: ``study_at(folder)`` gives commands inside a study."""
    return StudyFolder
