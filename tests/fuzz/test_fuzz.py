"""A damaged recording ends in a store that holds what is there, or in an error that says so.

A usual run takes one of so many cases. All of them: ``python -m pytest tests/fuzz -m fuzz``, with
as many workers as the variable ``FUZZ_WORKERS`` says.
"""

from __future__ import annotations

import os

import pytest
from formats import cases, formats, sample

FORMATS = formats()
SAMPLE = 40
WORKERS = int(os.environ.get("FUZZ_WORKERS", "2"))


def explain(found):
    """Return the faults, one a line, with the case that repeats each."""
    return "\n".join(
        f"{r['format']}: {r['file']}: {r['damage']} #{r['number']}: {r['fault']}: "
        f"{r['end']} {r['code']} {r['message']}"
        for r in found
        if r["fault"]
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_recording_is_refused_or_told(name, pool, results):
    found = pool.judge(FORMATS[name], sample(FORMATS[name], SAMPLE))
    results += found
    assert found
    assert not explain(found), explain(found)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", FORMATS)
def test_every_damage_is_refused_or_told(name, pool, results):
    found = pool.judge(FORMATS[name], cases(FORMATS[name]), workers=WORKERS)
    results += found
    assert not explain(found), explain(found)
