"""Settings of the documentation site; pages on settings, formats and faults come from the code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "neuropipe"
html_title = "neuropipe"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "generated/included"]
html_theme = "furo"
html_static_path: list[str] = []
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
nitpicky = False


def setup(app: Any) -> None:
    """Write the pages that come from the code before the sources are read."""
    import code_pages

    app.connect("builder-inited", lambda _: code_pages.write_pages(HERE / "generated"))
