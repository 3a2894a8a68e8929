"""The snakemake command that every part of neuropipe starts; nothing of it is imported."""

from __future__ import annotations

import sys
from pathlib import Path

from neuropipe.config.shipped import shipped
from neuropipe.errors import ConfigError

__all__ = ["profile_folder", "snakemake_command"]


def profile_folder(profile: str) -> Path:
    """Return the folder of a profile: one of the user's, or a shipped one by its name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    folder = Path(profile)
    if folder.is_dir():
        return folder
    profiles = shipped("profiles")
    if not (profiles / profile).is_dir():
        names = ", ".join(sorted(path.name for path in profiles.iterdir()))
        raise ConfigError(f"--profile {profile}: no such folder or profile. Shipped: {names}")
    return profiles / profile


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
        command += ["--workflow-profile", str(profile_folder(profile))]
    return command
