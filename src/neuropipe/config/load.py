"""Read, merge and check the configuration; report every problem at once, with a remedy."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from neuropipe.config.models import StudyConfig
from neuropipe.config.shipped import shipped
from neuropipe.errors import ConfigError, MissingInput

__all__ = [
    "check_model",
    "merge",
    "presets",
    "read_yaml",
    "set_key",
    "validate_study",
    "with_preset",
]

_TEMPLATE_KEY = "__use_yte__"
_EMPTY_WORDS = {"", "none", "nan", "null", "~"}


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is an error, not a silent override."""


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, (list, dict)):
            continue
        if key in seen:
            line = key_node.start_mark.line + 1
            raise ConfigError(f"line {line}: the key {key!r} stands twice; keep one")
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises
    ------
    MissingInput
        If the file does not exist.
    ConfigError
        If it is not YAML, not a mapping, holds a key twice, or is a template that runs code.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder, expected a YAML file")
    if not path.is_file():
        raise MissingInput(f"{path}: no such file. `neuropipe init FOLDER` writes a new study")
    try:
        value = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_UniqueKeyLoader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        tabs = "; YAML takes no tabs, indent with spaces" if "\\t" in str(error) else ""
        raise ConfigError(f"{path}: not valid YAML: {error}{tabs}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: holds {type(value).__name__}, expected `key: value` lines")
    if _TEMPLATE_KEY in value:
        raise ConfigError(
            f"{path}: {_TEMPLATE_KEY}: lets Snakemake run the Python code in the file, which "
            "may be a stranger's; leave the key out and write the values themselves"
        )
    return value


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on top, mapping by mapping; lists and scalars replace."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        merged[key] = value
    return merged


def set_key(config: dict[str, Any], assignment: str) -> None:
    """Apply ``a.b.c=value`` to a nested mapping; the value is read as YAML.

    Raises
    ------
    ConfigError
        If the text is not of that form.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as analyses.ntf.rank=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {assignment}: the value is not valid YAML: {error}") from error
    *parents, last = key.strip().split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
        if not isinstance(config, dict):
            raise ConfigError(f"--set {assignment}: {parent} holds no keys")
    config[last] = value


def presets() -> dict[str, Path]:
    """Return the shipped presets by name."""
    return {path.stem: path for path in sorted(shipped("config/presets").glob("*.yaml"))}


def with_preset(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the configuration laid over its preset.

    A section ``analyses`` of the user selects the analyses; the preset then only fills their keys.
    """
    name = raw.get("preset")
    if not isinstance(name, str):
        return dict(raw)
    known = presets()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        raise ConfigError(f"{where}: preset: {name!r} is unknown. {hint}")
    preset = read_yaml(known[name])
    chosen = raw.get("analyses")
    if isinstance(chosen, Mapping) and isinstance(preset.get("analyses"), Mapping):
        fill = preset["analyses"]
        preset["analyses"] = {label: fill[label] for label in chosen if label in fill}
    return merge(preset, raw)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return [m for part in typing.get_args(annotation) for m in _models_in(part)]
    return []


