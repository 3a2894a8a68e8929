"""Files that come with the package: workflow, profiles, presets, the demo's configuration."""

from __future__ import annotations

from pathlib import Path

import neuropipe
from neuropipe.errors import MissingInput

__all__ = ["shipped"]


def shipped(relative: str) -> Path:
    """Return a shipped file or folder, in a checkout or in an installed wheel.

    Parameters
    ----------
    relative : str
        Path from the top of the checkout, such as ``Snakefile`` or ``config/presets``.

    Raises
    ------
    MissingInput
        If the installation is incomplete.
    """
    package = Path(neuropipe.__file__).resolve().parent
    for base in (package / "resources", package.parents[1]):
        if (base / relative).exists():
            return base / relative
    raise MissingInput(f"{relative}: not found beside {package}; install neuropipe again")
