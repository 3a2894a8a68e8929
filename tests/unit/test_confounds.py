"""Tables of confounds: what does not stand under its own name is refused."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.errors import IngestError
from neuropipe.io.fmri.tables import read_confounds


def written(tmp_path, text, name="confounds.tsv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["confounds.tsv", "confounds.csv", "confounds.txt"])
def test_values_and_names(tmp_path, name):
    separator = {"tsv": "\t", "csv": ",", "txt": "  "}[name[-3:]]
    lines = [["a", "b"], ["n/a", "1.5"], ["-2", "1e3"]]
    path = written(tmp_path, "\n".join(separator.join(line) for line in lines) + "\n", name)
    found = read_confounds(path, ())
    assert found.names == ["a", "b"]
    np.testing.assert_array_equal(found.values, [[np.nan, 1.5], [-2.0, 1000.0]])


@pytest.mark.parametrize(
    ("text", "code", "fragment"),
    [
        # pandas takes the first of too many cells as a name of the row, and moves the others.
        ("a\tb\n1\t2\t3\n4\t5\n", "LENGTH_MISMATCH", "line 2: 3 cells for 2 columns"),
        ("a\tb\n1\n4\t5\n", "LENGTH_MISMATCH", "line 2: 1 cells for 2 columns"),
        ("a\tb\n1\t2\n4", "TRUNCATED", "line 3"),
        ("a\ta\n1\t2\n", "DUPLICATE_COLUMN", "two columns are named 'a'"),
        ("a\t\n1\t2\n", "NOT_THIS_FORMAT", "column 2 of the header has no name"),
        ("a\tb\n1\t1_000\n", "NOT_THIS_FORMAT", "column b"),
        ("a\tb\n1\tfew\n", "NOT_THIS_FORMAT", "column b"),
        ('a\tb\n1\t"2\n', "NOT_THIS_FORMAT", "quote"),
    ],
)
def test_faults(tmp_path, text, code, fragment):
    with pytest.raises(IngestError) as caught:
        read_confounds(written(tmp_path, text), ())
    assert caught.value.code == code
    assert fragment in str(caught.value)
