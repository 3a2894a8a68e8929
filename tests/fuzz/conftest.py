"""Cases that a full run has and a usual one has not, and the table that both end with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Import mode `importlib` puts no folder of tests on the path.
sys.path.insert(0, str(Path(__file__).parent))

RESULTS = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[RESULTS] = []


@pytest.fixture(scope="session")
def results(pytestconfig):
    """Return the list that every case adds its result to."""
    return pytestconfig.stash[RESULTS]


def pytest_terminal_summary(terminalreporter, config):
    """Print cases per format and damage: how many were refused, how many gave a store."""
    found = config.stash.get(RESULTS, [])
    if not found:
        return
    from pool import table_of

    terminalreporter.section("damaged files")
    for line in table_of(found):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def pool(tmp_path_factory):
    """Return workers that judge damaged files."""
    from pool import Pool

    with Pool(tmp_path_factory.mktemp("fuzz")) as workers:
        yield workers
