"""A finished small study, made once for all workers; every test works on a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
WORMS = ROOT / "tests" / "data" / "worms"
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


def make_study(path: Path) -> Path:
    """Write three worms, one analysis, with settings that finish quickly."""
    from neuropipe.simulate.demo import write_truth, write_worms

    truth = write_worms(path)
    write_truth(path, "cohort-worm", "ntf", truth)
    shutil.copytree(WORMS, path / "config")
    raw = yaml.safe_load((path / "config" / "config.yaml").read_text())
    raw["analyses"] = SMALL["analyses"]
    (path / "config" / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, study_at: type, request: pytest.FixtureRequest
) -> Path:
    """Return the folder of a finished study; read only."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base
    folder = shared / "finished-study"
    with FileLock(str(shared / "finished-study.lock")):
        if not folder.exists():
            made = make_study(shared / "making-study")
            answer = study_at(made).neuropipe("run")
            assert answer.code == 0, answer.out
            made.rename(folder)
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path, study_at: type) -> Any:
    """Return a copy of the finished study, file times kept: a moved study folder."""
    folder = tmp_path / "study"
    shutil.copytree(finished, folder, symlinks=True)
    return study_at(folder)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study of which nothing has run; read only."""
    return make_study(tmp_path_factory.mktemp("template") / "study")


@pytest.fixture
def fresh(template: Path, tmp_path: Path, study_at: type) -> Any:
    """Return a study of which nothing has run."""
    return study_at(Path(shutil.copytree(template, tmp_path / "fresh")))


@pytest.fixture
def editable(study: Any, tmp_path: Path) -> Any:
    """Return a copy of the finished study beside a copy of our code that may be edited."""
    package = tmp_path / "checkout"
    package.mkdir()
    for name in ("src", "workflow", "profiles", "config", "envs"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, package / name, ignore=ignore)
    shutil.copy2(ROOT / "Snakefile", package / "Snakefile")
    study.package = package
    return study
