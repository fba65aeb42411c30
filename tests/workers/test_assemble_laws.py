"""Whatever is answered, wrong or missing: a document's row adds up."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.documents import assembled, clip, fault, identity, page

KEYS = st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from(["extract", "ocr", "caption"]))
DOCUMENT = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["page", "audio"]),
        "total": st.integers(1, 4),
        "answers": st.dictionaries(KEYS, st.sampled_from(["", "text"]), max_size=8),
        "errors": st.sets(KEYS, max_size=4),
    }
)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(DOCUMENT, max_size=4),
    st.lists(st.sampled_from(["caption", "extract", "ocr"]), min_size=1, unique=True),
    st.randoms(use_true_random=False),
)
def test_answers_and_gaps_are_what_is_owed(
    documents: list[dict[str, Any]], asked: list[str], chance: random.Random
) -> None:
    """And no entry of `missing` is without a gap, and every text has its parts in order."""
    records: dict[str, list[dict[str, Any]]] = {"caption": [], "extract": [], "ocr": []}
    errors: list[dict[str, Any]] = []
    for number, made in enumerate(documents):
        record = clip if made["kind"] == "audio" else page
        made["grid"] = {(part, task) for part in range(made["total"]) for task in asked}
        for (part, task), text in made["answers"].items():
            if (part, task) in made["grid"]:
                said = text and f"{task} of {part}"
                records[task].append(record(number, part, said, total=made["total"]))
        for part, task in made["errors"]:
            errors.append(fault(number, part, task, total=made["total"], part_kind=made["kind"]))
    for rows in (errors, *records.values()):
        chance.shuffle(rows)

    tasks = {"page": tuple(asked), "audio": tuple(asked)}
    found = {row["document_id"]: row for row in assembled(records, errors, tasks)}
    named = {row["document_id"] for rows in (errors, *records.values()) for row in rows}
    assert set(found) == named
    for number, made in enumerate(documents):
        row = found.get(identity(number)["document_id"])
        if row is None:
            continue
        answered = made["grid"] & made["answers"].keys()
        open_ = made["grid"] - answered
        covered = [
            {
                (part, task)
                for part, task in open_
                if each["part_index"] in (None, part) and each["task"] in (None, task)
            }
            for each in row["missing"]
        ]
        assert all(covered)
        assert (row["answers"], row["owed"]) == (len(answered), len(made["grid"]))
        assert row["answers"] + len(set().union(*covered)) == row["owed"]
        expected = "ok" if answered == made["grid"] else "partial" if answered else "failed"
        assert row["status"] == expected
        between = " " if made["kind"] == "audio" else "\n\n"
        assert row["texts"] == {
            task: between.join(
                f"{task} of {part}"
                for part in range(4)
                if (part, task) in answered and made["answers"][part, task]
            )
            for task in sorted({task for _, task in answered})
        }
        assert list(row["texts"]) == sorted(row["fingerprints"])
        if made["kind"] == "audio":
            said_ = sum(bool(made["answers"][each]) for each in answered)
            assert len(row["segments"]) == said_
        else:
            assert row["segments"] is None
