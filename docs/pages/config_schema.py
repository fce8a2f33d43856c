"""The JSON Schema of the configuration, with which editors complete and check it."""

import dataclasses
import json
from typing import Any, Final

from stockworker.config.key import Key, keys
from stockworker.config.kinds import AnyKind, Each, Free, ListOf, Section, ValueKind
from stockworker.config.schema import Config

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
"""The one that editors know best."""


def schema() -> str:
    """The file `etc/stockworker/job_processor.schema.json`."""
    document = {
        "$schema": _DIALECT,
        "title": "stockworker",
        "description": "Configuration of stockworker, and drop-in files of it",
        "type": "object",
        "properties": {"job_processor": _described(Section(Config))},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _described(kind: AnyKind) -> dict[str, Any]:
    """What a value may be. `null` restores the default."""
    match kind:
        case Section(of=of, ignored=ignored):
            known = {name: _described(key.kind) | _about(key, field) for name, key, field in keys(of)}
            return {
                "type": ["object", "null"],
                "properties": known | {name: {} for name in ignored},
                "additionalProperties": False,
            }
        case Each(name=name, of=of):
            return {
                "type": ["object", "null"],
                "patternProperties": {name.schema["pattern"]: _described(Section(of))},
                "additionalProperties": False,
            }
        case ListOf(of=of):
            return {"type": ["array", "null"], "items": {**of.schema}}
        case Free():
            return {"type": ["object", "null"]}
        case ValueKind():
            return _or_null(kind)


def _or_null(kind: ValueKind) -> dict[str, Any]:
    shape = {**kind.schema}
    if "enum" in shape:
        shape["enum"] = [*shape["enum"], None]
    else:
        types = shape["type"]
        shape["type"] = [*(types if isinstance(types, list) else [types]), "null"]
    return shape


def _about(key: Key, field: "dataclasses.Field[Any]") -> dict[str, str]:
    described = key.meaning
    if isinstance(key.kind, ValueKind):
        described += f" Allowed: {key.kind.meaning}."
        if key.shown or field.default not in (None, dataclasses.MISSING):
            described += f" Default: {key.shown or key.kind.show(field.default)}."
    return {"description": described}
