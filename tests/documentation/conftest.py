"""The finished demo, in a copy that examples may do with as they like."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def beside_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that has a copy of the finished demo as ``demo``."""
    made = os.environ.get("NEUROPIPE_DEMO", "")
    if not made:
        pytest.skip("NEUROPIPE_DEMO names no finished demo; .ci/run makes one")
    folder = tmp_path_factory.mktemp("beside")
    shutil.copytree(made, folder / "demo", symlinks=True)
    return folder
