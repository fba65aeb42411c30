"""Probabilities of labels out of probabilities of tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.likelihoods import Step, first_token, likelihoods


def step(said: str, odds: float, **others: float) -> Step:
    return (said, math.log(odds)), [(word, math.log(other)) for word, other in others.items()]


def test_labels_that_differ_in_their_first_token() -> None:
    steps = [step("Yes", 0.7, No=0.3), step("<end_of_turn>", 1.0)]
    assert likelihoods(steps, ["Yes", "No"]) == pytest.approx({"Yes": 0.7, "No": 0.3})


def test_labels_that_begin_alike_part_where_they_differ() -> None:
    steps = [step("in", 0.8, letter=0.2), step("voice", 0.75, quiry=0.25), step("<end_of_turn>", 1.0)]
    found = likelihoods(steps, ["invoice", "inquiry", "letter"])
    assert found == pytest.approx({"invoice": 0.6, "inquiry": 0.2, "letter": 0.2})


def test_one_label_within_another_ends_or_goes_on() -> None:
    steps = [step("bill", 1.0), step("<end_of_turn>", 0.9, **{" of lading": 0.1})]
    assert likelihoods(steps, ["bill", "bill of lading"]) == pytest.approx(
        {"bill": 0.9, "bill of lading": 0.1}
    )


def test_labels_nobody_told_apart_share() -> None:
    steps = [step("letter", 0.6, re=0.4)]
    found = likelihoods(steps, ["letter", "receipt", "reminder"])
    assert found == pytest.approx({"letter": 0.6, "receipt": 0.2, "reminder": 0.2})


def test_another_spelling_of_the_same_label_counts_for_it() -> None:
    steps = [step("in", 0.5, invoice=0.3, note=0.2), step("voice", 1.0)]
    assert likelihoods(steps, ["invoice", "note"]) == pytest.approx({"invoice": 0.8, "note": 0.2})


LABELS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=2, max_size=5, unique=True)


@given(LABELS, st.data())
def test_they_sum_to_one_whatever_was_said(labels: list[str], data: st.DataObject) -> None:
    taken = data.draw(st.sampled_from(labels))
    steps: list[Step] = []
    for at, letter in enumerate(taken):
        nexts = sorted({label[at] for label in labels if label.startswith(taken[:at]) and len(label) > at})
        odds = {word: data.draw(st.floats(0.01, 1)) for word in nexts}
        whole = sum(odds.values())
        logs = [(word, math.log(share / whole)) for word, share in odds.items()]
        said = next(pair for pair in logs if pair[0] == letter)
        steps.append((said, [pair for pair in logs if pair[0] != letter]))
    found = likelihoods(steps, labels) or {}
    assert sum(found.values()) == pytest.approx(1.0)
    assert all(0 <= share <= 1.0 + 1e-9 for share in found.values()) and found[taken] > 0


def test_of_a_classifier_only_its_tokens_count() -> None:
    steps = [(("Yes", math.log(0.5)), [("Y", math.log(0.3)), ("No", math.log(0.125)), ("N", math.log(0.05))])]
    found = first_token([*steps, (("<eos>", 0.0), [])], ("Yes", "No"))
    assert found == pytest.approx({"Yes": 0.8, "No": 0.2})


def test_what_ends_an_answer_may_be_one_of_several_tokens() -> None:
    steps = [step("Yes", 0.7, No=0.3), step("<end_of_turn>", 0.6, **{"<eos>": 0.4})]
    assert likelihoods(steps, ["Yes", "No"]) == pytest.approx({"Yes": 0.7, "No": 0.3})


def test_nobody_tells_where_the_tokens_spell_no_label() -> None:
    assert likelihoods([step(" Yes", 0.9, **{" No": 0.1})], ["Yes", "No"]) is None
    # An accent that two tokens of a byte each make.
    steps = [step("Caf", 1.0), step("\ufffd", 0.99, e=0.01), step("\ufffd", 1.0)]
    assert likelihoods(steps, ["Café", "Cafe"]) is None
    assert first_token([step("I", 1.0)], ["Yes", "No"]) is None


def test_what_a_server_says_could_not_have_been_said_is_not_likely() -> None:
    # -9999 is OpenAI's word for what is not among the likeliest.
    steps = [step("a", 1.0), (("<eos>", -9999.0), [("b", 0.0)])]
    assert likelihoods(steps, ["a", "ab"]) == {"a": 0.0, "ab": 1.0}
