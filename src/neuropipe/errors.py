"""Errors and issues: what went wrong, where, and what to do about it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = [
    "ComputationError",
    "ConfigError",
    "DataError",
    "DidNotConverge",
    "IngestError",
    "Issue",
    "MissingDependency",
    "MissingInput",
    "NeuropipeError",
    "UserError",
    "issues_from_json",
    "issues_to_json",
    "place_fault",
]

# Faults of the place, not of the program, with what to do about them.
_SPACE = "free space there, or raise the quota or the limit of file sizes"
_RIGHTS = "check the rights of the folder, and that it is not mounted read-only"
_PLACE = {
    errno.ENOSPC: _SPACE, errno.EDQUOT: _SPACE, errno.EFBIG: _SPACE,
    errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS, errno.EROFS: _RIGHTS,
}  # fmt: skip
Severity = Literal["error", "warning", "info"]


class NeuropipeError(Exception):
    """Base of every error that neuropipe raises on purpose."""


class UserError(NeuropipeError):
    """The input or the configuration is at fault; the command line exits with 2."""


class ConfigError(UserError, ValueError):
    """A key of the configuration or of the recordings table is wrong."""


class DataError(UserError, ValueError):
    """A file holds data that cannot be used as they are."""


class MissingInput(UserError, FileNotFoundError):  # noqa: N818 - names fixed by the architecture
    """A file or folder that is needed does not exist."""

    def __str__(self) -> str:
        return " ".join(str(argument) for argument in self.args)


class MissingDependency(UserError, ImportError):  # noqa: N818
    """An optional package is needed; the message names the extra that installs it."""


class ComputationError(NeuropipeError):
    """The input is fine but the computation failed; the command line exits with 1."""


class DidNotConverge(ComputationError):  # noqa: N818
    """An optimiser or a sampler ended without a usable result."""


class IngestError(DataError):
    """A recording cannot be taken in.

    Parameters
    ----------
    code : str
        Code of the error table, such as ``TRUNCATED`` or ``BAD_TIME``.
    path : str
        File (and field) at fault.
    message : str
        The value found and the value expected.
    hint : str
        What to do about it.
    """

    def __init__(self, code: str, path: object, message: str, hint: str = "") -> None:
        self.code, self.path, self.message, self.hint = code, str(path), message, hint
        super().__init__(code, self.path, message, hint)

    def __str__(self) -> str:
        text = f"{self.code}: {self.path}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


@dataclass(frozen=True)
class Issue:
    """Something that a reader of the results should know, short of an error.

    Attributes
    ----------
    code : str
        Short upper-case code, such as ``AMBIGUOUS_LABEL``.
    path : str
        File, field or row concerned.
    message : str
        What was found.
    hint : str
        What to do about it.
    severity : {"error", "warning", "info"}
        How much it matters.
    """

    code: str
    path: str
    message: str
    hint: str = ""
    severity: Severity = "warning"


def place_fault(error: OSError) -> UserError | None:
    """Return what to tell of a disk that refuses to be written; None for any other fault.

    Examples
    --------
    >>> str(place_fault(OSError(errno.EROFS, "Read-only file system", "a.nc")))[:40]
    'NOT_WRITABLE: a.nc: Read-only file syste'
    """
    if error.errno not in _PLACE:
        return None
    where = "the study folder" if error.filename is None else error.filename
    # The words of the system: HDF5 puts its own, with addresses, into the error.
    what = os.strerror(error.errno)
    hint = f"{_PLACE[error.errno]}, then run again: what is finished stays"
    return UserError(f"NOT_WRITABLE: {where}: {what}; {hint}")


def issues_to_json(issues: Iterable[Issue]) -> str:
    """Return issues as a JSON array, in the order given."""
    return json.dumps([asdict(issue) for issue in issues], ensure_ascii=False)


def issues_from_json(text: str) -> list[Issue]:
    """Return the issues held in a JSON array written by `issues_to_json`."""
    return [Issue(**entry) for entry in json.loads(text or "[]")]
