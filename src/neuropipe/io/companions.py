"""Which files belong to a recording by their names: its parts and its sidecars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from neuropipe.io.bids.tree import DESCRIPTION, LEVELS, LONG_EXTENSIONS, BidsName, bids_name

__all__ = ["Folders", "companions"]

# What sidecars say of a recording is the same in every space and for every part of it.
FREE = ("space", "desc", "res", "split")
SIDECARS = {
    ".tsv": ("channels", "electrodes", "events", "timeseries", "regressors"),
    ".json": ("coordsystem", "events"),
    ".nii.gz": ("mask",),
}


class Folders:
    """Names of the files in folders at one moment; each folder is listed once.

    Parameters
    ----------
    root : Path
        Folder that paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[Path, dict[str, list[Path]]] = {}
        self._sidecars: dict[Path, list[tuple[Path, BidsName]]] = {}
        self._tops: dict[Path, bool] = {}

    def files(self, folder: Path) -> dict[str, list[Path]]:
        """Return the beginning of a name, up to any of its dots -> files that begin so."""
        if folder not in self._files:
            here = self.root / folder
            found: dict[str, list[Path]] = defaultdict(list)
            for file in here.iterdir() if here.is_dir() else ():
                if not file.is_file():
                    continue
                words = file.name.split(".")
                for count in range(1, len(words)):
                    found[".".join(words[:count])].append(folder / file.name)
            self._files[folder] = dict(found)
        return self._files[folder]

    def sidecars(self, folder: Path) -> list[tuple[Path, BidsName]]:
        """Return the files of a folder whose names and extensions sidecars have."""
        if folder not in self._sidecars:
            files = {file for group in self.files(folder).values() for file in group}
            named = [(file, bids_name(file)) for file in sorted(files)]
            self._sidecars[folder] = [
                (file, name) for file, name in named if name and name.extension in SIDECARS
            ]
        return self._sidecars[folder]

    def is_top(self, folder: Path) -> bool:
        """Tell whether a folder is the root of a BIDS tree."""
        if folder not in self._tops:
            self._tops[folder] = (self.root / folder / DESCRIPTION).is_file()
        return self._tops[folder]


def companions(root: Path, path: str, folders: Folders | None = None) -> list[str]:
    """Return the files that belong to a recording; no file is opened.

    Parameters
    ----------
    root : Path
        Folder that paths are relative to.
    path : str
        The file of the recording.
    folders : Folders, optional
        Listings to share between the recordings of a study.

    Returns
    -------
    list of str
        Relative like `path`, sorted: files of the same name with other extensions (samples and
        markers of BrainVision, data of EEGLAB, JSON), and in a BIDS tree the sidecars that hold
        for it, those above its folder among them. The table of participants is left out: a new
        subject must not concern the others.
    """
    folders = folders or Folders(root)
    given = Path(path)
    extension = next((e for e in LONG_EXTENSIONS if given.name.endswith(e)), given.suffix)
    start = given.name.removesuffix(extension)
    found = list(folders.files(given.parent).get(start, ()))
    name = bids_name(given)
    if name is not None and "sub" in name.entities:
        found += [f for folder in _tree(folders, given) for f in _sidecars(folders, folder, name)]
    return sorted({str(file) for file in found} - {path})


def _tree(folders: Folders, given: Path) -> list[Path]:
    """Return the folders from that of the file up to the root of its BIDS tree."""
    above = list(given.parents)[:LEVELS]
    tops = [k for k, folder in enumerate(above) if folders.is_top(folder)]
    return above[: tops[0] + 1] if tops else []


def _sidecars(folders: Folders, folder: Path, of: BidsName) -> Iterator[Path]:
    for file, name in folders.sidecars(folder):
        known = name.suffix in SIDECARS[name.extension]
        same = name.suffix == of.suffix and name.extension == ".json"
        stated = {key: value for key, value in name.entities.items() if key not in FREE}
        if (known or same) and stated.items() <= of.entities.items():
            yield file
