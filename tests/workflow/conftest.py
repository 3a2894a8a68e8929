"""A finished small study, made once for all workers; every test works on a copy of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "data" / "toy_package"
SMALL = {
    "analyses": {
        "ntf": {
            "input": {"align": "absolute", "epochs": ["odour", "light", "touch"]},
            "rank": 3,
            "restarts": 1,
            "max_iter": 30,
            "communities": {"null_draws": 5, "restarts": 1},
        }
    }
}


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


def make_study(path: Path) -> StudyFolder:
    """Write the demo study with settings that finish quickly."""
    study = StudyFolder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "neuropipe", "init", str(path), "--demo"]
    subprocess.run(command, check=True, capture_output=True)
    raw = yaml.safe_load((path / "config" / "config.yaml").read_text())
    raw["analyses"] = SMALL["analyses"]
    (path / "config" / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return the folder of a finished study; read only."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = shared / "finished-study"
    with FileLock(str(shared / "finished-study.lock")):
        if not folder.exists():
            study = make_study(shared / "making-study")
            answer = study.neuropipe("run")
            assert answer.code == 0, answer.out
            study.path.rename(folder)
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> StudyFolder:
    """Return a copy of the finished study, file times kept: a moved study folder."""
    folder = tmp_path / "study"
    shutil.copytree(finished, folder, symlinks=True)
    return StudyFolder(folder)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study of which nothing has run; read only."""
    return make_study(tmp_path_factory.mktemp("template") / "study").path


@pytest.fixture
def fresh(template: Path, tmp_path: Path) -> StudyFolder:
    """Return a study of which nothing has run."""
    return StudyFolder(Path(shutil.copytree(template, tmp_path / "fresh")))


@pytest.fixture
def editable(study: StudyFolder, tmp_path: Path) -> StudyFolder:
    """Return a copy of the finished study beside a copy of our code that may be edited."""
    package = tmp_path / "checkout"
    package.mkdir()
    for name in ("src", "workflow", "profiles", "config", "envs"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, package / name, ignore=ignore)
    shutil.copy2(ROOT / "Snakefile", package / "Snakefile")
    study.package = package
    return study
