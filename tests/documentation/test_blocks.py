"""Every code block of the README and the documentation is what the program takes."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib

import pytest
import yaml

from neuropipe.cli.main import _parser, _split
from neuropipe.config.load import validate_study
from neuropipe.config.models import IngestOverride
from neuropipe.study import _resolve_run

from .blocks import ROOT, blocks

LANGUAGES = {"bash", "python", "yaml", "toml", "text"}
# Shell commands beside our own that a page may show; those of other environments among them.
SHOWN = {"make", "source", "cd", "pip", "conda", "snakemake"}


def ids(block):
    return block.name


def documents(text: str) -> list[dict]:
    """Return the mappings of a block: pages write alternatives with the same key one below the
    other, parted by an empty line.
    """
    try:
        whole = yaml.compose(text)
        keys = [key.value for key, _ in whole.value]
    except yaml.YAMLError:
        keys = []
    if keys and len(keys) == len(set(keys)):
        return [yaml.safe_load(text)]
    return [yaml.safe_load(part) for part in re.split(r"\n\s*\n", text)]


def test_pages_have_blocks_of_known_languages_only():
    assert len(blocks()) > 15
    assert {block.language for block in blocks()} <= LANGUAGES


@pytest.mark.parametrize("block", blocks("yaml"), ids=ids)
def test_settings_are_accepted(block):
    for given in documents(block.text):
        if not set(given) - set(IngestOverride.model_fields):
            IngestOverride.model_validate(given)
            continue
        _, problems = validate_study({"study": "page"} | given, block.name)
        assert problems == []
        for label, section in (given.get("analyses") or {}).items():
            run, problems = _resolve_run(label, section, block.name)
            assert run is not None, problems
            assert problems == []


def test_a_wrong_key_in_a_block_is_seen():
    _, problems = validate_study({"study": "page", "ingestion": {}}, "page")
    assert "ingestion" in problems[0]


@pytest.mark.parametrize("block", blocks("toml"), ids=ids)
def test_entry_points_name_groups_that_are_read(block):
    groups = tomllib.loads(block.text)["project"]["entry-points"]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert set(groups) <= set(known)


@pytest.mark.parametrize("block", blocks("python"), ids=ids)
def test_python_compiles_and_imports_only_what_is_there(block):
    compile(block.text, block.name, "exec")
    for module in re.findall(r"^(?:from|import) (neuropipe[\w.]*)", block.text, re.MULTILINE):
        assert importlib.import_module(module)


@pytest.mark.parametrize("block", blocks("bash"), ids=ids)
def test_commands_are_those_of_the_program(block):
    parser = _parser()
    for command in block.commands:
        words = shlex.split(command)
        if words[0] == "neuropipe":
            own, _ = _split(words[1:])
            assert parser.parse_args(own).command == own[0]
        elif words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text()
        else:
            assert words[0] in SHOWN, command
