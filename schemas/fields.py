"""A short list of fields -> the JSON Schema that it stands for; from there on the two are the same.

    fields:
      number: text
      issued: date?                           # may be null
      total: decimal
      kind: [invoice, receipt]                # one of these words
      lines: [{item: text, price: decimal}]   # a list of objects
      tags: [text]                            # a list of texts
      buyer?: {name: text, city: 'text?'}     # an object, or null

Every field is in the answer; `?`, behind the name or behind the type, lets it be null. YAML wants quotes
around what has a `?` within brackets.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from schemas.errors import JobError

TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "decimal": {"type": "string", "format": "decimal"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "boolean": {"type": "boolean"},
}


def schema_of(fields: Any) -> dict[str, Any]:
    """The JSON Schema of a mapping of fields.

    Raises:
        JobError: no mapping, no type of that name, or nothing that stands for one.
    """
    return _object(fields, "fields")


def _object(fields: Any, where: str) -> dict[str, Any]:
    if not isinstance(fields, Mapping) or not fields:
        raise _refused(where, f"must map names to types, got {fields!r}")
    properties: dict[str, Any] = {}
    for said, value in fields.items():
        if not isinstance(said, str):
            raise _refused(where, f"a name must be text, got {said!r}; put it in quotes")
        name = said.removesuffix("?")
        if name in properties:
            raise _refused(f"{where}.{name}", "is there twice")
        node = _node(value, f"{where}.{name}")
        properties[name] = _or_null(node) if said.endswith("?") else node
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _node(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        node = _typed(value.strip().removesuffix("?"), where)
        return _or_null(node) if value.strip().endswith("?") else node
    if isinstance(value, Mapping):
        return _object(value, where)
    if isinstance(value, list | tuple) and len(value) == 1:
        return {"type": "array", "items": _node(value[0], f"{where}[]")}
    if isinstance(value, list | tuple) and value and all(isinstance(word, str) for word in value):
        return {"type": "string", "enum": list(value)}
    raise _refused(
        where,
        f"must be a type, an object of fields, a list of one type, or words to choose from, got {value!r}; "
        "put words such as yes and no in quotes",
    )


def _typed(word: str, where: str) -> dict[str, Any]:
    if word not in TYPES:
        guess = get_close_matches(word, TYPES, 1)
        hint = f", did you mean {guess[0]!r}?" if guess else ""
        raise _refused(where, f"unknown type {word!r}{hint} (known: {', '.join(TYPES)})")
    return TYPES[word]


def _or_null(node: dict[str, Any]) -> dict[str, Any]:
    return node if "anyOf" in node else {"anyOf": [node, {"type": "null"}]}


def _refused(where: str, why: str) -> JobError:
    return JobError(f"{where}: {why}", key="fields")
