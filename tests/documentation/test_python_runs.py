"""Every Python block of the README and of the documentation runs, and every docstring example.

Those that open results run beside a copy of the finished demo, which ``NEUROPIPE_DEMO`` names:
`.ci/run` makes one. The block for another environment runs in `test_commands_run`.
"""

from __future__ import annotations

import doctest
import re
from importlib import import_module

import matplotlib.pyplot as plt
import pytest

import neuropipe

from .blocks import PAGES, ROOT, blocks

SOURCE = ROOT / "src"
ELSEWHERE = "from neuroconv import"
SCRIPTS = [one for one in blocks("python") if ELSEWHERE not in one.text]
NEEDS_DEMO = doctest.OPTIONFLAGS_BY_NAME["SKIP"]


def modules(text: str) -> list[str]:
    """Return the modules whose code has this text, by name."""
    paths = [path for path in SOURCE.rglob("*.py") if text in path.read_text(encoding="utf-8")]
    return sorted(".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in paths)


def examples(module: str) -> list[doctest.DocTest]:
    """Return the docstrings of a module that have examples."""
    found = doctest.DocTestFinder(exclude_empty=True).find(import_module(module))
    return [one for one in found if one.examples]


def run_example(one: doctest.DocTest) -> int:
    """Run a docstring and return how many examples of it ran."""
    told: list[str] = []
    found = doctest.DocTestRunner(verbose=False).run(one, out=told.append)
    assert found.failed == 0, "".join(told)
    return found.attempted


@pytest.fixture
def open_here(beside_demo, monkeypatch):
    """Stand beside the demo, and close the figures that were drawn."""
    monkeypatch.chdir(beside_demo)
    yield
    plt.close("all")


@pytest.mark.parametrize("page", [p for p in PAGES if any(one.page == p for one in SCRIPTS)],
                         ids=lambda page: page.stem)  # fmt: skip
def test_the_blocks_of_a_page_run_one_after_the_other(page, open_here):
    names = {"__name__": page.stem}
    for block in SCRIPTS:
        if block.page == page:
            # Lines keep their numbers of the page.
            text = "\n" * block.line + block.text
            exec(compile(text, str(page), "exec"), names)
    assert set(names) > {"__name__", "__builtins__"}


def test_only_one_block_is_for_another_environment():
    others = [one.page.name for one in blocks("python") if ELSEWHERE in one.text]
    assert others == ["proprietary_formats.md"]


@pytest.mark.parametrize("module", modules(">>> "))
def test_docstring_examples_run(module):
    found = examples(module)
    assert found
    for one in found:
        later = sum(NEEDS_DEMO in example.options for example in one.examples)
        assert run_example(one) == len(one.examples) - later


@pytest.mark.parametrize("module", modules("# doctest: +SKIP"))
def test_docstring_examples_run_on_the_demo(module, open_here):
    for one in examples(module):
        for example in one.examples:
            example.options.pop(NEEDS_DEMO, None)
        assert run_example(one) == len(one.examples)


def test_names_in_sentences_are_those_of_the_package():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    called = set(re.findall(r"`neuropipe\.(\w+)\(", text))
    assert called
    assert called <= set(neuropipe.__all__)
