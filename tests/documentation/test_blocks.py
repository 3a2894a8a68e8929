"""Every block of the README and of the documentation is of a kind that a test runs or reads.

Commands run in `test_commands_run`, Python in `test_python_runs`, settings in `test_settings_run`.
"""

from __future__ import annotations

import tomllib

import pytest

from neuropipe.cli.step_command import STEPS
from neuropipe.config.load import validate_study
from neuropipe.config.models import IngestOverride
from neuropipe.study import _resolve_run

from .blocks import PAGES, ROOT, blocks, documents

# Those of one line run or are read by tests of this folder; `make docs` reads what is in braces.
LANGUAGES = {"bash", "python", "yaml", "toml", "inline"}
DIRECTIVES = {"{include}", "{eval-rst}", "{toctree}"}
# No code: a sketch, what a benchmark prints, and a table that `test_commands_run` reads.
TEXTS = {"architecture.md", "benchmarks.md", "proprietary_formats.md"}


def ids(block):
    return block.name


def test_pages_have_blocks_of_known_languages_only():
    assert len(blocks()) > 15
    assert {block.language for block in blocks()} == LANGUAGES | DIRECTIVES | {"text"}
    assert {block.page.name for block in blocks("text")} == TEXTS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_fence_of_a_page_is_that_of_a_block(page):
    found = [block for block in blocks() if block.page == page and block.language != "inline"]
    assert page.read_text(encoding="utf-8").count("```") == 2 * len(found)


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


def test_the_steps_of_the_sketch_are_those_of_the_program():
    (sketch,) = [block for block in blocks("text") if block.page.name == "architecture.md"]
    shown = sketch.text.splitlines()[1].split()
    assert set(shown) <= {*STEPS, "scan", "stages"}
    assert shown.index("ingest") < shown.index("preprocess") < shown.index("assemble")
