"""Motifs along time, as strong as they are in one animal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuropipe.plotting.courses import joined

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.courses import Course

__all__ = ["courses"]


def courses(result: xr.Dataset, subject: str) -> list[Course]:
    """Return the time factors of all components times their strength in a subject.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis; only times that were not aligned to epochs are those of a session.
    subject : str
        Label of the subject.
    """
    if result.attrs.get("align", "absolute") == "epochs" or subject not in result["subject"].values:
        return []
    strength = result["subject_factor"].sel(subject=subject)
    values = (result["time_factor"] * strength).transpose("component", "time_bin").values
    rows = tuple(f"{k + 1}" for k in range(len(values)))
    found = joined("Motifs", result["time_bin"].values, values, rows)
    return [] if found is None else [found]
