"""A user's JSON Schema as three things: a decoding constraint, Arrow types, values for them.

The subset is what both a grammar and a Parquet column can hold. Anything else is refused before a
run starts, with the JSON pointer of the keyword. Pointers pass over `anyOf`: of its alternatives, one
is a type and the other null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from schemas.errors import JobError
from schemas.keywords import ANNOTATIONS, INT64, KEYWORDS, PYTHON, has_no_end, refuse_unheld, refused

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
DECIMAL_PATTERN = r"^-?[0-9]{1,29}(\.[0-9]{1,9}){0,1}$"
"""Not with a question mark: behind one xgrammar 0.2.8 takes the point for optional too, and so 38 digits."""

SCALARS = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}


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
        beside = sorted(set(node) - {"$ref"} - ANNOTATIONS)
        if beside:
            raise refused(f"{pointer}/{beside[0]}", "beside a $ref; write it into what that points to")
        return _inline(definitions[name], definitions, (*seen, name), pointer)
    return {k: _inline(v, definitions, seen, f"{pointer}/{k}") for k, v in node.items() if k != "$defs"}


def split_null(node: Any, pointer: str = "#") -> tuple[dict[str, Any], bool]:
    """The node without its null alternative, and whether it had one.

    Raises:
        JobError: a union of anything but one type and null.
    """
    if not isinstance(node, Mapping):
        raise refused(pointer, f"must be an object of keywords, got {node!r}")
    if "anyOf" in node:
        return _of_any(node, pointer)
    kinds, values = node.get("type"), node.get("enum")
    bare = dict(node)
    nullable = False
    if isinstance(kinds, list):
        rest = [kind for kind in kinds if kind != "null"]
        if len(rest) != 1:
            raise refused(f"{pointer}/type", "a column holds one type, or null")
        bare["type"], nullable = rest[0], "null" in kinds
    if isinstance(values, list):
        bare["enum"] = [value for value in values if value is not None]
        if nullable and None not in values:
            raise refused(f"{pointer}/enum", "null is of the type and not among the values; add it to them")
        nullable = None in values and (nullable or kinds is None)
    return bare, nullable


def _of_any(node: Mapping[str, Any], pointer: str) -> tuple[dict[str, Any], bool]:
    beside = sorted(set(node) - {"anyOf"} - ANNOTATIONS)
    if beside:
        raise refused(f"{pointer}/{beside[0]}", "beside anyOf; write it into the alternative it is about")
    options = node["anyOf"] if isinstance(node["anyOf"], list) else []
    rest = [o for o in options if not (isinstance(o, Mapping) and o.get("type") == "null")]
    if len(rest) != 1:
        raise refused(f"{pointer}/anyOf", "a column holds one type, or null")
    inner, nullable = split_null(rest[0], pointer)
    return inner, nullable or len(rest) < len(options)


def arrow_type(node: Any, pointer: str = "#") -> pa.DataType:
    """The Arrow type that a schema node becomes.

    Every field of it may be null, whatever the schema says: in an answer that does not hold, null stands
    for the fields that do not, and `valid` and `invalid_fields` beside it tell that from what the schema
    allows. An enum is a plain string (or number): Parquet writes each value once in any case, and a
    dictionary's index type would differ between readers.

    Raises:
        JobError: a keyword, type or format outside the subset, with its pointer.
    """
    node, _ = split_null(node, pointer)
    kind = _kind(node, pointer)
    refuse_unheld(node, kind, pointer)
    if kind == "object":
        return _struct(node, pointer)
    if kind == "array":
        if "items" not in node:
            raise refused(f"{pointer}/items", "a list needs the type of its items")
        return pa.list_(arrow_type(node["items"], f"{pointer}/items"))
    if "format" in node:
        if node["format"] not in FORMATS:
            raise refused(f"{pointer}/format", f"{node['format']!r} is not one of {', '.join(FORMATS)}")
        return FORMATS[node["format"]]
    return SCALARS[kind]


def _kind(node: Mapping[str, Any], pointer: str) -> str:
    kind = node.get("type")
    values = node.get("enum", [node["const"]] if "const" in node else None)
    if kind is None and isinstance(values, list) and values:
        known = (name for name, python in PYTHON.items() if all(type(value) in python for value in values))
        kind = next(known, None)
    if not isinstance(kind, str) or kind not in KEYWORDS:
        raise refused(f"{pointer}/type", f"{kind!r} is not one of {', '.join(KEYWORDS)}")
    return kind


def _struct(node: Mapping[str, Any], pointer: str) -> pa.DataType:
    properties = node.get("properties") or {}
    if not properties:
        raise refused(f"{pointer}/properties", "a column of type object needs fields")
    missing = sorted(set(node.get("required", ())) - set(properties))
    if missing:
        raise refused(f"{pointer}/required", f"{missing} are not among its properties")
    spelled: dict[str, str] = {}
    for name in properties:
        other = spelled.setdefault(name.lower(), name)
        if not name or other != name:
            raise refused(
                below(f"{pointer}/properties", name),
                f"DuckDB and Spark cannot tell it from {other!r}" if name else "a column needs a name",
            )
    return pa.struct(
        [
            pa.field(name, arrow_type(child, below(f"{pointer}/properties", name)))
            for name, child in properties.items()
        ]
    )


def below(pointer: str, step: str | int) -> str:
    """The JSON pointer of a field or item of what `pointer` points to."""
    return f"{pointer}/{str(step).replace('~', '~0').replace('/', '~1')}"


def bounded(node: Mapping[str, Any]) -> dict[str, Any]:
    """The schema as the decoder gets it: no annotations, no free keys, a bound on every string and list.

    Numbers have none, and a pattern is held as it is: what of them does not end is cut at `max_tokens`.
    """
    inner, nullable = split_null(node)
    inner = {keyword: value for keyword, value in inner.items() if keyword not in ANNOTATIONS}
    kind = _kind(inner, "#")
    inner["type"] = kind
    inner |= _bound(inner, kind)[0]
    if kind == "object":
        inner["properties"] = {name: bounded(child) for name, child in inner["properties"].items()}
    elif kind == "array":
        inner["items"] = bounded(inner["items"])
    elif inner.get("format") == "decimal":
        del inner["format"]
        inner["pattern"] = DECIMAL_PATTERN
    return {"anyOf": [inner, {"type": "null"}]} if nullable else inner


def bounds(node: Mapping[str, Any], pointer: str = "#") -> Iterator[tuple[str, str]]:
    """Pointer and words of each bound that `bounded` puts where the schema has none."""
    inner, _ = split_null(node, pointer)
    kind = _kind(inner, pointer)
    words = _bound(inner, kind)[1]
    if words:
        yield pointer, words
    if kind == "object":
        for name, child in inner["properties"].items():
            yield from bounds(child, below(f"{pointer}/properties", name))
    elif kind == "array":
        yield from bounds(inner["items"], f"{pointer}/items")


def _bound(node: Mapping[str, Any], kind: str) -> tuple[dict[str, Any], str]:
    """What holds a node that has no end of its own, as keywords and in words; none for one that has."""
    if kind == "object" and "additionalProperties" not in node:
        return {"additionalProperties": False}, "no other fields"
    if kind == "array" and "maxItems" not in node:
        most = max(MAX_ITEMS, node.get("minItems", 0))
        return {"maxItems": most}, f"at most {most} items"
    if kind != "string" or {"enum", "const", "format", "maxLength"} & set(node):
        return {}, ""
    if "pattern" in node:
        return {}, "no end but the answer's max_tokens" if has_no_end(node["pattern"]) else ""
    most = max(MAX_STRING, node.get("minLength", 0))
    return {"maxLength": most}, f"at most {most} characters"


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
            made[field.name], faults = arrow_value(inner, field.type, below(pointer, field.name))
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
    except (ValueError, TypeError, AttributeError, OverflowError):
        return None, [pointer or "/"]


def _scalar(value: Any, data_type: pa.DataType) -> Any:
    """Raises ValueError, TypeError, AttributeError or OverflowError for what is none of that type."""
    if pa.types.is_date(data_type):
        return date.fromisoformat(value)
    if pa.types.is_timestamp(data_type):
        moment = datetime.fromisoformat(value)
        # Of what is in year 0 or 10,000 by then Arrow makes a value that Python cannot read back.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if pa.types.is_decimal(data_type):
        try:
            # Python's own context has 28 digits, fewer than the column.
            unit = Decimal(1).scaleb(-data_type.scale)
            return Decimal(value).quantize(unit, context=Context(prec=data_type.precision))
        except InvalidOperation as error:
            raise ValueError(f"{value!r} is no decimal of {data_type.precision} digits") from error
    if pa.types.is_integer(data_type):
        if int(value) not in INT64:
            raise ValueError(f"{value} does not fit 64 bits")
        return int(value)
    if pa.types.is_floating(data_type) and not math.isfinite(value):
        raise ValueError("1e400 is a number in JSON and in no column")
    # Arrow converts what is of another kind, or refuses it.
    return pa.scalar(value, data_type).as_py()
