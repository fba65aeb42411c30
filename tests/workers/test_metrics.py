"""Metrics: the same is perfect, what is missing is all wrong, and totals are made of sums."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Any

import jiwer
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.tasks import TASKS
from workers.metrics import METRICS, Metric
from workers.metrics.fields import Fields
from workers.metrics.texts import plain
from workers.registry import resolve

INVOICE = pa.struct(
    [
        pa.field("number", pa.string()),
        pa.field("issued", pa.date32()),
        pa.field("total", pa.decimal128(38, 9)),
        pa.field("vendor", pa.struct([("name", pa.string()), ("floors", pa.int64())])),
        pa.field("lines", pa.list_(pa.struct([("item", pa.string()), ("share", pa.float32())]))),
    ]
)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
shares = st.none() | st.floats(0, 1, width=32)
invoices = st.fixed_dictionaries(
    {
        "number": st.none() | words,
        "issued": st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
        "total": st.none() | st.decimals(-(10**20), 10**20, places=9),
        "vendor": st.none()
        | st.fixed_dictionaries({"name": st.none() | words, "floors": st.none() | st.integers(0, 99)}),
        "lines": st.none()
        | st.lists(
            st.fixed_dictionaries(
                {"item": st.none() | words, "share": st.none() | st.floats(0, 1, width=32)}
            ),
            max_size=3,
        ),
    }
)


def metric(kind: str, fold: bool = False) -> Metric:
    made: Metric = resolve(METRICS, kind, "metric")(INVOICE, fold)
    return made


def scores(kind: str, *pairs: tuple[Any, Any]) -> dict[str, float]:
    scorer, total = metric(kind), Counter[Any]()
    for expected, answer in pairs:
        total.update(scorer.count(scorer.expected(expected), answer))
    return scorer.scores(total)


def test_every_task_has_a_metric() -> None:
    assert set(TASKS) <= set(METRICS)


@pytest.mark.parametrize("kind", METRICS)
def test_every_metric_has_the_score_it_leads_with(kind: str) -> None:
    assert metric(kind).leads in scores(kind, ({}, None) if metric(kind).expects == "data" else ("x", None))


@given(words)
def test_the_same_text_is_perfect(text: str) -> None:
    assert scores("ocr", (text, text)) == {"cer": 0, "wer": 0}
    if len(plain(text).replace(" ", "")) >= 6:
        assert scores("translate", (text, text)) == {"chrf": pytest.approx(1)}


@given(words)
def test_no_answer_is_all_wrong(text: str) -> None:
    assume(plain(text))
    for nothing in ("", None):
        assert scores("ocr", (text, nothing)) == {"cer": 1, "wer": 1}
        assert scores("translate", (text, nothing)) == {"chrf": 0}
        assert scores("classify", ("invoice", nothing)) == {"accuracy": 0}


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_totals_are_those_of_the_library_over_all_pairs(pairs: list[tuple[str, str]]) -> None:
    pairs = [(plain(expected), plain(said)) for expected, said in pairs]
    assume(all(expected for expected, _ in pairs))
    # What is plain already may hold marks again: "\\# 5" is "# 5".
    assume(all(plain(text) == text for pair in pairs for text in pair))
    expected, said = map(list, zip(*pairs, strict=True))
    assert scores("ocr", *pairs) == {
        "cer": pytest.approx(jiwer.cer(expected, said)),
        "wer": pytest.approx(jiwer.wer(expected, said)),
    }


@given(invoices)
def test_the_same_object_is_perfect(invoice: dict[str, Any]) -> None:
    perfect = {"precision": 1, "recall": 1, "f1": 1}
    assert scores("extract", (invoice, invoice)) == perfect
    shuffled = dict(random.Random(0).sample(list(invoice.items()), len(invoice)))
    shuffled["lines"] = list(reversed(invoice["lines"] or []))
    assert scores("extract", (shuffled, invoice)) == perfect


@given(invoices, invoices)
def test_turning_the_sides_turns_precision_and_recall(one: dict[str, Any], other: dict[str, Any]) -> None:
    there, back = scores("extract", (one, other)), scores("extract", (other, one))
    assert (there["precision"], there["recall"], there["f1"]) == (
        back["recall"],
        back["precision"],
        back["f1"],
    )


def test_values_are_counted_one_by_one() -> None:
    expected = {"total": "12.5", "lines": [{"item": "tea"}, {"item": "tea"}, {"item": "milk"}]}
    said = {"number": "9", "total": Decimal("12.50"), "lines": [{"item": "tea", "share": 0.5}]}
    scorer = metric("extract")
    counts = scorer.count(scorer.expected(expected), said)
    # The number is not compared, since the reference does not name it; the share is, as part of the lines.
    assert scorer.scores(counts) == {"precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7}
    assert scorer.details(counts)["lines.item"] == {"precision": 1, "recall": 1 / 3, "f1": 0.5}


def test_an_answer_of_an_earlier_schema_is_compared_as_far_as_it_goes() -> None:
    scorer = metric("extract")
    expected = {"number": "7", "total": 5, "vendor": {"name": "A"}, "lines": []}
    said = {"number": 7, "total": "five", "vendor": "A", "lines": "tea", "gone": 1}
    counts = scorer.count(scorer.expected(expected), said)
    assert (counts["number", "right"], counts["total", "right"]) == (1, 0)
    assert counts["total", "answered"] == 1 and counts["vendor.name", "answered"] == 0


def test_the_fields_of_a_documents_parts_are_one_object() -> None:
    scorer = metric("extract")
    first = {
        "number": None,
        "total": None,
        "vendor": {"name": "A", "floors": None},
        "lines": [{"item": "tea"}],
    }
    second = {"number": "7", "total": None, "vendor": {"name": "B", "floors": 3}, "lines": [{"item": "milk"}]}
    assert scorer.whole([first, second]) == {
        "number": "7",
        "total": None,
        "vendor": {"name": "A", "floors": 3},
        "lines": [{"item": "tea"}, {"item": "milk"}],
    }


def test_the_label_of_a_document_is_that_of_all_its_parts() -> None:
    scorer = metric("classify")
    assert scorer.whole(["letter", "letter"]) == "letter"
    with pytest.raises(ValueError, match="part_index"):
        scorer.whole(["letter", "invoice"])


@pytest.mark.parametrize(
    ("kind", "value", "same"),
    [
        (pa.int64(), "3.0", 3),
        (pa.float32(), "0.1", pa.scalar(0.1, pa.float32()).as_py()),
        (pa.bool_(), "TRUE", True),
        (pa.bool_(), 0, False),
        (pa.date32(), "2024-02-29 00:00:00", date(2024, 2, 29)),
        (pa.timestamp("us", tz="UTC"), "2024-02-29T12:00:00+02:00", "2024-02-29 10:00:00"),
        (pa.decimal128(38, 9), "1" * 29, Decimal("1" * 29)),
        (pa.string(), "  Cafe\u0301  au lait\n", "Café au lait"),
        (pa.string(), "nan", "nan"),
    ],
)
def test_values_are_compared_as_their_type_has_them(kind: pa.DataType, value: Any, same: Any) -> None:
    scorer = Fields(pa.struct([("x", kind)]), fold=False)
    assert scorer.count(scorer.expected({"x": value}), {"x": same})["x", "right"] == 1


@pytest.mark.parametrize("nothing", [None, "", " ", float("nan"), "NaN", Decimal("NaN")])
def test_nothing_is_no_value(nothing: Any) -> None:
    scorer = Fields(pa.struct([("x", pa.float64())]), fold=False)
    assert scorer.count(scorer.expected({"x": nothing}), {"x": None}).total() == 0
    assert scorer.count(scorer.expected({"x": nothing}), {"x": 1.0})["x", "answered"] == 1


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.int64(), "3.5"),
        (pa.bool_(), "maybe"),
        (pa.date32(), "2024-02-30"),
        (pa.date32(), "2024-02-28 11:00"),
    ],
)
def test_a_value_of_another_type_is_refused(kind: pa.DataType, value: Any) -> None:
    with pytest.raises(ValueError, match="x is"):
        Fields(pa.struct([("x", kind)]), fold=False).expected({"x": value})


@pytest.mark.parametrize(
    ("markdown", "said"),
    [
        ("# A *title*\n\ntext  \nwrapped", "A title text wrapped"),
        ("| item | price |\n|---|--:|\n| tea | 2.50 |", "item price tea 2.50"),
        ("- one\n- [two](http://x.example)\n\n1. three\n2. four", "one two 1. three 2. four"),
        ("• one\n  ▪ two", "one two"),
        ("```\nx = 1\n```\nand `y`<br>![a plan](p.png)", "x = 1 and y a plan"),
        ("<table><tr><td>9</td></tr></table>", "9"),
        ("\\# 5 \\* 3 &amp; $E=mc^2$", "# 5 * 3 & $E=mc^2$"),
        ("o\ufb03ce\u00a0hours", "office hours"),
        ("snake_case 2 * 3 * 4 a < b", "snake_case 2 * 3 * 4 a < b"),
    ],
)
def test_marks_are_no_words(markdown: str, said: str) -> None:
    assert plain(markdown) == said


def test_speech_may_be_scored_without_case_and_punctuation() -> None:
    assert plain("Well -- it's 3 o'clock, SIR.", fold=True) == "well its 3 oclock sir"
