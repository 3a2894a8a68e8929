"""A recipe: accession, licence, files and what to expect of a public study."""

from __future__ import annotations

import difflib
import re
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from neuropipe.config.load import read_yaml
from neuropipe.config.models import StrictModel
from neuropipe.config.shipped import shipped
from neuropipe.errors import ConfigError, MissingInput

__all__ = ["Recipe", "RecipeFile", "find_recipe", "recipe_folders"]

RECIPE_FILE = "recipe.yaml"
STUDY_FILES = ("config.yaml", "recordings.tsv")
_SCHEMES = ("https://", "http://")
_DRIVE = re.compile(r"^[A-Za-z]:")


def check_inside(path: str) -> str:
    """Return a relative path that stays below its folder.

    Raises
    ------
    ValueError
        If it is absolute, empty, or leads out of the folder.
    """
    parts = PurePosixPath(path).parts
    plain = parts and not path.startswith(("/", "~")) and not _DRIVE.match(path)
    if not plain or ".." in parts or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} leads out of the folder of the study")
    return path


class RecipeFile(StrictModel):
    """One file of a public study."""

    path: str = Field(description="Where it goes, relative to the folder `raw` of the study.")
    url: str | None = Field(None, description="Where it comes from; null: `base_url` and `path`.")
    size: int | None = Field(None, ge=0, description="Bytes; null: not stated by the archive.")
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$", description="Published hash.")
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$", description="Published hash.")
    optional: bool = Field(False, description="The study can be analysed without it.")

    _inside = field_validator("path")(check_inside)

    @property
    def known_hash(self) -> str | None:
        """Return the hash as pooch writes it, None when the archive publishes none."""
        if self.sha256 is not None:
            return f"sha256:{self.sha256}"
        return None if self.md5 is None else f"md5:{self.md5}"


class Expected(StrictModel):
    """What the study holds, to compare with after it was ingested."""

    recordings: int | None = Field(None, description="Rows of the recordings table.")
    rows: dict[str, int] = Field(
        default_factory=dict, description="Recording -> units, rois, channels or voxels."
    )
    rates_hz: dict[str, float] = Field(
        default_factory=dict, description="Recording -> sampling rate."
    )
    events: dict[str, int] = Field(default_factory=dict, description="Recording -> events.")


class Recipe(StrictModel):
    """A public study."""

    title: str = Field(description="Title of the data set.")
    archive: str = Field(description="Archive that publishes it.")
    accession: str = Field(description="Accession number.")
    version: str | None = Field(description="Version; null: the archive states none.")
    licence: str | None = Field(description="Licence (SPDX); null: could not be confirmed.")
    page: str = Field(description="Page of the data set.")
    doi: str | None = Field(None, description="DOI of the data set.")
    cite: list[str] = Field(default_factory=list, description="Papers to cite.")
    size_bytes: int | None = Field(None, description="Size of the whole data set.")
    base_url: str | None = Field(None, description="What the paths of files are appended to.")
    files: list[RecipeFile] = Field(min_length=1, description="Files of this recipe.")
    expected: Expected = Field(default_factory=Expected, description="What the study holds.")
    notes: list[str] = Field(default_factory=list, description="What a user needs to know.")

    @model_validator(mode="after")
    def _check_files(self) -> Recipe:
        paths = [file.path for file in self.files]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"files: {twice[0]} stands twice")
        for file in self.files:
            if not self.url_of(file).startswith(_SCHEMES):
                raise ValueError(f"files: {file.path}: {self.url_of(file)!r} is no web address")
        return self

    def url_of(self, file: RecipeFile) -> str:
        """Return the address of a file."""
        return file.url or f"{(self.base_url or '').rstrip('/')}/{file.path}"

    @property
    def download_bytes(self) -> int | None:
        """Return the bytes of all files of the recipe, None when one is not stated."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


def recipe_folders() -> dict[str, Path]:
    """Return the folders of the shipped recipes by name, sorted."""
    found = sorted(shipped("config/recipes").glob(f"*/{RECIPE_FILE}"))
    return {path.parent.name: path.parent for path in found}


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "recipe"
        lines.append(f"{path}: {key}: {fault['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def find_recipe(name: str) -> tuple[Path, Recipe]:
    """Return folder and content of a recipe, shipped or in a folder of one's own.

    Parameters
    ----------
    name : str
        Name of a shipped recipe, or path of a folder with ``recipe.yaml``.

    Raises
    ------
    ConfigError
        If there is no such recipe, or it is not valid: every problem at once.
    MissingInput
        If a file of the recipe is absent.
    """
    known = recipe_folders()
    folder = known.get(name, Path(name))
    if not (folder / RECIPE_FILE).is_file():
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"One of {', '.join(known)}."
        raise ConfigError(f"{name}: no such recipe. {hint}")
    for file in STUDY_FILES:
        if not (folder / file).is_file():
            raise MissingInput(f"{folder / file}: no such file; a recipe needs it")
    raw: Any = read_yaml(folder / RECIPE_FILE)
    try:
        return folder, Recipe.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(folder / RECIPE_FILE, error)) from None
