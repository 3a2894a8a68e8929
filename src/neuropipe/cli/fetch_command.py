"""Download a public study and write the study folder that analyses it.

Downloads go on where an earlier one ended and are held against published checksums. Nothing is
written outside the folder. `neuropipe fetch --list` shows the recipes.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.errors import ConfigError, DataError

if TYPE_CHECKING:
    from neuropipe.recipes.download import Fetched
    from neuropipe.recipes.recipe import Recipe

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", nargs="?", help="name of a recipe, or a folder with recipe.yaml")
    parser.add_argument("--directory", type=Path, help="study folder to write; default: its name")
    parser.add_argument("--list", action="store_true", help="show the recipes and end")
    parser.add_argument(
        "--check", action="store_true", help="compare what was ingested with what is expected"
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="show what would be fetched")


def run(arguments: argparse.Namespace) -> int:
    """Fetch the files, then write the study."""
    from neuropipe.recipes.download import fetch_files
    from neuropipe.recipes.recipe import find_recipe

    if arguments.list:
        return _list()
    if arguments.check:
        return _check(arguments.directory or Path())
    if arguments.recipe is None:
        raise ConfigError("name a recipe; `neuropipe fetch --list` shows them")
    folder, recipe = find_recipe(arguments.recipe)
    study = arguments.directory or Path(folder.name)
    _describe(recipe, study)
    if arguments.dry_run:
        for file in recipe.files:
            print(f"{_size(file.size):>10}  {file.path}  {recipe.url_of(file)}")
        return 0
    _write_study(folder, study)
    found = fetch_files(recipe, study / "raw", told=_tell)
    unverified = sum(entry.state != "absent" and not entry.verified for entry in found)
    if unverified:
        print(
            f"{unverified} files have no published checksum; "
            "theirs are recorded in raw/checksums.json"
        )
    for note in recipe.notes:
        print(f"note: {note}")
    print(f"Next: neuropipe validate --directory {study}; neuropipe run --directory {study}")
    return 0


def _check(study: Path) -> int:
    from neuropipe.recipes.expected import compare_expected
    from neuropipe.recipes.recipe import find_recipe

    _, recipe = find_recipe(str(study / "config"))
    same, other = compare_expected(recipe, study)
    for line in same:
        print(line)
    if other:
        raise DataError("\n".join(other))
    return 0


def _list() -> int:
    from neuropipe.recipes.recipe import find_recipe, recipe_folders

    for name in recipe_folders():
        _, recipe = find_recipe(name)
        licence, size = recipe.licence or "licence not confirmed", _size(recipe.download_bytes)
        print(f"{name}: {recipe.title}")
        print(f"    {recipe.archive} {recipe.accession}, {licence}, download {size}")
    return 0


def _describe(recipe: Recipe, study: Path) -> None:
    version = f" version {recipe.version}" if recipe.version else ""
    print(f"{recipe.title}: {recipe.archive} {recipe.accession}{version}")
    print(f"licence: {recipe.licence or 'not confirmed, see ' + recipe.page}")
    for paper in recipe.cite:
        print(f"cite: {paper}")
    print(f"{len(recipe.files)} files, {_size(recipe.download_bytes)}, into {study / 'raw'}")


def _size(count: int | None) -> str:
    if count is None:
        return "size not stated"
    units = ("B", "kB", "MB", "GB")
    power = min(len(units) - 1, max(0, (len(str(count)) - 1) // 3))
    return f"{count / 1000**power:.3g} {units[power]}"


def _tell(entry: Fetched) -> None:
    print(f"{entry.state}: {entry.path}", flush=True)


def _write_study(folder: Path, study: Path) -> None:
    """Copy configuration and table; those of the user, edited after an earlier fetch, stay."""
    from neuropipe.config.schema import write_schemas
    from neuropipe.recipes.recipe import RECIPE_FILE, STUDY_FILES

    (study / "config").mkdir(parents=True, exist_ok=True)
    for name in (*STUDY_FILES, RECIPE_FILE):
        if not (study / "config" / name).exists():
            shutil.copyfile(folder / name, study / "config" / name)
    write_schemas(study / "config" / "schema")
