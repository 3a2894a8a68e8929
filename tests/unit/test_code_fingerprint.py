"""Comments and docstrings do not count; code, names and data files do."""

from __future__ import annotations

import pytest

from neuropipe.store.code import code_fingerprint, module_fingerprints, source_fingerprint

BASE = '"""Doc."""\ndef f(x):\n    """Doc."""\n    return x + 1\n'


@pytest.mark.parametrize(
    "other",
    [
        '"""Another."""\n\n# note\ndef f( x ):\n    """Long\n    doc."""\n    return x+1  # w\n',
        "def f(x):\n    return x + 1\n",
    ],
)
def test_text_that_computes_the_same_has_the_same_fingerprint(other):
    assert source_fingerprint(other) == source_fingerprint(BASE)


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return x + 2\n",
        "def g(x):\n    return x + 1\n",
        'def f(x):\n    "not last"\n    "kept text"\n    return x + 1\n',
    ],
)
def test_text_that_computes_something_else_differs(other):
    assert source_fingerprint(other) != source_fingerprint(BASE)


def test_a_package_stands_for_its_modules_and_data_files():
    found = module_fingerprints(["neuropipe.plotting"])
    assert "neuropipe.plotting.figure" in found
    assert "neuropipe.plotting/style.mplstyle" in found
    assert not any("pycache" in name for name in found)


def test_the_order_of_names_does_not_matter_and_a_missing_module_is_an_error():
    names = ["neuropipe.seeds", "neuropipe.errors"]
    assert code_fingerprint(names) == code_fingerprint(names[::-1])
    with pytest.raises(ModuleNotFoundError, match="neuropipe.nothing"):
        code_fingerprint(["neuropipe.nothing"])
