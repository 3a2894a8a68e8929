"""Notebooks are short, without outputs, the same in both forms; `make notebooks` runs them."""

from __future__ import annotations

import json
import re

import jupytext
import pytest

from .blocks import ROOT

SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))


def cells(notebook) -> list[tuple[str, str]]:
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_both_forms_hold_the_same_cells(script):
    paired = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    assert cells(paired) == cells(jupytext.read(script))
    assert len(paired["cells"]) < 40
    assert not any(cell.get("outputs") for cell in paired["cells"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_only_public_names_are_used(script):
    text = script.read_text(encoding="utf-8")
    assert not re.search(r"\bneuropipe[\w.]*\._|import _", text)


def test_there_is_a_notebook_for_every_analysis():
    text = "".join(script.read_text(encoding="utf-8") for script in SCRIPTS)
    for name in ("ntf", "hmm_glm", "gp_vae", "bicluster", "trsa"):
        assert f"/{name}" in text
