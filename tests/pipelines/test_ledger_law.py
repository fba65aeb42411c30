"""Ledger, sweep and audit between them lose no document: a law over outputs of every kind."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit import judge
from pipelines.holdings import Holdings
from pipelines.ledger import completeness, make_ledger
from pipelines.sweep import superseded_answers
from schemas.selection import Reason, Selection
from tests.pipelines.test_ledger import (
    CURRENT,
    MADE_OF,
    NOW,
    TASKS,
    WHOLES,
    answer,
    documents,
    error,
    holdings,
)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]]:
    """Documents of one to three pages; to each question an answer, an older one, both, an error, nothing. Of
    several pages one is about the whole."""
    answers, errors, totals = [], [], {}
    for name in "abcd":
        totals[name] = total = draw(st.integers(1, 3))
        questions = [(part, task) for part in range(total) for task in TASKS["page"]]
        questions += [(None, "caption")] if total > 1 else []
        for part, task in questions:
            facts = {"part_index": part, "parts_total": total}
            now = NOW[task] if part is not None else "c2w"
            match draw(st.sampled_from(["now", "before", "both", "error", "nothing"])):
                case "now":
                    answers.append(answer(name, task, **facts | {"fingerprint": now}))
                case "before":
                    answers.append(answer(name, task, **facts, fingerprint="x1"))
                case "both":
                    answers += [answer(name, task, **facts, fingerprint=f) for f in ("x1", now)]
                case "error":
                    errors.append(error(name, 0, task) | facts | {"part_kind": "page"})
    return answers, errors, totals


@given(outputs())
def test_no_document_is_lost_between_ledger_sweep_and_audit(
    output: tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, int]],
) -> None:
    answers, errors, totals = output
    held, listed = holdings(answers, errors), documents(*totals)

    def book(held: Holdings) -> Any:
        return make_ledger(held.standing, TASKS, MADE_OF, Selection(), WHOLES)

    current = Counter(
        (row["document_id"], row["part_index"], row["task"])
        for row in answers
        if row["fingerprint"] in CURRENT[row["task"]]
    )

    # The sweep takes what has a successor, and leaves every question that had an answer one.
    going = set(superseded_answers(held.answers, listed, WHOLES)["row"].to_pylist())
    left = [row for place, row in enumerate(answers) if place not in going]
    asked = {(row["document_id"], row["part_index"], row["task"]) for row in answers}
    assert Counter((row["document_id"], row["part_index"], row["task"]) for row in left) == Counter(asked)
    assert all(answers[place]["fingerprint"] not in CURRENT[answers[place]["task"]] for place in going)

    # The audit counts each document once, and knows whom nobody has spoken for.
    done = completeness(held.standing.runs, TASKS, WHOLES)
    found = judge(listed, done, held.errors, pa.array([], pa.string()), TASKS, WHOLES)
    assert found.counts.total() + len(found.missing) == len(totals)
    for name, total in totals.items():
        spoken = {key for key in current if key[0] == name}
        spoken |= {(name, row["part_index"], row["task"]) for row in errors if row["document_id"] == name}
        owed = {(name, part, task) for part in range(total) for task in TASKS["page"]}
        if total > 1 and all((name, part, "caption") in current for part in range(total)):
            owed.add((name, None, "caption"))
        assert (f"s3://lake/{name}" in found.missing) is not (owed <= spoken)
        complete = len(owed) == 2 * total + (total > 1) and owed <= set(current)
        is_done = book(held).reasons(documents(name)).to_pylist() == [Reason.DONE]
        assert is_done is complete, "done is what owes nothing"

    # Swept or not, the ledger asks the same.
    after = book(holdings(left, errors))
    assert after.kept_answers(listed).to_pylist() == book(held).kept_answers(listed).to_pylist()
    assert after.complete.to_pylist() == book(held).complete.to_pylist()
