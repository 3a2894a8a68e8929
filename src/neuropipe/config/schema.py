"""JSON schema of the configuration, for completion and hover help in an editor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from neuropipe.config.models import StudyConfig
from neuropipe.config.recordings import COLUMNS, MODALITIES, REQUIRED
from neuropipe.store.atomic import write_text

__all__ = ["config_schema", "recordings_schema", "write_schemas"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> dict[str, Any]:
    """Return the schema of ``config.yaml``, every installed analysis included."""
    from neuropipe.analyses.registry import analyses
    from neuropipe.study import section_model

    schema = StudyConfig.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    sections: dict[str, Any] = {}
    variants = []
    for name, analysis in analyses().items():
        section = section_model(analysis).model_json_schema()
        definitions |= section.pop("$defs", {})
        section |= {"title": analysis.title, "description": f"Settings of {name}."}
        definitions[f"analysis_{name}"] = section
        reference = {"$ref": f"#/$defs/analysis_{name}"}
        sections[name] = {"anyOf": [reference, {"type": "null"}]}
        use = {"properties": {"use": {"const": name}}, "required": ["use"]}
        variants.append({"allOf": [reference, use]})
    schema["properties"]["analyses"] = {
        "type": "object",
        "description": "Analyses to run, by label; `{}` = all defaults. `neuropipe list NAME` "
        "shows the settings of one.",
        "properties": sections,
        "additionalProperties": {"anyOf": variants},
    }
    schema["$schema"] = _DIALECT
    schema["title"] = "neuropipe study"
    return schema


def recordings_schema() -> dict[str, Any]:
    """Return the schema of one row of the recordings table."""
    properties: dict[str, Any] = {column: {"type": "string"} for column in COLUMNS}
    properties["modality"] = {"enum": list(MODALITIES)}
    properties["exclude"] = {"enum": ["", "true", "false", "yes", "no", "1", "0"]}
    return {
        "$schema": _DIALECT,
        "title": "recordings table, one row per recording",
        "type": "object",
        "properties": properties,
        "required": list(REQUIRED),
        "additionalProperties": {"type": "string"},
    }


def write_schemas(folder: Path) -> None:
    """Write ``config.schema.json`` and ``recordings.schema.json``."""
    schemas = {"config": config_schema(), "recordings": recordings_schema()}
    for name, schema in schemas.items():
        text = json.dumps(schema, indent=2, sort_keys=True) + "\n"
        write_text(folder / f"{name}.schema.json", text)


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
