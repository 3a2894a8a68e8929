"""The snakemake command that every part of neuropipe starts; nothing of it is imported."""

from __future__ import annotations

import sys
from pathlib import Path

from neuropipe.config.shipped import shipped

__all__ = ["snakemake_command"]


def snakemake_command(directory: str | Path, profile: str | None = None) -> list[str]:
    """Return the start of a snakemake command line for a study.

    Parameters
    ----------
    directory : str or Path
        The study folder.
    profile : str, optional
        Name of a shipped profile, or a folder; the default profile is found by Snakemake itself.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(shipped("Snakefile"))]
    command += ["--directory", str(directory)]
    if profile and profile != "default":
        folder = Path(profile)
        command += ["--workflow-profile", str(folder if folder.is_dir() else
                                              shipped(f"profiles/{profile}"))]  # fmt: skip
    return command
