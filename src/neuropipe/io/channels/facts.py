"""Dates and subjects as headers of channel files state them."""

from __future__ import annotations

from datetime import date, datetime

from neuropipe.errors import Issue

__all__ = ["local_start", "subject_age", "years_between"]


def local_start(started: datetime | None, path: object) -> tuple[dict[str, str], list[Issue]]:
    """Return the root attribute of a start in local time: none, and an issue that names it.

    A date without UTC offset may be off by hours, and the store accepts none.
    """
    if started is None:
        return {}, []
    text = (
        f"the header states the start {started.isoformat(timespec='seconds')} without UTC offset; "
        "not used"
    )
    hint = "fill the column `session_start`, with offset"
    return {}, [Issue("NAIVE_SESSION_START", str(path), text, hint, "info")]


def years_between(birth: date, start: date) -> str:
    """Return whole years as an ISO 8601 duration, or "" when they make no age.

    Examples
    --------
    >>> years_between(date(1990, 6, 2), date(2020, 6, 1))
    'P29Y'
    """
    years = start.year - birth.year - ((start.month, start.day) < (birth.month, birth.day))
    return f"P{years}Y" if 0 <= years <= 130 else ""


def subject_age(born: str, started: datetime | None) -> str:
    """Return the age from a date of birth such as ``02-MAY-1951``, or ""."""
    if started is None:
        return ""
    try:
        birth = datetime.strptime(born.title(), "%d-%b-%Y")
    except ValueError:
        return ""
    return years_between(birth.date(), started.date())
