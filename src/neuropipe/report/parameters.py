"""Settings of a run as rows: value, default, description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from neuropipe.study import Run

__all__ = ["Parameter", "Row", "differing_settings", "run_parameters"]


@dataclass(frozen=True)
class Parameter:
    """One key of the settings or of the ``input:`` block."""

    key: str
    value: str
    default: str
    description: str

    @property
    def changed(self) -> bool:
        """Tell whether the value is not the default."""
        return self.value != self.default


@dataclass(frozen=True)
class Row:
    """A name and one text per column."""

    name: str
    cells: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Tell whether the cells are not all equal."""
        return len(set(self.cells)) > 1


def _show(value: Any) -> str:
    if isinstance(value, str):
        return value if value else '""'
    return json.dumps(value, ensure_ascii=False)


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return nested mappings as dotted keys; lists and empty mappings are values."""
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= _flat(item, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: _show(value)} if prefix else {}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _defaults(model: type[BaseModel]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        if not field.is_required():
            found |= _flat({name: _plain(field.get_default(call_default_factory=True))})
    return found


def _descriptions(model: BaseModel, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, field in type(model).model_fields.items():
        key = f"{prefix}{name}"
        found[key] = field.description or ""
        value = getattr(model, name, None)
        if isinstance(value, BaseModel):
            found |= _descriptions(value, f"{key}.")
    return found


def _parameters(model: BaseModel, prefix: str = "") -> list[Parameter]:
    values, defaults = _flat(_plain(model)), _defaults(type(model))
    texts = _descriptions(model)
    return [
        Parameter(
            prefix + key,
            value,
            defaults.get(key, ""),
            texts.get(key) or texts.get(key.partition(".")[0], ""),
        )
        for key, value in values.items()
    ]


def run_parameters(run: Run) -> tuple[Parameter, ...]:
    """Return every key of a run, those that differ from their default first."""
    found = [*_parameters(run.settings), *_parameters(run.input, "input.")]
    # The scope is filled in when the study is read: its default is the analysis' first.
    found = [
        Parameter(p.key, p.value, run.analysis.scopes[0], p.description)
        if p.key == "input.scope"
        else p
        for p in found
    ]
    return tuple(sorted(found, key=lambda parameter: not parameter.changed))


def differing_settings(runs: Sequence[Run]) -> tuple[Row, ...]:
    """Return the keys in which runs of one analysis differ, one cell per run."""
    tables = [{p.key: p.value for p in run_parameters(run)} for run in runs]
    keys = dict.fromkeys(key for table in tables for key in table)
    rows = [Row(key, tuple(table.get(key, "") for table in tables)) for key in keys]
    return tuple(row for row in rows if row.differs)