def _known_keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the keys allowed at a location of a model."""
    candidates = [model]
    for step in location:
        candidates = [
            inner
            for candidate in candidates
            if str(step) in candidate.model_fields
            for inner in _models_in(candidate.model_fields[str(step)].annotation)
        ]
    return [key for candidate in candidates for key in candidate.model_fields]


def _holds(value: Any, step: str | int) -> bool:
    if isinstance(value, Mapping):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)


def _in_value(location: Sequence[str | int], value: Any) -> list[str | int]:
    """Drop the parts of a pydantic location that name union members, not keys of the value."""
    kept: list[str | int] = []
    for step in location:
        if _holds(value, step):
            value = value[step]
            kept.append(step)
        elif isinstance(value, Mapping) and not _is_type_tag(step):
            return [*kept, step]
    return kept


def _is_type_tag(step: str | int) -> bool:
    """Tell whether a location part is a type tag of pydantic, such as ``list[int]``."""
    text = str(step)
    tags = ("literal", "list", "tuple", "int", "float", "str", "bool", "constrained", "function")
    return text.startswith(tags) or text[:1].isupper()


# Words of JSON in messages of pydantic -> those of YAML.
_YAML_WORDS = {"a valid array": "a list", "an object": "`key: value` lines",
               "a valid dictionary": "`key: value` lines"}  # fmt: skip

_MAPPING_ERRORS = ("model_type", "model_attributes_type", "dict_type")


def _sentence(error: Mapping[str, Any]) -> str:
    found = error.get("input")
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        if isinstance(found, list):
            return f"holds too few values, found {json.dumps(found, default=str)}"
        return "is missing; it has no default"
    for word, plain in _YAML_WORDS.items():
        text = text.replace(word, plain)
    sentence = f"{text[0].lower()}{text[1:]}, found {json.dumps(found, default=str)}"
    if isinstance(found, str) and found.strip().lower() in _EMPTY_WORDS:
        sentence += ". Write null (no quotes) where the key may be off, else a value"
    elif isinstance(found, str):
        try:
            float(found)
            sentence += ". Write a number without quotes, with a point before an exponent (1.0e-5)"
        except ValueError:
            pass
    return sentence


def _problem(model: type[BaseModel], prefix: str, path: list[str | int], errors: list[Any]) -> str:
    dotted = ".".join(str(part) for part in (*filter(None, [prefix]), *path))
    first = errors[0]
    if first["type"] == "extra_forbidden":
        keys = _known_keys(model, path[:-1])
        close = difflib.get_close_matches(str(path[-1]), keys, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known keys: {', '.join(sorted(keys))}."
        return f"{dotted}: unknown key. {hint}"
    text = f"{dotted}: " + "; or: ".join(dict.fromkeys(_sentence(error) for error in errors))
    keys = _known_keys(model, path) if first["type"] in _MAPPING_ERRORS else []
    return f"{text}. Keys: {', '.join(keys)}" if keys else text


def check_model(
    model: type[BaseModel], raw: Any, prefix: str = ""
) -> tuple[BaseModel | None, list[str]]:
    """Validate plain values against a model.

    Parameters
    ----------
    model : type
        Pydantic model.
    raw : object
        Values as read from YAML.
    prefix : str
        Dotted key of `raw` in the file, for the messages.

    Returns
    -------
    tuple
        The validated model, or None, and one message per problem:
        ``key.path: the rule broken, the value found. The remedy``.
    """
    try:
        return model.model_validate_json(json.dumps(raw, default=str)), []
    except ValidationError as invalid:
        grouped: dict[tuple[str | int, ...], list[Any]] = {}
        for error in invalid.errors(include_url=False):
            grouped.setdefault(tuple(_in_value(error["loc"], raw)), []).append(error)
        told = _without_other_forms(grouped)
        return None, [_problem(model, prefix, list(k), errors) for k, errors in told.items()]


def _without_other_forms(
    grouped: Mapping[tuple[str | int, ...], list[Any]],
) -> dict[tuple[str | int, ...], list[Any]]:
    """Leave out that a value is not of the other forms that its key takes, such as a list.

    Where one form fits and its value is wrong, only that is of use.
    """

    def deeper(path: tuple[str | int, ...]) -> bool:
        return any(len(other) > len(path) and other[: len(path)] == path for other in grouped)

    told = {}
    for path, errors in grouped.items():
        of_value = [error for error in errors if not error["type"].endswith("_type")]
        if of_value or not deeper(path):
            told[path] = of_value or errors
    return told


def validate_study(raw: Mapping[str, Any], where: str) -> tuple[StudyConfig | None, list[str]]:
    """Validate everything but the analyses; messages start with the file's name."""
    core = {key: value for key, value in raw.items() if key != "analyses"}
    config, problems = check_model(StudyConfig, core)
    analyses = raw.get("analyses")
    if analyses is not None and not isinstance(analyses, Mapping):
        problems.append(f"analyses: expected `label: settings` lines, found {analyses!r}")
    if config is not None and isinstance(analyses, Mapping):
        config = config.model_copy(update={"analyses": dict(analyses)})
    checked = None if problems else typing.cast("StudyConfig | None", config)
    return checked, [f"{where}: {text}" for text in problems]
