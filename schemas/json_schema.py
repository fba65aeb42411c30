"""A user's JSON Schema as three things: a decoding constraint, Arrow types, values for them.

The subset is what both a grammar and a Parquet column can hold. Anything else is refused before a
run starts, with the JSON pointer of the keyword.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from schemas.errors import JobError

MAX_STRING = 1_000
"""Bound of a string that has none: a grammar does not stop a model that repeats itself."""
MAX_ITEMS = 100
"""Bound of a list that has none, for the same reason."""

DECIMAL = pa.decimal128(38, 9)
FORMATS: dict[str, pa.DataType] = {
    "date": pa.date32(),
    "date-time": pa.timestamp("us", tz="UTC"),
    "decimal": DECIMAL,
}
DECIMAL_PATTERN = r"^-?[0-9]{1,29}(\.[0-9]{1,9})?$"

SCALARS = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}
ANNOTATIONS = {"$schema", "$id", "$defs", "title", "description", "default", "examples", "$comment"}
KEYWORDS = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": {"minimum", "maximum"},
    "number": {"minimum", "maximum"},
    "boolean": set(),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
COMMON = {"type", "enum", "const", "anyOf"}


def load_schema(value: Any) -> dict[str, Any]:
    """A JSON Schema from what a job may give: a mapping, a `.json` path, `module:Model`, a model.

    Returns:
        The schema with `$ref`s resolved, `type` lists with null written as given.

    Raises:
        JobError: not readable, not an object at its root, or a recursive `$ref`.
    """
    if isinstance(value, type) and issubclass(value, BaseModel):
        schema = value.model_json_schema()
    elif isinstance(value, Mapping):
        schema = dict(value)
    elif isinstance(value, str) and value.endswith(".json"):
        schema = _read(Path(value))
    elif isinstance(value, str) and ":" in value:
        schema = _import_model(value).model_json_schema()
    else:
        raise JobError(
            f"schema must be a mapping, the path of a .json file or module:Model, got {value!r}", key="schema"
        )
    resolved: dict[str, Any] = _inline(schema, schema.get("$defs", {}), (), "#")
    if resolved.get("type") != "object" or not resolved.get("properties"):
        raise JobError("schema #: must be of type object with at least one property", key="schema")
    return resolved


def _read(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise JobError(f"schema {path}: {error}", key="schema") from error
    if not isinstance(schema, dict):
        raise JobError(f"schema {path}: must hold a JSON object", key="schema")
    return schema


def _import_model(reference: str) -> type[BaseModel]:
    module, _, name = reference.partition(":")
    try:
        model = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise JobError(f"schema {reference!r}: {error}", key="schema") from error
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise JobError(f"schema {reference!r} is no pydantic model", key="schema")
    return model


def _inline(node: Any, definitions: Mapping[str, Any], seen: tuple[str, ...], pointer: str) -> Any:
    """The node with every local `$ref` replaced by what it points to."""
    if isinstance(node, list):
        return [_inline(item, definitions, seen, f"{pointer}/{i}") for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        reference = str(node["$ref"])
        name = reference.removeprefix("#/$defs/")
        if name not in definitions:
            raise JobError(f"schema {pointer}/$ref: {reference!r} is not under #/$defs", key="schema")
        if name in seen:
            raise JobError(
                f"schema {pointer}/$ref: {reference!r} is recursive, columns are not", key="schema"
            )
        return _inline(definitions[name], definitions, (*seen, name), pointer)
    return {k: _inline(v, definitions, seen, f"{pointer}/{k}") for k, v in node.items() if k != "$defs"}


def split_null(node: Mapping[str, Any], pointer: str = "#") -> tuple[dict[str, Any], bool]:
    """The node without its null alternative, and whether it had one.

    Raises:
        JobError: a union of anything but one type and null.
    """
    if "anyOf" in node:
        options = [option for option in node["anyOf"] if option.get("type") != "null"]
        if len(options) != 1:
            raise JobError(f"schema {pointer}/anyOf: a column holds one type, or null", key="schema")
        return dict(options[0]), len(options) < len(node["anyOf"])
    kinds = node.get("type")
    if isinstance(kinds, list):
        rest = [kind for kind in kinds if kind != "null"]
        if len(rest) != 1:
            raise JobError(f"schema {pointer}/type: a column holds one type, or null", key="schema")
        return {**node, "type": rest[0]}, len(rest) < len(kinds)
    return dict(node), False


def arrow_type(node: Mapping[str, Any], pointer: str = "#") -> pa.DataType:
    """The Arrow type that a schema node becomes.

    Raises:
        JobError: a keyword, type or format outside the subset, with its pointer.
    """
    node, _ = split_null(node, pointer)
    kind = _kind(node, pointer)
    for keyword in node:
        if keyword not in COMMON | ANNOTATIONS | KEYWORDS[kind]:
            raise JobError(f"schema {pointer}/{keyword}: not supported for type {kind}", key="schema")
    if kind == "object":
        return _struct(node, pointer)
    if kind == "array":
        if not isinstance(node.get("items"), Mapping):
            raise JobError(f"schema {pointer}/items: a list needs the type of its items", key="schema")
        return pa.list_(arrow_type(node["items"], f"{pointer}/items"))
    if "format" in node:
        if node["format"] not in FORMATS:
            raise JobError(
                f"schema {pointer}/format: {node['format']!r} is not one of {', '.join(FORMATS)}",
                key="schema",
            )
        return FORMATS[node["format"]]
    return SCALARS[kind]


def _kind(node: Mapping[str, Any], pointer: str) -> str:
    kind = node.get("type")
    values = node.get("enum", [node["const"]] if "const" in node else None)
    if kind is None and values:
        kinds = {"string": str, "boolean": bool, "integer": int}
        kind = next((name for name, python in kinds.items() if all(type(v) is python for v in values)), None)
    if kind not in KEYWORDS:
        raise JobError(f"schema {pointer}/type: {kind!r} is not one of {', '.join(KEYWORDS)}", key="schema")
    return str(kind)


def _struct(node: Mapping[str, Any], pointer: str) -> pa.DataType:
    if node.get("additionalProperties") not in (None, False):
        raise JobError(
            f"schema {pointer}/additionalProperties: columns are fixed, so it must be false", key="schema"
        )
    properties = node.get("properties") or {}
    if not properties:
        raise JobError(f"schema {pointer}/properties: a column of type object needs fields", key="schema")
    missing = sorted(set(node.get("required", ())) - set(properties))
    if missing:
        raise JobError(f"schema {pointer}/required: {missing} are not among its properties", key="schema")
    return pa.struct(
        [
            pa.field(name, arrow_type(child, f"{pointer}/properties/{name}"))
            for name, child in properties.items()
        ]
    )


def bounded(node: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as the decoder gets it: no annotations, no free keys, a bound on every string and list."""
    inner, nullable = split_null(node)
    inner = {keyword: value for keyword, value in inner.items() if keyword not in ANNOTATIONS}
    kind = _kind(inner, "#")
    inner["type"] = kind
    if kind == "object":
        inner["properties"] = {name: bounded(child) for name, child in inner["properties"].items()}
        inner["additionalProperties"] = False
    elif kind == "array":
        inner["items"] = bounded(inner["items"])
        inner.setdefault("maxItems", MAX_ITEMS)
    elif inner.get("format") == "decimal":
        del inner["format"]
        inner["pattern"] = DECIMAL_PATTERN
    elif kind == "string" and not {"enum", "const", "format", "pattern"} & set(inner):
        inner.setdefault("maxLength", MAX_STRING)
    return {"anyOf": [inner, {"type": "null"}]} if nullable else inner


