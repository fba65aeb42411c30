"""No keyword of JSON Schema is passed over: it is held and checked, or refused with its place."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import xgrammar
from jsonschema import Draft202012Validator
from jsonschema_specifications import REGISTRY

from schemas.errors import JobError
from schemas.json_schema import arrow_type, bounded, bounds, load_schema
from schemas.keywords import ANNOTATIONS, KEYWORDS

VOCABULARIES = (
    *("core", "applicator", "unevaluated", "validation"),
    *("meta-data", "format-annotation", "content"),
)
ALL = sorted(
    {
        keyword
        for name in VOCABULARIES
        for keyword in REGISTRY.contents(f"https://json-schema.org/draft/2020-12/meta/{name}")["properties"]
    }
)

HELD: dict[str, list[tuple[dict[str, Any], list[str], list[str]]]] = {
    "type": [
        ({"type": "boolean"}, ["true"], ["null", '"true"']),
        ({"type": ["integer", "null"]}, ["7", "null"], ["7.5", '""']),
    ],
    "enum": [
        ({"enum": ['a"', "é"]}, ['"a\\""', '"é"'], ['"b"', "null"]),
        ({"type": ["string", "null"], "enum": ["a", None]}, ['"a"', "null"], ['"b"']),
        ({"enum": ["a", None]}, ['"a"', "null"], ['"b"']),
        ({"type": "string", "enum": ["a", None]}, ['"a"'], ["null"]),
        ({"enum": [1.5, 2]}, ["1.5", "2"], ["3"]),
    ],
    "const": [({"const": "a"}, ['"a"'], ['"b"', "null"])],
    "anyOf": [({"anyOf": [{"type": "integer"}, {"type": "null"}]}, ["1", "null"], ['"1"'])],
    "minLength": [({"type": "string", "minLength": 2}, ['"ab"', '"éé"'], ['"a"'])],
    "maxLength": [({"type": "string", "maxLength": 2}, ['""', '"éé"'], ['"abc"'])],
    "pattern": [
        ({"type": "string", "pattern": r"^[A-Z]{2}-\d+$"}, ['"AB-1"'], ['"AB-"', '"AB-1x"']),
        ({"type": "string", "pattern": r"^(?:a|b\.)?$"}, ['""', '"b."'], ['"bc"', '"ab"']),
        ({"type": "string", "pattern": r'^[^"\]]{1,3}$'}, ['"ab"'], ['"]"', '""', '"abcd"']),
    ],
    "format": [
        ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2024-13-01"', '"29.2.2024"']),
        ({"type": "string", "format": "date-time"}, ['"2024-02-29T01:02:03Z"'], ['"2024-02-29"']),
        (
            {"type": "string", "format": "decimal"},
            ['"-12.50"', f'"{"1" * 29}.{"1" * 9}"'],
            ['"1e5"', '"12,50"', '"1."', f'"{"1" * 30}"', f'"1.{"1" * 10}"'],
        ),
    ],
    "minimum": [
        ({"type": "integer", "minimum": -3}, ["-3", "12"], ["-4"]),
        ({"type": "number", "minimum": 0.5}, ["0.5", "12.25"], ["0.4", "-1"]),
    ],
    "maximum": [
        ({"type": "integer", "maximum": 3}, ["3", "-12"], ["4"]),
        ({"type": "number", "maximum": 0.5}, ["0.5", "-12.25"], ["0.6", "1"]),
    ],
    "items": [({"type": "array", "items": {"type": "integer"}}, ["[]", "[1, 2]"], ['["a"]', "[null]"])],
    "minItems": [({"type": "array", "items": {"type": "integer"}, "minItems": 2}, ["[1, 2]"], ["[1]"])],
    "maxItems": [({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, ["[]"], ["[1, 2, 3]"])],
    "properties": [
        ({"type": "object", "properties": {"b": {"type": "boolean"}}}, ['{"b": true}', "{}"], ['{"b": 1}'])
    ],
    "required": [
        (
            {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]},
            ['{"b": true}'],
            ["{}"],
        )
    ],
    "additionalProperties": [
        (
            {"type": "object", "properties": {"b": {"type": "boolean"}}, "additionalProperties": False},
            ['{"b": true}'],
            ['{"c": true}'],
        )
    ],
}
"""Keyword -> nodes with it, with answers that it lets through and answers that it does not."""
CASES = [case for cases in HELD.values() for case in cases]


@cache
def compiler() -> xgrammar.GrammarCompiler:
    """xgrammar as vLLM has it, over a vocabulary of bytes."""
    words = [*(bytes([byte]) for byte in range(256)), b"</s>"]
    tokens = xgrammar.TokenizerInfo(words, vocab_size=len(words), stop_token_ids=[256])
    return xgrammar.GrammarCompiler(tokens, max_threads=1, cache_enabled=False)


def decodes(schema: dict[str, Any], answer: str) -> bool:
    """Whether an engine that is held to the schema can give this answer."""
    grammar = compiler().compile_json_schema(json.dumps(schema), any_whitespace=False)
    matcher = xgrammar.GrammarMatcher(grammar, terminate_without_stop_token=True)
    return matcher.accept_string(answer) and matcher.is_terminated()


def field(node: Any) -> dict[str, Any]:
    return load_schema({"type": "object", "properties": {"a": node}})


@pytest.mark.parametrize(("node", "good", "bad"), CASES)
def test_what_is_accepted_is_held(
    node: dict[str, Any], good: list[str], bad: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    arrow_type(field(node))
    held = bounded(node)
    checker = Draft202012Validator(held)
    assert [(answer, decodes(held, answer)) for answer in good] == [(answer, True) for answer in good]
    assert all(checker.is_valid(json.loads(answer)) for answer in good)
    assert [(answer, decodes(held, answer)) for answer in bad] == [(answer, False) for answer in bad]
    said = capfd.readouterr()
    assert "Warning" not in said.err + said.out, "xgrammar says what it passes over"


@pytest.mark.parametrize("node", [case[0] for case in CASES])
def test_vllm_takes_what_is_accepted(node: dict[str, Any]) -> None:
    backend = pytest.importorskip("vllm.v1.structured_output.backend_xgrammar")
    assert not backend.has_xgrammar_unsupported_json_features(bounded(field(node)))


PLACES: dict[str, dict[str, Any]] = {
    **{kind: {"type": kind} for kind in ("string", "integer", "number", "boolean")},
    "array": {"type": "array", "items": {"type": "boolean"}},
    "object": {"type": "object", "properties": {"b": {"type": "boolean"}}},
}


@pytest.mark.parametrize("keyword", [name for name in ALL if name not in ANNOTATIONS and name != "type"])
def test_every_keyword_there_is_is_held_or_refused(keyword: str) -> None:
    """Where it is refused, because it stands in a place that it cannot be held in."""
    held = {kind for kind, keywords in KEYWORDS.items() if keyword in keywords}
    held |= {"string", "integer", "number", "boolean"} if keyword in ("enum", "const") else set()
    assert keyword in HELD or not held, "and is shown to be"
    for kind in PLACES.keys() - held:
        with pytest.raises(JobError) as caught:
            arrow_type(field({keyword: [{"type": kind}], **PLACES[kind]}))
        # Beside anyOf nothing may stand: there the place is that of what does.
        place = min(PLACES[kind]) if keyword == "anyOf" else keyword
        assert f"#/properties/a/{place}:" in caught.value.message, kind


def test_annotations_hold_nobody() -> None:
    node = {"type": "string", **{keyword: "x" for keyword in ANNOTATIONS - {"$defs"}}}
    assert bounded(field(node)) == bounded(field({"type": "string"}))


@pytest.mark.parametrize(
    ("node", "place"),
    [
        (True, "a:"),
        ({"type": "string", "minLength": 5, "maxLength": 3}, "a/minLength:"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "a/minimum:"),
        ({"type": "string", "maxLength": -1}, "a/maxLength:"),
        ({"type": "string", "maxLength": True}, "a/maxLength:"),
        ({"type": "integer", "minimum": 1.5}, "a/minimum:"),
        ({"type": "integer", "maximum": 2**63}, "a/maximum:"),
        ({"type": "integer", "maximum": float("inf")}, "a/maximum:"),
        ({"type": "number", "minimum": "1"}, "a/minimum:"),
        ({"type": "string", "pattern": "^a+$", "maxLength": 3}, "a/maxLength:"),
        ({"type": "string", "format": "date", "minLength": 3}, "a/minLength:"),
        ({"type": "string", "format": "decimal", "pattern": "^1$"}, "a/pattern:"),
        ({"type": "string", "enum": [1]}, "a/enum:"),
        ({"type": "string", "enum": []}, "a/enum:"),
        ({"type": ["string", "null"], "enum": ["a"]}, "a/enum:"),
        ({"enum": ["a", 1]}, "a/type:"),
        ({"const": None}, "a/type:"),
        ({"type": {}}, "a/type:"),
        ({"type": "object", "properties": {"b": {"type": "boolean"}}, "required": "b"}, "a/required:"),
        ({"type": "object", "properties": {"": {"type": "boolean"}}}, "a/properties/:"),
        ({"type": "object", "properties": {"b/": True}}, "a/properties/b~1:"),
        ({"type": "array", "items": [{"type": "boolean"}]}, "a/items:"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "maxLength": 3}, "a/maxLength:"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "a/anyOf:"),
        ({"anyOf": 3}, "a/anyOf:"),
        ({"anyOf": [True, {"type": "null"}]}, "a:"),
    ],
)
def test_what_no_answer_could_be_held_to_is_refused(node: Any, place: str) -> None:
    with pytest.raises(JobError) as caught:
        arrow_type(field(node))
    assert f"schema #/properties/{place}" in caught.value.message


PATTERNS = (
    *(r"INV", r"^INV", r"INV$", r"^a$b$", r"^(?=a)b$", r"^(?!a)b$", r"^(?<=a)b$", r"^(?P<x>a)$", r"^(?i)a$"),
    *(r"^(a)\1$", r"^\bfoo$", r"^\p{L}$", r'^"$', r"^\\$", r"^\"$", r"^\n$", r"^\x41$", r"^[[:alpha:]]$"),
    *(r"^(a$", r"^a{2,1}$", r"^a{,3}$", r"^*$", "^a\nb$", r"^[]$"),
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_that_engines_read_otherwise_are_refused(pattern: str) -> None:
    with pytest.raises(JobError, match="#/properties/a/pattern: must be a pattern from"):
        arrow_type(field({"type": "string", "pattern": pattern}))


def test_what_stands_beside_a_reference_is_not_lost() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/x", "description": "of the pydantic kind"}},
        "$defs": {"x": {"type": "string"}},
    }
    assert load_schema(schema)["properties"]["a"] == {"type": "string"}
    schema["properties"]["a"]["maxLength"] = 3  # type: ignore[index]
    with pytest.raises(JobError, match="#/properties/a/maxLength"):
        load_schema(schema)


def test_bounds_are_named_where_they_are_put() -> None:
    schema = {
        "type": "object",
        "properties": {
            "text": {"type": ["string", "null"]},
            "short": {"type": "string", "maxLength": 5},
            "long": {"type": "string", "minLength": 3_000},
            "open": {"type": "string", "pattern": "^[a-z]+$"},
            "shut": {"type": "string", "pattern": r"^[+*]{1,3}\+$"},
            "day": {"type": "string", "format": "date"},
            "kind": {"enum": ["a", "b"]},
            "a/b": {"type": "array", "items": {"type": "string"}},
            "count": {"type": "integer"},
            "inner": {"type": "object", "properties": {"x": {"type": "boolean"}}},
        },
        "additionalProperties": False,
    }
    assert dict(bounds(schema)) == {
        "#/properties/text": "at most 1000 characters",
        "#/properties/long": "at most 3000 characters",
        "#/properties/open": "no end but the answer's max_tokens",
        "#/properties/a~1b": "at most 100 items",
        "#/properties/a~1b/items": "at most 1000 characters",
        "#/properties/inner": "no other fields",
    }
    assert dict(bounds(bounded(schema))).keys() == {"#/properties/open"}, "bounded once, bounded for good"
