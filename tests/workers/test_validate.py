"""A response is an answer only if it is whole and of its schema; what it said is kept otherwise."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import (
    AnswerError,
    EmptyAnswer,
    LoopingAnswer,
    OffSchemaAnswer,
    TruncatedAnswer,
    UnparsableAnswer,
)
from schemas.rows import Shown
from schemas.tasks import make_task
from workers.engines import Response
from workers.validate import validate

TOTALS = make_task(
    {
        "task": "extract",
        "schema": {
            "type": "object",
            "properties": {
                "kind": {"enum": ["invoice", "receipt"]},
                "total": {"type": "string", "format": "decimal"},
                "due": {"type": ["string", "null"], "format": "date"},
            },
            "required": ["kind", "total"],
        },
    }
)
OCR = make_task("ocr")


def said(text: str, finish: str = "stop") -> Response:
    return Response(text, finish, prompt_tokens=3, output_tokens=5)


def test_typed_values() -> None:
    answer = validate(TOTALS, said('{"kind":"invoice","total":"12.50","due":null}'), Shown.IMAGE)
    assert answer.data == {"kind": "invoice", "total": Decimal("12.50"), "due": None}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", UnparsableAnswer),
        ('{"kind":"invoice"', UnparsableAnswer),
        ('{"kind":"invoice","total":NaN}', UnparsableAnswer),
        ("[]", OffSchemaAnswer),
        ('{"kind":"letter","total":"1"}', OffSchemaAnswer),
        ('{"kind":"invoice","total":"one"}', OffSchemaAnswer),
        ('{"kind":"invoice","total":"1","extra":1}', OffSchemaAnswer),
        ('{"kind":"invoice","total":"1","due":"2023-02-30"}', OffSchemaAnswer),
    ],
)
def test_what_does_not_hold_is_named_and_kept(text: str, error: type[AnswerError]) -> None:
    with pytest.raises(error) as caught:
        validate(TOTALS, said(text), Shown.IMAGE)
    assert caught.value.fields["text"] == text


def test_a_label_is_one_of_those_in_the_job() -> None:
    task = make_task({"task": "classify", "labels": ["invoice", "letter"]})
    assert validate(task, said("letter\n"), Shown.IMAGE).text == "letter"
    with pytest.raises(OffSchemaAnswer, match="'a letter' is none of invoice, letter"):
        validate(task, said("a letter"), Shown.IMAGE)


def test_cut_and_looping_are_told_apart() -> None:
    with pytest.raises(TruncatedAnswer):
        validate(OCR, said("The quick brown fox jumps over the lazy dog and then", "length"), Shown.IMAGE)
    with pytest.raises(LoopingAnswer):
        validate(OCR, said("Table\n" + "| 0 | 0 |\n" * 200, "length"), Shown.IMAGE)


PROSE = "The tenant pays the rent on the first day of each month. " * 3


@pytest.mark.parametrize(
    "unit",
    [
        ".",
        "a ",
        "der Mann und ",
        "| 0 | 0 |\n",
        "| a1 | b2 | c3 | d4 | e5 | f6 | g7 | h8 | i9 | k10 | l11 |\n",
        "\n",
    ],
)
@pytest.mark.parametrize("more", ["", "cut"])
def test_a_loop_is_found_wherever_it_is_cut(unit: str, more: str) -> None:
    looped = PROSE + unit * (2_000 // len(unit)) + (unit[: len(unit) // 2] if more else "")
    for text in (looped, looped + "\ufffd"):
        with pytest.raises(LoopingAnswer):
            validate(OCR, said(text, "length"), Shown.IMAGE)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"Chapter {i}: Title {i * 7} {'.' * 190} {i * 3}" for i in range(1, 20)),
        "\n".join(f"Chapter {i}: Title {i * 7} {'. ' * 60} {i * 3}" for i in range(1, 20)),
        "| Item | Q1 |\n|" + ("-" * 90 + "|") * 4 + "\n| Rev",
        "| a | b | c |\n" + "|:---:" * 60 + "|\n| Rev",
        "| a | b | c | d | e | f | g | h | i |\n| Total 2023 | | | | | | | | | |\n| Net",
        "| a | b | c | d | e | f | g | h | i |\n" + "| | | | | | | | | |\n" * 20,
        "\n".join(f"| {2_000 + i} | 12 |" + " 0 |" * 60 for i in range(20)),
        "\n".join(["| N/A | N/A | N/A | N/A |"] * 10),
        "Name: ____________________ Date: " + "_" * 120,
        "Name: " + "&nbsp;" * 45,
        "☐ " * 200,
    ],
)
def test_what_is_set_in_rows_is_no_loop(text: str) -> None:
    for end in range(20, len(text) + 1, 7):
        with pytest.raises(TruncatedAnswer):
            validate(OCR, said(PROSE + text[:end], "length"), Shown.IMAGE)


@pytest.mark.parametrize("text", ["." * 1_500 + PROSE[:100], "ab" * 750 + PROSE[:100], PROSE + "." * 999])
def test_to_look_for_a_loop_holds_nobody_up(text: str) -> None:
    began = time.thread_time()
    with pytest.raises(TruncatedAnswer):
        validate(OCR, said(text, "length"), Shown.IMAGE)
    assert time.thread_time() - began < 0.5, "0.2 ms; as a pattern it took 10 s"


def test_a_field_that_is_there_twice_is_no_json() -> None:
    text = '{"kind":"invoice","total":"1.00","total":"2.00"}'
    with pytest.raises(UnparsableAnswer, match="'total' is there twice") as caught:
        validate(TOTALS, said(text), Shown.IMAGE)
    assert caught.value.fields["text"] == text


def test_repetition_that_ended_by_itself_is_an_answer() -> None:
    text = "| 0 | 0 |\n" * 200
    assert validate(OCR, said(text), Shown.IMAGE).text == text.strip()


def test_an_empty_page_is_an_answer() -> None:
    assert validate(OCR, said(""), Shown.IMAGE).text == ""


@given(st.text(max_size=300) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_anything_at_all_is_an_answer_or_a_named_error(text: Any) -> None:
    try:
        answer = validate(TOTALS, said(text), Shown.IMAGE)
    except AnswerError as error:
        assert error.category in {"unparsable", "off_schema"}
    else:
        assert answer.data is not None


def test_what_holds_of_an_answer_is_kept_field_by_field() -> None:
    text = '{"kind":"letter","total":"12.50","due":"2023-02-30","extra":1}'
    with pytest.raises(OffSchemaAnswer) as caught:
        validate(TOTALS, said(text), Shown.IMAGE)
    partial = caught.value.fields["partial"]
    assert partial.data == {"kind": None, "total": Decimal("12.50"), "due": None}
    assert set(partial.invalid) == {"/kind", "/due", "/extra"} and partial.text == text


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(OffSchemaAnswer) as caught:
        validate(TOTALS, said('{"kind":"invoice"}'), Shown.IMAGE)
    assert caught.value.fields["partial"].invalid == ("/total",)


def test_nothing_that_holds_is_no_answer() -> None:
    with pytest.raises(OffSchemaAnswer) as caught:
        validate(TOTALS, said('{"kind":"x","total":1}'), Shown.IMAGE)
    assert caught.value.fields["partial"] is None


def test_no_words_are_an_answer_to_some_tasks_only() -> None:
    with pytest.raises(EmptyAnswer):
        validate(make_task("caption"), said(" \n"), Shown.IMAGE)


def test_speech_and_its_translation_are_told_apart() -> None:
    task = make_task({"task": "translate", "to": "Korean"})
    answer = validate(task, said("good morning\nKorean: 좋은 아침"), Shown.AUDIO)
    assert answer.text == "좋은 아침"
    assert answer.data == {"transcription": "good morning", "translation": "좋은 아침", "language": "Korean"}
    with pytest.raises(UnparsableAnswer) as caught:
        validate(task, said("good morning"), Shown.AUDIO)
    assert caught.value.fields["text"] == "good morning"
    seen = validate(task, said("좋은 아침"), Shown.IMAGE).data
    assert seen is not None and seen["transcription"] is None and seen["translation"] == "좋은 아침"


def test_a_call_has_its_functions_columns() -> None:
    pay = {"type": "object", "properties": {"total": {"type": "string", "format": "decimal"}}}
    ring = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
    functions = [
        {"name": name, "description": "When.", "parameters": schema}
        for name, schema in {"pay": pay, "ring": ring}.items()
    ]
    task = make_task({"task": "call", "functions": functions})
    answer = validate(task, said('{"name":"pay","arguments":{"total":"3.50"}}'), Shown.IMAGE)
    assert answer.data == {
        "name": "pay",
        "arguments": {"pay": {"total": Decimal("3.50")}, "ring": None},
    }
    assert validate(task, said('{"name":"none"}'), Shown.IMAGE).data == {"name": None, "arguments": None}
    with pytest.raises(OffSchemaAnswer):
        validate(task, said('{"name":"ring","arguments":{}}'), Shown.IMAGE)


def test_a_policy_is_broken_from_its_threshold_on() -> None:
    task = make_task({"task": "moderate", "policy": "violence", "threshold": 0.3})
    response = Response("No", "stop", 3, 1, likelihoods={"Yes": 0.4, "No": 0.6})
    data = validate(task, response, Shown.IMAGE).data
    assert data is not None and data["violates"] is True and data["probability"] == 0.4
    assert validate(task, said("No"), Shown.IMAGE).data == {
        "violates": False,
        "probability": None,
        "policy": "violence",
    }


@pytest.mark.parametrize("levels", [100, 300, 480, 600, 900, 1_200, 100_000])
def test_lists_within_lists_are_one_bad_answer(levels: int) -> None:
    nested = "[" * levels + "]" * levels
    for text in ("[" * levels, nested, f'{{"kind":"invoice","total":{nested}}}'):
        with pytest.raises(AnswerError):
            validate(TOTALS, said(text), Shown.IMAGE)


@pytest.mark.parametrize(
    ("pattern", "said"), [("^[A-Z]{3}$", "ABC\n"), (r"^\d+$", "\u0663"), ("^a|b$", "apple"), ("^a|b$", "xb")]
)
def test_a_pattern_is_of_the_whole_value(pattern: str, said: str) -> None:
    node = {"type": "string", "pattern": pattern}
    task = make_task({"task": "extract", "schema": {"type": "object", "properties": {"a": node}}})
    with pytest.raises(OffSchemaAnswer, match="^/a"):
        validate(task, Response(json.dumps({"a": said}), "stop", 1, 1), Shown.IMAGE)


def test_functions_that_differ_in_capitals_alone_are_refused() -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "string"}}}
    functions = [{"name": name, "description": "d", "parameters": parameters} for name in ("Pay", "pay")]
    with pytest.raises(ValueError, match="capitals"):
        make_task({"task": "call", "functions": functions})
