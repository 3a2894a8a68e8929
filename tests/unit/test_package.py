"""What a wheel needs beside its modules, and what states the version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import neuropipe
from neuropipe.config.load import presets
from neuropipe.config.shipped import shipped
from neuropipe.recipes.recipe import recipe_folders

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
INCLUDED = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]


def asked_for() -> set[str]:
    """Return the first part of every path that the code asks `shipped` for."""
    found = set()
    for path in Path(neuropipe.__file__).parent.rglob("*.py"):
        found |= set(re.findall(r'shipped\(f?"([^/"{]+)', path.read_text(encoding="utf-8")))
    return found


def test_everything_that_is_asked_for_is_in_the_wheel():
    assert asked_for() == {"Snakefile", "config", "profiles"}
    needed = asked_for() | {"workflow", "envs"}  # named inside the Snakefile and its rules
    assert needed <= set(INCLUDED)
    assert all(target == f"neuropipe/resources/{name}" for name, target in INCLUDED.items())


@pytest.mark.parametrize("name", sorted(INCLUDED))
def test_what_the_wheel_takes_along_exists(name):
    assert shipped(name) == ROOT / name


def test_presets_and_recipes_come_from_what_is_shipped():
    assert set(presets()) >= {"decision", "fmri", "ieeg", "worm"}
    assert len(recipe_folders()) == 5


def test_one_version_is_stated_everywhere():
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert citation["license"] == PROJECT["project"]["license"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert neuropipe.__version__ == version
