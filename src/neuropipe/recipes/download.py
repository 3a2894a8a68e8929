"""Downloads that resume, are held against published checksums, and never leave their folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.errors import DataError, MissingInput, NeuropipeError

if TYPE_CHECKING:
    from neuropipe.recipes.recipe import Recipe, RecipeFile

__all__ = ["DownloadError", "Fetched", "fetch_files"]

logger = logging.getLogger(__name__)

# What is lost of a connection that breaks off: at most one chunk.
CHUNK = 1 << 16
TIMEOUT_S = 60.0
ATTEMPTS = 5
# Answers after which a later try may go well.
PASSING = (408, 425, 429, 500, 502, 503, 504)
PARTIAL, NO_SUCH_RANGE, GONE = 206, 416, (404, 410)
RECORD = "checksums.json"


class DownloadError(NeuropipeError):
    """The archive could not be reached, or did not send what it announced."""


@dataclass(frozen=True)
class Fetched:
    """What came of one file.

    Attributes
    ----------
    path : str
        Relative to the folder of the downloads.
    state : str
        ``fetched``, ``present`` (it lay there, and was checked) or ``absent`` (optional).
    sha256 : str
        Hash of what lies there now.
    verified : bool
        It was held against a published checksum; else only against one recorded earlier.
    """

    path: str
    state: str
    sha256: str = ""
    verified: bool = False


class _Resuming:
    """A downloader for pooch that goes on where an earlier one ended.

    The bytes so far lie beside the target as ``<name>.part``, the ``ETag`` that they belong to
    beside them: with ``If-Range`` a server sends the rest only of the same file.
    """

    def __init__(self, part: Path, size: int | None, pause_s: float) -> None:
        self._part, self._size, self._pause = part, size, pause_s
        self._tag = part.with_name(f"{part.name}.etag")

    def __call__(self, url: str, output_file: Any, pooch: Any, check_only: bool = False) -> None:
        """Download into the part, then move it to where pooch wants it."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._go_on(url)
                break
            except _LaterError as error:
                if attempt == ATTEMPTS:
                    text = f"{url}: {error}; gave up after {ATTEMPTS} tries, fetch again to resume"
                    raise DownloadError(text) from error
                logger.warning("%s: %s; try %d of %d", url, error, attempt + 1, ATTEMPTS)
                time.sleep(self._pause * 2 ** (attempt - 1))
        self._tag.unlink(missing_ok=True)
        self._part.replace(output_file)

    def _go_on(self, url: str) -> None:
        import requests

        have = self._part.stat().st_size if self._part.exists() else 0
        known = self._tag.read_text() if self._tag.exists() else ""
        headers = {"Accept-Encoding": "identity"}
        if have and known:
            headers |= {"Range": f"bytes={have}-", "If-Range": known}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
                self._take(answer, url, have if "Range" in headers else 0)
        except requests.RequestException as error:
            raise _LaterError(f"{type(error).__name__}: {error}") from error

    def _take(self, answer: Any, url: str, have: int) -> None:
        if answer.status_code in GONE:
            raise MissingInput(f"{url}: the archive has no such file ({answer.status_code})")
        if answer.status_code == NO_SUCH_RANGE:  # the part is as long as the file, or longer
            self._part.unlink(missing_ok=True)
            raise _LaterError("the part that was there does not fit the file; from the start")
        if answer.status_code in PASSING:
            raise _LaterError(f"the server answers {answer.status_code} {answer.reason}")
        if not answer.ok:
            text = f"{url}: the server answers {answer.status_code} {answer.reason}"
            raise DownloadError(f"{text}; is the address in the recipe still right?")
        go_on = have > 0 and answer.status_code == PARTIAL
        tag = answer.headers.get("ETag", "")
        # A weak tag does not promise equal bytes.
        is_strong = tag and not tag.startswith("W/")
        self._tag.write_text(tag if is_strong else answer.headers.get("Last-Modified", ""))
        with self._part.open("ab" if go_on else "wb") as stream:
            for chunk in answer.iter_content(CHUNK):
                stream.write(chunk)
        self._check_length(answer, have if go_on else 0)

    def _check_length(self, answer: Any, before: int) -> None:
        """Raise when the connection ended early; the part stays, to go on from."""
        have = self._part.stat().st_size
        announced = answer.headers.get("Content-Length")
        wanted = self._size if announced is None else before + int(announced)
        if wanted is not None and have < wanted:
            raise _LaterError(f"the connection ended after {have} of {wanted} bytes")