def arrow_value(value: Any, data_type: pa.DataType, pointer: str = "") -> tuple[Any, list[str]]:
    """A JSON value as the Python value that Arrow stores under `data_type`.

    Returns:
        The value, with null for what does not denote one of its type (a 30th of February), and the JSON
        pointers of those.
    """
    if value is None:
        return None, []
    if pa.types.is_struct(data_type):
        made, odd = {}, []
        for field in data_type:
            inner = value.get(field.name) if isinstance(value, dict) else None
            made[field.name], faults = arrow_value(inner, field.type, f"{pointer}/{field.name}")
            odd += faults
        return made, odd if isinstance(value, dict) else [pointer or "/"]
    if pa.types.is_list(data_type):
        if not isinstance(value, list):
            return None, [pointer]
        items = [arrow_value(item, data_type.value_type, f"{pointer}/{i}") for i, item in enumerate(value)]
        return [item for item, _ in items], [fault for _, faults in items for fault in faults]
    if pa.types.is_map(data_type):
        return value, []
    try:
        return _scalar(value, data_type), []
    except (ValueError, TypeError, AttributeError):
        return None, [pointer or "/"]


def _scalar(value: Any, data_type: pa.DataType) -> Any:
    """Raises ValueError, TypeError or AttributeError for what is none of that type."""
    if pa.types.is_date(data_type):
        return date.fromisoformat(value)
    if pa.types.is_timestamp(data_type):
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if pa.types.is_decimal(data_type):
        try:
            return Decimal(value).quantize(Decimal(1).scaleb(-data_type.scale))
        except InvalidOperation as error:
            raise ValueError(f"{value!r} is no decimal of {data_type.precision} digits") from error
    if pa.types.is_integer(data_type):
        if not -(2**63) <= int(value) < 2**63:
            raise ValueError(f"{value} does not fit 64 bits")
        return int(value)
    # Arrow converts what is of another kind, or refuses it.
    return pa.scalar(value, data_type).as_py()
