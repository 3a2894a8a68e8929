"""What a command imports before it does anything: a count of modules, which no load changes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from neuropipe.cli.main import COMMANDS

# The text of a help needs none of these; together they take seconds.
HEAVY = (
    "numpy", "pandas", "pydantic", "yaml", "scipy", "numba", "xarray", "torch", "pyro", "sklearn",
    "mne", "pynwb", "h5py", "zarr", "matplotlib", "nilearn", "rich", "psutil",
)  # fmt: skip
# A study is read with pydantic and YAML, readers are found with NumPy; the rest stays out.
LIGHT = ("pydantic", "yaml", "rich", "psutil", "numpy")
NUMERICAL = {name for name in HEAVY if name not in LIGHT}
MODULES = 220  # Python's own among them; 0.07 s


def imported(*words: str, folder=None) -> set[str]:
    """Return the modules that a command has imported when it ends."""
    code = (
        "import io, sys; from contextlib import redirect_stdout, suppress\n"
        "from neuropipe.cli.main import main\n"
        "with redirect_stdout(io.StringIO()), suppress(SystemExit): main(sys.argv[1:])\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids="-".join)
def test_help_imports_nothing_heavy(words):
    found = imported(*words, "--help")
    assert found.isdisjoint(HEAVY)
    assert len(found) < MODULES


@pytest.mark.parametrize("words", [("status",), ("list",), ("validate",)], ids="-".join)
def test_commands_that_read_a_study_import_no_numerical_library(words, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "raw.csv").touch()
    table = "subject\tmodality\tpath\na\tcalcium\traw.csv\n"
    (tmp_path / "config" / "recordings.tsv").write_text(table)
    (tmp_path / "config" / "config.yaml").write_text("study: x\nanalyses: {ntf: {}}\n")
    found = imported(*words, folder=tmp_path)
    assert "neuropipe.study" in found or words == ("list",)
    # To validate means to look into files.
    assert found & NUMERICAL <= ({"h5py"} if words == ("validate",) else set())
