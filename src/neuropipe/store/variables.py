"""Attributes and text in the one form that all files of a store can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.errors import DataError

__all__ = [
    "clean_dataset",
    "decode_attrs",
    "decode_value",
    "encode_attrs",
    "encode_value",
    "is_text",
    "plain_attrs",
]

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# Before text that spells one of these numbers: a subject may be called NaN.
ESCAPE = "\\"
TEXT_KINDS = "OUTS"
NUMBER_KINDS = "biuf"


def is_text(dtype: np.dtype) -> bool:
    """Say whether values of this dtype are text."""
    return np.dtype(dtype).kind in TEXT_KINDS


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None:
        return ""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, where) for entry in value]
    kind = type(value).__name__
    raise DataError(f"{where}: a {kind} cannot be an attribute; use text, numbers or lists of them")


def plain_attrs(attrs: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return attributes as JSON values; None becomes "".

    Raises
    ------
    DataError
        If a value has no JSON form.
    """
    return {str(key): _plain(value, f"{where} attribute {key}") for key, value in attrs.items()}


def encode_value(value: Any) -> Any:
    """Return a plain value as strict JSON: NaN and infinities as the words that Zarr uses."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, str) and value.lstrip(ESCAPE) in NON_FINITE:
        return ESCAPE + value
    if isinstance(value, list):
        return [encode_value(entry) for entry in value]
    if isinstance(value, dict):
        return {key: encode_value(entry) for key, entry in value.items()}
    return value


def decode_value(value: Any) -> Any:
    """Return what `encode_value` was given."""
    if isinstance(value, str):
        is_escaped = value.startswith(ESCAPE) and value.lstrip(ESCAPE) in NON_FINITE
        return value[1:] if is_escaped else NON_FINITE.get(value, value)
    if isinstance(value, list):
        return [decode_value(entry) for entry in value]
    if isinstance(value, dict):
        return {key: decode_value(entry) for key, entry in value.items()}
    return value


def encode_attrs(attrs: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return attributes as strict JSON: NaN and infinities as the words that Zarr uses.

    A bare NaN token makes the metadata unreadable to every JSON parser but Python's.
    """
    return {key: encode_value(value) for key, value in plain_attrs(attrs, where).items()}


def decode_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with the words of `encode_attrs` turned back into numbers."""
    return {key: decode_value(value) for key, value in attrs.items()}


def _clean_text(variable: xr.Variable, where: str) -> xr.Variable:
    values = np.empty(variable.shape, dtype=object)
    for index, value in np.ndenumerate(np.asarray(variable.values, dtype=object)):
        if value is None or (isinstance(value, float) and math.isnan(value)):
            value = ""
        elif isinstance(value, bytes):
            value = value.decode("utf-8")
        if not isinstance(value, str):
            kind = type(value).__name__
            raise DataError(
                f"{where}: holds a {kind} ({value!r}); expected text or one number type"
            )
        values[index] = value
    return xr.Variable(variable.dims, values, variable.attrs)


def _clean_variable(variable: xr.Variable, where: str) -> xr.Variable:
    variable = variable.to_base_variable()
    dtype = variable.dtype
    if not isinstance(dtype, np.dtype):
        variable = xr.Variable(variable.dims, np.asarray(variable.values), variable.attrs)
        dtype = variable.dtype
    if is_text(dtype):
        variable = _clean_text(variable, where)
    elif dtype.kind not in NUMBER_KINDS:
        raise DataError(f"{where}: dtype {dtype} cannot be stored; expected numbers, bool or text")
    return variable


def clean_dataset(ds: xr.Dataset, where: str) -> xr.Dataset:
    """Return a dataset of numbers, bool and object text only, with JSON attributes.

    Missing text becomes ""; lazily loaded numbers stay lazy, coordinates too: there are no
    indexes.

    Raises
    ------
    DataError
        If a variable is neither number nor bool nor text.
    """
    variables = {}
    for name, variable in ds.variables.items():
        if "/" in str(name) or (name in ds.coords and len(str(name).split()) != 1):
            rule = "slashes" if "/" in str(name) else "blanks in the name of a coordinate"
            raise DataError(f"{where}: variable {name!r}: {rule} cannot be stored; rename it")
        cleaned = _clean_variable(variable, f"{where}/{name}")
        cleaned.attrs = plain_attrs(variable.attrs, f"{where}/{name}")
        variables[name] = cleaned
    data = {name: variables[name] for name in ds.data_vars}
    coords = xr.Coordinates({name: variables[name] for name in ds.coords}, indexes={})
    return xr.Dataset(data, coords, plain_attrs(ds.attrs, where))
