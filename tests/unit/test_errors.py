"""Errors say what happened, where and what to do; issues survive JSON."""

from __future__ import annotations

import pytest

from neuropipe.errors import (
    ConfigError,
    DataError,
    IngestError,
    Issue,
    MissingDependency,
    MissingInput,
    UserError,
    issues_from_json,
    issues_to_json,
)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ConfigError, ValueError),
        (DataError, ValueError),
        (MissingInput, FileNotFoundError),
        (MissingDependency, ImportError),
    ],
)
def test_user_errors_are_also_the_builtin_that_notebooks_expect(error, builtin):
    assert issubclass(error, builtin)
    assert issubclass(error, UserError)


def test_ingest_error_names_code_path_message_and_hint():
    error = IngestError("TRUNCATED", "a.h5", "3 bytes, expected 9", "copy it again")
    assert str(error) == "TRUNCATED: a.h5: 3 bytes, expected 9 (copy it again)"
    assert isinstance(error, DataError)


def test_issues_survive_json():
    issues = [Issue("A", "x", "m", "h", "info"), Issue("Ü", "", "<b>")]
    assert issues_from_json(issues_to_json(issues)) == issues
    assert issues_from_json("") == []
