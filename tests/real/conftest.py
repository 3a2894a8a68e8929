"""Let the tests of this folder share `real_data`."""

from __future__ import annotations

import sys
from pathlib import Path

# Import mode `importlib` puts no folder of tests on the path.
sys.path.insert(0, str(Path(__file__).parent))
