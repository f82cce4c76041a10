"""JSON schema of a suite file, for editors: `suites/suite.schema.json` holds what `schema` returns.

Its properties, ranges and defaults come from the checked models. What those models make of a list that multiplies, a
block set or a quantity with its unit is put back to what an author writes. Names that depend on each other, such as
blocks on the model, are for `jouletune validate`.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

from bench.catalog.datasets import DATASETS, SHIFTS
from bench.suite.data_axis import KEYS, MULTIPLY, image_keys
from bench.suite.exclude import EXCLUDE_KEYS
from bench.suite.spec import Spec
from bench.suite.suite import Suite
from bench.suite.training import AXES
from bench.suite.work import ADAPT, KINDS

INTERNAL = ("Arm", "DataSpec")
"""Definitions of what a suite becomes, and its author does not write."""

_ANY_OF_NAMES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


def schema() -> dict[str, Any]:
    """The schema, as plain data (JSON Schema 2020-12)."""
    made = Suite.model_json_schema()
    definitions = made["$defs"]
    for name in INTERNAL:
        definitions.pop(name, None)
    _with_meanings(made, Suite)
    kinds = {kind.__name__: kind for kind in _specs(Spec)}
    for name, definition in definitions.items():
        _with_meanings(definition, kinds[name])
    train = definitions["TuneSpec"]["properties"]
    for key in AXES:
        train[key] = _or_list(train[key])
    properties = made["properties"]
    properties["data"] = {"type": "array", "minItems": 1, "items": _data()}
    properties["blocks"] = {"type": "array", "minItems": 1, "items": _ANY_OF_NAMES}
    properties["methods"] = {"type": "array", "minItems": 1, "items": {"anyOf": [*_ANY_OF_NAMES["anyOf"], _named({})]}}
    work = {"anyOf": [{"enum": [ADAPT, *KINDS]}, _work()]}
    properties["work"] = {"anyOf": [*work["anyOf"], {"type": "array", "minItems": 1, "items": work}]}
    properties["exclude"] = {
        "type": "array",
        "items": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {key: {} for key in EXCLUDE_KEYS},
        },
    }
    source_train = definitions["SourceTrainSpec"]["properties"]
    source_train["teacher"] = source_train["teacher"] | {
        "anyOf": [{"type": "string"}, *source_train["teacher"]["anyOf"]]
    }
    model = definitions["ModelSpec"]["properties"]
    model["checkpoint"] = {"type": ["string", "null"]}
    model["name"] = {"type": "string"}
    battery = definitions["BatterySpec"]["properties"]
    battery["adapt"] = {"type": ["string", "number"]}
    battery["draws"]["additionalProperties"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Draw"}]}
    for event in ("sense", "infer", "transmit"):
        battery[event] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Event"}, {"type": "null"}]}
    definitions["Event"]["properties"]["per_day"] = {"type": ["string", "number"]}
    cleaned = _cleaned(made)
    assert isinstance(cleaned, dict)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A suite of jouletune"} | cleaned


def meanings(kind: type[BaseModel]) -> dict[str, str]:
    """What each field means, from the section Attributes of its class."""
    _, _, section = (kind.__doc__ or "").partition("Attributes:")
    found: dict[str, str] = {}
    option = ""
    for line in section.splitlines():
        name, colon, rest = line.strip().partition(": ")
        names = [one.strip() for one in name.split(",")]
        if colon and all(one in kind.model_fields for one in names):
            option = names[0]
            found |= dict.fromkeys(names, rest)
        elif option:
            found[option] = f"{found[option]} {line.strip()}".strip()
    return found


def _with_meanings(definition: dict[str, Any], kind: type[BaseModel]) -> None:
    for name, text in meanings(kind).items():
        if name in definition["properties"]:
            definition["properties"][name]["description"] = text
    definition["description"] = re.split(r"\n\s*\n", definition.get("description", ""), maxsplit=1)[0].replace(
        "\n", " "
    )


def _specs(kind: type[Spec]) -> list[type[Spec]]:
    return [one for child in kind.__subclasses__() for one in (child, *_specs(child))]


def _or_list(value: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


def _named(inner: dict[str, Any] | bool) -> dict[str, Any]:
    return {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": inner}


def _work() -> dict[str, Any]:
    """`{stream: {batch: 64}}`, each option a value or a list."""
    kinds = {}
    for name, kind in KINDS.items():
        options = kind.model_json_schema()["properties"]
        kinds[name] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {key: _or_list(value) for key, value in options.items()},
        }
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": kinds,
    }


def _data() -> dict[str, Any]:
    """An entry of the data axis; which keys belong to which dataset and shift is for `validate`."""
    known: dict[str, dict[str, Any]] = {
        "dataset": {"enum": [*DATASETS]},
        "shift": {"type": "string", "examples": [*SHIFTS]},
        "level": {"enum": ["input", "feature", "output"]},
        "name": {"type": "string"},
        "superclasses": {"type": ["object", "string"]},
        "severity": {"type": "integer", "minimum": 1, "maximum": 5},
        "source": {"type": "string"},
        "target": {"type": "string"},
    }
    derived = image_keys()
    properties = {key: known.get(key) or derived[key] for key in KEYS}
    properties |= {key: _or_list(properties[key]) for key in MULTIPLY}
    return {"type": "object", "required": ["dataset"], "additionalProperties": False, "properties": properties}


def _cleaned(value: Any) -> Any:
    """Without pydantic's titles and `null` beside a key that may be left out; a pair of numbers is a quantity."""
    if isinstance(value, list):
        return [_cleaned(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("prefixItems") == 2 * [{"type": "number"}]:
        return {"type": ["string", "number", "array"]} | (
            {"description": value["description"]} if "description" in value else {}
        )
    return {key: _cleaned(one) for key, one in value.items() if not (key == "title" and isinstance(one, str))}
