"""Which files belong to a recording by their names: its parts and its sidecars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neuropipe.io.bids.tree import DESCRIPTION, LEVELS, LONG_EXTENSIONS, BidsName, bids_name

__all__ = ["companions"]

# What sidecars say of a recording is the same in every space and for every part of it.
FREE = ("space", "desc", "res", "split")
SIDECARS = {
    ".tsv": ("channels", "electrodes", "events", "timeseries", "regressors"),
    ".json": ("coordsystem", "events"),
    ".nii.gz": ("mask",),
}


def companions(root: Path, path: str) -> list[str]:
    """Return the files that belong to a recording; no file is opened.

    Parameters
    ----------
    root : Path
        Folder that paths are relative to.
    path : str
        The file of the recording.

    Returns
    -------
    list of str
        Relative like `path`, sorted: files of the same name with other extensions (samples and
        markers of BrainVision, data of EEGLAB, JSON), and in a BIDS tree the sidecars that hold
        for it, those above its folder among them. The table of participants is left out: a new
        subject must not concern the others.
    """
    given = Path(path)
    extension = next((e for e in LONG_EXTENSIONS if given.name.endswith(e)), given.suffix)
    start = f"{given.name.removesuffix(extension)}."
    found = [file for file in _files(root, given.parent) if file.name.startswith(start)]
    name = bids_name(given)
    if name is not None and "sub" in name.entities:
        found += [f for folder in _tree(root, given) for f in _sidecars(root, folder, name)]
    return sorted({str(file) for file in found} - {path})


def _files(root: Path, folder: Path) -> list[Path]:
    here = root / folder
    return [folder / f.name for f in here.iterdir() if f.is_file()] if here.is_dir() else []


def _tree(root: Path, given: Path) -> list[Path]:
    """Return the folders from that of the file up to the root of its BIDS tree."""
    above = list(given.parents)[:LEVELS]
    tops = [k for k, folder in enumerate(above) if (root / folder / DESCRIPTION).is_file()]
    return above[: tops[0] + 1] if tops else []


def _sidecars(root: Path, folder: Path, of: BidsName) -> Iterator[Path]:
    for file in _files(root, folder):
        name = bids_name(file)
        if name is None or name.extension not in SIDECARS:
            continue
        known = name.suffix in SIDECARS[name.extension]
        same = name.suffix == of.suffix and name.extension == ".json"
        stated = {key: value for key, value in name.entities.items() if key not in FREE}
        if (known or same) and stated.items() <= of.entities.items():
            yield file
