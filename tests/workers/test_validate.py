"""A response is an answer only if it is whole and of its schema; what it said is kept otherwise."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import AnswerError, LoopingAnswer, OffSchemaAnswer, TruncatedAnswer, UnparsableAnswer
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
    answer = validate(TOTALS, said('{"kind":"invoice","total":"12.50","due":null}'))
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
        validate(TOTALS, said(text))
    assert caught.value.fields["text"] == text


def test_a_label_is_one_of_those_in_the_job() -> None:
    task = make_task({"task": "classify", "labels": ["invoice", "letter"]})
    assert validate(task, said("letter\n")).text == "letter"
    with pytest.raises(OffSchemaAnswer, match="'a letter' is none of invoice, letter"):
        validate(task, said("a letter"))


def test_cut_and_looping_are_told_apart() -> None:
    with pytest.raises(TruncatedAnswer):
        validate(OCR, said("The quick brown fox jumps over the lazy dog and then", "length"))
    with pytest.raises(LoopingAnswer):
        validate(OCR, said("Table\n" + "| 0 | 0 |\n" * 200, "length"))


def test_repetition_that_ended_by_itself_is_an_answer() -> None:
    text = "| 0 | 0 |\n" * 200
    assert validate(OCR, said(text)).text == text.strip()


def test_an_empty_page_is_an_answer() -> None:
    assert validate(OCR, said("")).text == ""


@given(st.text(max_size=300) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_anything_at_all_is_an_answer_or_a_named_error(text: Any) -> None:
    try:
        answer = validate(TOTALS, said(text))
    except AnswerError as error:
        assert error.category in {"unparsable", "off_schema"}
    else:
        assert answer.data is not None
