"""Fields that a field map names, whatever the format of the file that holds them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from neuropipe.errors import IngestError

__all__ = ["FieldSource", "no_matrix", "no_numbers", "roi_positions"]


class FieldSource(Protocol):
    """What a reader with a field map asks of a file; `hdf5_fields.Fields` says what each does."""

    def array(self, name: str) -> Any: ...  # noqa: D102

    def numbers(self, name: str) -> Any: ...  # noqa: D102

    def traces(self, name: str) -> Any: ...  # noqa: D102

    def attribute(self, name: str) -> str: ...  # noqa: D102

    def matrices(self) -> list[str]: ...  # noqa: D102

    def where(self, name: str) -> str: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102


def no_numbers(fields: FieldSource, name: str, found: object) -> IngestError:
    """Return the fault of a field that holds something else than numbers."""
    return IngestError(
        "NOT_THIS_FORMAT",
        fields.where(name),
        f"holds {found}, numbers expected",
        "correct the field map",
    )


def no_matrix(fields: FieldSource, name: str, shape: tuple[int, ...]) -> IngestError:
    """Return the fault of traces that are no matrix."""
    return IngestError(
        "LENGTH_MISMATCH",
        fields.where(name),
        f"shape {shape}, two dims expected",
        f"two-dimensional fields: {', '.join(fields.matrices()) or 'none'}",
    )


def roi_positions(fields: FieldSource, name: str | None, n_rois: int) -> np.ndarray | None:
    """Return the positions in a field, shape (n_rois, 2 or 3); None without a name.

    Raises
    ------
    IngestError
        ``LENGTH_MISMATCH``: the field has another shape, either way round.
    """
    if name is None:
        return None
    values = np.asarray(fields.numbers(name)[...], np.float64)
    if values.ndim == 2 and values.shape[0] in (2, 3) and values.shape[1] == n_rois != len(values):
        values = values.T
    if values.ndim != 2 or values.shape[0] != n_rois or values.shape[1] not in (2, 3):
        raise IngestError(
            "LENGTH_MISMATCH",
            fields.where(name),
            f"shape {values.shape}, ({n_rois}, 2) or ({n_rois}, 3) expected",
            "correct the field map",
        )
    return values
