"""The keywords of JSON Schema that a field may have: what an engine can hold an answer to.

xgrammar passes over some of what it cannot hold, and vLLM refuses a request for some more. Whatever would
come to that, or holds no answer at all, is refused before a run starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from schemas.errors import JobError

ANNOTATIONS = frozenset(
    {
        *("$schema", "$id", "$defs", "$comment", "title", "description", "default", "examples"),
        *("deprecated", "readOnly", "writeOnly"),
    }
)
"""They say something to people and hold nobody to anything."""
COMMON = frozenset({"type", "enum", "const", "anyOf"})
KEYWORDS: dict[str, frozenset[str]] = {
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset({"minimum", "maximum"}),
    "number": frozenset({"minimum", "maximum"}),
    "boolean": frozenset(),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}
PYTHON: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
"""What a value of a scalar kind is when it is read from JSON."""
INT64 = range(-(2**63), 2**63)

PATTERN = re.compile(
    r"""\^(?:
        \\[dDwWsS] | \\[^\w\s"\\]                       # a class, a sign of the pattern language as itself
        | \[\^?(?:\\[dDwWsS] | \\[^\w\s] | [^\]\[\\])+\]
        | \((?:\?:)?(?!\?)                              # a group, but none that looks around
        | \{\d+(?:,\d*)?\}
        | [^\\"\[\](${}^\n]
    )*\$""",
    re.VERBOSE,
)
"""The patterns that xgrammar takes, and means by them what JSON Schema does. It holds a whole value to a
pattern, so one without its ends would mean something else; it passes over what looks ahead, and writes a
quotation mark or a backslash into the string as it stands, which is no JSON."""
OPEN_END = re.compile(r"\\.|\[(?:\\.|[^\]])*\]|(?P<open>[*+]|\{\d+,\})")

Form = tuple[Callable[[Any], bool], str]
_COUNT: Form = (lambda value: type(value) is int and value >= 0, "a whole number from 0")
_NUMBER: Form = (lambda value: type(value) in (int, float), "a number")
_WHOLE: Form = (
    lambda value: type(value) in (int, float) and value == value // 1 and int(value) in INT64,
    "a whole number of 64 bits",
)
FORMS: dict[str, Form] = {
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "items": (lambda value: isinstance(value, Mapping), "the type of the items"),
    "properties": (lambda value: isinstance(value, Mapping), "an object of fields"),
    "required": (lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value), "names"),
    "additionalProperties": (lambda value: value is False, "false: columns are fixed"),
    "format": (lambda value: isinstance(value, str), "a name"),
    "pattern": (
        lambda value: isinstance(value, str) and bool(PATTERN.fullmatch(value)) and _compiles(value),
        'a pattern from ^ to $, without " or \\\\ outside of [], and nothing that looks around or back',
    ),
}
RANGES = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum"))


def refuse_unheld(node: Mapping[str, Any], kind: str, pointer: str) -> None:
    """Raises JobError, with its pointer, for a keyword of a node that no answer would be held to."""
    for keyword, value in node.items():
        if keyword in ANNOTATIONS:
            continue
        if keyword not in COMMON | KEYWORDS[kind]:
            raise refused(f"{pointer}/{keyword}", f"not supported for type {kind}")
        whole = kind == "integer" and keyword in ("minimum", "maximum")
        holds, form = _WHOLE if whole else FORMS.get(keyword, (lambda _: True, ""))
        if not holds(value):
            raise refused(f"{pointer}/{keyword}", f"must be {form}, got {value!r}")
    for least, most in RANGES:
        if least in node and most in node and node[least] > node[most]:
            raise refused(f"{pointer}/{least}", f"{node[least]} is more than {most}, {node[most]}")
    if "pattern" in node and "format" in node:
        raise refused(f"{pointer}/pattern", "a format has its own; leave out one of them")
    lengths = sorted({"minLength", "maxLength"} & set(node))
    if lengths and {"pattern", "format"} & set(node):
        raise refused(
            f"{pointer}/{lengths[0]}",
            "engines ignore it beside a pattern or format; write it into the pattern, as in ^[A-Z]{1,8}$",
        )
    _refuse_odd_values(node, kind, pointer)


def _refuse_odd_values(node: Mapping[str, Any], kind: str, pointer: str) -> None:
    for keyword in ("enum", "const"):
        if keyword not in node:
            continue
        values = node[keyword] if keyword == "enum" else [node[keyword]]
        if kind not in PYTHON:
            raise refused(f"{pointer}/{keyword}", f"not supported for type {kind}")
        if not isinstance(values, list) or not values:
            raise refused(f"{pointer}/{keyword}", f"must list values, got {values!r}")
        odd = [value for value in values if type(value) not in PYTHON[kind]]
        if odd:
            raise refused(f"{pointer}/{keyword}", f"{odd[0]!r} is no {kind}")


def has_no_end(pattern: str) -> bool:
    """Whether what a pattern matches may be of any length."""
    return any(found["open"] for found in OPEN_END.finditer(pattern))


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def refused(pointer: str, why: str) -> JobError:
    """The error that names a place of a schema."""
    return JobError(f"schema {pointer}: {why}", key="schema")