class _LaterError(Exception):
    """A fault that another try may mend."""


def _target(folder: Path, file: RecipeFile) -> Path:
    """Return where a file goes, links followed; it must lie in the folder.

    Raises
    ------
    DataError
        If a link in the folder leads elsewhere.
    """
    path = folder / file.path
    for suffix in ("", ".part", ".part.etag"):
        beside = path.with_name(f"{path.name}{suffix}")
        if not beside.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{beside}: a link leads out of {folder}; nothing is written there")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _recorded(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def fetch_files(
    recipe: Recipe,
    folder: Path,
    *,
    pause_s: float = 1.0,
    told: Callable[[Fetched], None] = lambda _: None,
) -> list[Fetched]:
    """Download the files of a recipe; what is there and whole is not fetched again.

    Parameters
    ----------
    recipe : Recipe
        Files, addresses and published checksums.
    folder : Path
        Folder to write into; nothing is written elsewhere.
    pause_s : float
        Pause before the second try of a file, doubled for each further one.
    told : callable
        Called with each file as it is done.

    Returns
    -------
    list of Fetched

    Raises
    ------
    MissingInput
        The archive has no such file.
    DataError
        A checksum or a size is not the published one, or a link leads out of the folder; the
        file is not left under its name.
    DownloadError
        The archive could not be reached; what came so far is kept, and fetching again goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recorded = _recorded(folder)
    done = []
    for file in _in_order(recipe):
        fetched = _fetch_one(recipe, file, folder, recorded.get(file.path), pause_s)
        if fetched.sha256:
            recorded[file.path] = fetched.sha256
            text = json.dumps(recorded, indent=1, sort_keys=True)
            (folder / RECORD).write_text(f"{text}\n", encoding="utf-8")
        done.append(fetched)
        told(fetched)
    return done


def _in_order(recipe: Recipe) -> Iterator[RecipeFile]:
    """Yield small files first: a wrong recipe then shows before hours of download."""
    yield from sorted(recipe.files, key=lambda file: (file.size or 0, file.path))


def _fetch_one(
    recipe: Recipe, file: RecipeFile, folder: Path, recorded: str | None, pause_s: float
) -> Fetched:
    import pooch

    path = _target(folder, file)
    published = file.known_hash
    wanted = published or (f"sha256:{recorded}" if recorded else None)
    was_there = path.is_file() and (wanted is None or pooch.hashes.hash_matches(path, wanted))
    if not was_there:
        pooch.get_logger().setLevel(logging.WARNING)
        if published is None:  # pooch would believe whatever lies there
            path.unlink(missing_ok=True)
        part = path.with_name(f"{path.name}.part")
        try:
            pooch.retrieve(
                recipe.url_of(file), known_hash=published, fname=path.name, path=path.parent,
                downloader=_Resuming(part, file.size, pause_s),
            )  # fmt: skip
        except MissingInput:
            if not file.optional:
                raise
            return Fetched(file.path, "absent")
        except ValueError as error:
            # pooch has removed what it does not believe.
            text = f"{path}: the checksum is not the published one ({published})"
            raise DataError(f"{text}; fetch again, or ask the archive what changed") from error
    _check_size(path, file)
    sha256 = pooch.file_hash(str(path), alg="sha256")
    return Fetched(file.path, "present" if was_there else "fetched", sha256, published is not None)


def _check_size(path: Path, file: RecipeFile) -> None:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        path.unlink()
        text = f"{path}: {size} bytes, the archive states {file.size}"
        raise DataError(f"{text}; fetch again, or ask the archive what changed")
