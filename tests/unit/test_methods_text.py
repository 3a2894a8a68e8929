"""Sentences that all methods paragraphs share, and the lazy faces of the analyses."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from neuropipe.analyses.hmm_glm.spec import Settings
from neuropipe.analyses.methods_text import (
    changed_sentence,
    changed_settings,
    paragraph,
    software_sentence,
)
from neuropipe.analyses.registry import analyses


def test_settings_that_differ_are_told_by_dotted_key():
    assert changed_settings(Settings(sticky={"kappa": 10.0}, restarts=7)) == {
        "restarts": 7,
        "sticky.kappa": 10.0,
    }
    assert changed_sentence(Settings()) == "All settings were at their defaults."
    assert "sticky.kappa = 10" in changed_sentence(Settings(sticky={"kappa": 10.0}))


def test_software_and_references_stand_only_if_they_are_known():
    assert software_sentence({"versions": '{"numpy": "2.4"}'}) == "Software: numpy 2.4."
    assert software_sentence({}) == ""
    written = paragraph(("As Li et al. did.", ""), {"Li": "Li 2024", "Wu": "Wu 2020"})
    assert written == "As Li et al. did.\n\n- Li 2024\n"


@pytest.mark.parametrize("name", sorted(analyses()))
def test_public_names_of_an_analysis_are_there_and_listed(name):
    package = importlib.import_module(f"neuropipe.analyses.{name}")
    assert all(callable(getattr(package, public)) for public in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = package.absent
    # Importing the submodule of that name does not hide the function.
    importlib.import_module(f"neuropipe.analyses.{name}.figures")
    assert callable(package.figures)


def test_importing_the_analyses_imports_no_heavy_library():
    names = ", ".join(f"neuropipe.analyses.{name}" for name in sorted(analyses()))
    heavy = "{'torch', 'matplotlib', 'numba', 'xarray', 'sklearn', 'mne'}"
    code = f"import sys, {names}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
