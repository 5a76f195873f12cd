"""JSON Schema of a study, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter

from nasplug.config.models import StudyConfig

__all__ = ["json_schema"]


Offers = Mapping[str, Mapping[str, tuple[type[BaseModel], str]]]
"""Kind -> name -> the model of its options, and what it is in one line (`nasplug.plugins.Plugins.models`)."""


def json_schema(offers: Offers) -> dict[str, Any]:
    """JSON Schema of a study for editors: with the names and options of every plugin that is given."""
    schema = StudyConfig.model_json_schema(by_alias=True)
    sweep = {"$ref": "#/$defs/Sweep"}
    places = {"task": "task", "method": "method", "temperature": "schedule", "loss": "loss"}

    def options(kind: str) -> list[dict[str, Any]]:
        found = []
        for name, (model, summary) in offers[kind].items():
            place = f"{kind}.{name}."  # models of plugins may bear the names of others', or of ours
            body = TypeAdapter(model).json_schema(ref_template=f"#/$defs/{place}{{model}}")
            schema["$defs"].update({f"{place}{inner}": said for inner, said in body.pop("$defs", {}).items()})
            properties = {key: {"anyOf": [value, sweep]} for key, value in body.get("properties", {}).items()}
            found.append(
                {
                    "type": "object",
                    "title": f"{kind} {name}",
                    "description": summary,
                    "properties": {"use": {"const": name}, **properties},
                    "required": ["use", *body.get("required", [])],
                    "additionalProperties": False,
                }
            )
        return found

    for kind in ("task", "method", "discretizer", "schedule", "loss", "metric"):
        schema["$defs"][f"any_{kind}"] = {"oneOf": options(kind)}
    for key, kind in places.items():
        target: dict[str, Any] = {"$ref": f"#/$defs/any_{kind}"}
        schema["properties"][key] = {"anyOf": [target, {"type": "null"}]} if key in ("temperature", "loss") else target
    schema["properties"]["discretizers"]["items"] = {"$ref": "#/$defs/any_discretizer"}
    schema["properties"]["metrics"]["items"] = {"$ref": "#/$defs/any_metric"}
    penalties = []
    for option in options("regularizer"):
        extra = {"level": schema["$defs"]["Penalty"]["properties"]["level"], "ramp": {"$ref": "#/$defs/any_schedule"}}
        penalties.append(option | {"properties": option["properties"] | extra, "required": [*option["required"], "level"]})
    schema["properties"]["penalties"]["items"] = {"oneOf": penalties}
    own = {key: value for key, value in schema["$defs"]["Sampler"]["properties"].items() if key != "use"}
    grid = {"type": "object", "title": "sampler grid", "properties": {"use": {"const": "grid"}} | own}
    drawn = [option | {"properties": option["properties"] | own} for option in options("sampler")]
    schema["properties"]["sampler"] = {"oneOf": [grid | {"additionalProperties": False}, *drawn]}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
