"""A commented configuration, written from the models: every key, default, unit and meaning."""

from __future__ import annotations

import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from neuropipe.config.models import StudyConfig

__all__ = ["config_template", "settings_rows"]

_WIDTH = 96
_TOP = (
    "# yaml-language-server: $schema=schema/config.schema.json\n"
    "# Every key, its meaning and its default. To change one, remove the # before it and before\n"
    "# the keys that it stands under.\n"
)


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model of a field that holds keys by default."""
    default = field.get_default(call_default_factory=True)
    return type(default) if isinstance(default, BaseModel) else None


def _yaml_value(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def _choices(annotation: Any) -> list[str]:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return [str(value) for value in typing.get_args(annotation)]
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return [text for part in typing.get_args(annotation) for text in _choices(part)]
    return []


def _meaning(field: FieldInfo) -> str:
    """Return the description of a key, and the words to choose from if it takes some."""
    choices = _choices(field.annotation)
    words = f" One of {', '.join(choices)}." if len(choices) > 1 else ""
    return (field.description or "") + words


def _comment(field: FieldInfo, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(_meaning(field), _WIDTH - len(indent)):
        yield f"{indent}# {line}"


def _model_lines(
    model: type[BaseModel], given: Mapping[str, Any], indent: str, active: bool
) -> Iterator[str]:
    fields = sorted(model.model_fields.items(), key=lambda item: item[0] not in ("use", "input"))
    for name, field in fields:
        yield from _field_lines(name, field, given, indent, active)


def _field_lines(
    name: str, field: FieldInfo, given: Mapping[str, Any], indent: str = "", active: bool = True
) -> Iterator[str]:
    """Return the comment of a key, then the key: active when given, else behind ``#``."""
    nested, value, on = _nested(field), given.get(name), active and name in given
    mark = "" if on else "#"
    yield from _comment(field, indent)
    if nested is not None and (value is None or isinstance(value, Mapping)):
        yield f"{indent}{mark}{name}:"
        yield from _model_lines(nested, value or {}, f"{indent}  ", on)
    elif on:
        yield f"{indent}{name}: {_yaml_value(value)}"
    else:
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        yield f"{indent}{mark}{name}: {_yaml_value(default)}"


def config_template(given: Mapping[str, Any]) -> str:
    """Return ``config.yaml`` with the given keys set and every other key as a comment.

    Parameters
    ----------
    given : mapping
        Keys to write as active lines, such as ``{"study": "pilot", "analyses": {"ntf": {}}}``.
    """
    from neuropipe.analyses.registry import analyses
    from neuropipe.study import section_model

    lines = [_TOP]
    for name, field in StudyConfig.model_fields.items():
        if name == "analyses":
            lines += [
                "# Analyses to run, by label; `{}` = all defaults. `neuropipe list` names them,",
                "# `neuropipe list NAME` shows the settings of one.",
            ]
            lines.append("analyses:" if given.get("analyses") else "analyses: {}")
            for label, block in (given.get("analyses") or {}).items():
                analysis = analyses()[(block or {}).get("use") or label]
                lines.append(f"  # {analysis.title}")
                lines.append(f"  {label}:")
                lines += _model_lines(section_model(analysis), block or {}, "    ", True)
            continue
        lines += [*_field_lines(name, field, given), ""]
    return "\n".join(lines) + "\n"


def _blocks(annotation: Any, part: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the models that a key may hold, with ``[]`` or ``.NAME`` for its members."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield part, annotation
    origin = typing.get_origin(annotation)
    member = {list: "[]", dict: ".NAME"}.get(origin, "")
    for inner in typing.get_args(annotation):
        yield from _blocks(inner, part + member)


def settings_rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield ``(key, default, description)`` of every setting, for the documentation.

    Keys of blocks that a key may hold follow it, though its default holds none; ``models[].name``
    is the key ``name`` of each member of the list ``models``.

    Parameters
    ----------
    model : type
        Pydantic model.
    prefix : str
        Dotted key of the model.
    """
    for name, field in model.model_fields.items():
        key, nested = f"{prefix}{name}", _nested(field)
        if nested is not None:
            yield from settings_rows(nested, f"{key}.")
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            text = "required" if field.is_required() else json.dumps(default, default=str)
            yield key, text, _meaning(field)
            for part, inside in _blocks(field.annotation):
                yield from settings_rows(inside, f"{key}{part}.")
