"""The record, inside an NWB file, of which dataset holds which variable of the store.

NWB has no place for dims, dtypes of masks, attributes of variables or root attributes. They go, as
one JSON text, into ``/scratch/neuropipe``; values are never there but in their standard places.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.store.variables import decode_attrs, encode_attrs, is_text

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MANIFEST_NAME", "Manifest", "dtype_word"]

MANIFEST_NAME = "neuropipe"
MANIFEST_VERSION = 1


def dtype_word(dtype: np.dtype) -> str:
    """Return the name of a dtype, ``text`` for every kind of text."""
    return "text" if is_text(dtype) else np.dtype(dtype).name


class Manifest:
    """Where each variable of each group lies in the file.

    A place is a mapping: ``path`` (a dataset), ``columns`` (datasets that become the last dim),
    ``value`` (small enough to stand in the record itself), or a clock (``start``, ``formula``).
    """

    def __init__(self, groups: dict[str, dict[str, Any]] | None = None) -> None:
        self.groups: dict[str, dict[str, Any]] = groups or {}

    def add_group(self, path: str, ds: xr.Dataset) -> None:
        """Describe a group and its variables; places come later."""
        self.groups[path] = {
            "attrs": encode_attrs(ds.attrs, path),
            "variables": {
                str(name): {
                    "dims": list(variable.dims),
                    "shape": list(variable.shape),
                    "dtype": dtype_word(variable.dtype),
                    "attrs": encode_attrs(variable.attrs, f"{path}/{name}"),
                    "coord": name in ds.coords,
                }
                for name, variable in ds.variables.items()
            },
        }

    def place(self, group: str, name: str, place: Mapping[str, Any]) -> None:
        """Note where a variable lies; the first place counts."""
        self.groups[group]["variables"][name].setdefault("place", dict(place))

    def homeless(self, group: str) -> list[str]:
        """Return the variables of a group without a place."""
        variables = self.groups[group]["variables"]
        return [name for name, entry in variables.items() if "place" not in entry]

    def attrs(self, group: str) -> dict[str, Any]:
        """Return the attributes of a group."""
        return decode_attrs(self.groups[group]["attrs"])

    def to_json(self) -> str:
        """Return the record as strict JSON."""
        content = {"version": MANIFEST_VERSION, "groups": self.groups}
        return json.dumps(content, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Return the record that `to_json` wrote.

        Raises
        ------
        ValueError
            If the text is no such record.
        """
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("version") != MANIFEST_VERSION:
            raise ValueError(f"expected a record of version {MANIFEST_VERSION}")
        return cls(content["groups"])
