"""Settings given on the command line: checked with the study, handed to Snakemake as a file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuropipe.study import Study

__all__ = ["load_with", "override_of", "write_override"]


def override_of(assignments: Sequence[str]) -> dict[str, Any]:
    """Return the nested mapping of ``a.b=c`` assignments.

    Raises
    ------
    ConfigError
        If one is not of that form.
    """
    from neuropipe.config.load import set_key

    override: dict[str, Any] = {}
    for assignment in assignments:
        set_key(override, assignment)
    return override


def load_with(root: Path, assignments: Sequence[str]) -> Study:
    """Load a study with assignments laid over its configuration."""
    from neuropipe.config.load import merge, read_yaml
    from neuropipe.study import CONFIG_FILE, load_study

    raw = read_yaml(root / CONFIG_FILE)
    return load_study(root, merge(raw, copy.deepcopy(override_of(assignments))))


def write_override(root: Path, assignments: Sequence[str]) -> Path | None:
    """Write the assignments as an override file, which keeps types; None when there are none."""
    import yaml

    from neuropipe.store.atomic import write_text

    if not assignments:
        return None
    path = root / ".snakemake" / "neuropipe-override.yaml"
    write_text(path, yaml.safe_dump(override_of(assignments), sort_keys=True))
    return path
