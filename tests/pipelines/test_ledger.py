"""What is owed, what is current, what became of it: laws over outputs made of plain rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from pipelines.audit import judge
from pipelines.failures import failed_selection
from pipelines.holdings import ANSWERS, ERRORS, Holdings
from pipelines.ledger import completeness, make_ledger
from pipelines.sweep import superseded_answers, superseded_errors
from pipelines.whole import about
from schemas.rows import IDENTITY
from schemas.selection import ONLY, Selection

TASKS = {"page": ["ocr", "caption"], "audio": ["transcribe"]}
NOW = {"ocr": "o2", "caption": "c2", "transcribe": "t2"}
CURRENT = {"ocr": {"o2"}, "caption": {"c2", "c2w"}, "transcribe": {"t2"}}
"""The second caption's is of the question about the whole document."""
MADE_OF = {task: [{"task": task, "prompt": "new", "model": "m"}] for task in NOW}
KNOWN = {"o1": {"task": "ocr", "prompt": "old", "model": "m"}}
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def answer(document: str, task: str, part: int = 0, **more: Any) -> dict[str, Any]:
    values = {
        "document_id": document,
        "version": "v1",
        "task": task,
        "part_index": part,
        "parts_total": 1,
        "part_kind": "page",
        "fingerprint": NOW[task],
        "answered_at": BEGAN,
    }
    return values | more


def error(document: str, part: int | None = None, task: str | None = None, **more: Any) -> dict[str, Any]:
    values = {
        "document_id": document,
        "version": "v1",
        "part_index": part,
        "parts_total": None if part is None else 1,
        "part_kind": None if part is None else "page",
        "task": task,
        "category": "corrupt",
        "run_id": "run",
        "answered_at": BEGAN,
    }
    return values | more


def holdings(
    answers: Sequence[dict[str, Any]], errors: Sequence[dict[str, Any]] = (), filtered: str = ""
) -> Holdings:
    def table(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
        keyed = [
            {
                "file": 0,
                "row": place,
                "name": f"{row['document_id']}/{row['version']}",
                "current": row.get("fingerprint") in CURRENT.get(row["task"] or "", ()),
            }
            | row
            for place, row in enumerate(rows)
        ]
        return pa.Table.from_pylist(keyed, schema)

    names = pa.array([f"{name}/v1" for name in filtered.split()], pa.string())
    return Holdings(table(answers, ANSWERS), table(errors, ERRORS), names, (), KNOWN)


def documents(*names: str, version: str = "v1", skipped: bool = False) -> pa.Table:
    rows = [
        {"document_id": n, "uri": f"s3://lake/{n}", "version": version, "skipped": skipped} for n in names
    ]
    return pa.Table.from_pylist(rows, pa.schema([*IDENTITY, ("skipped", pa.bool_())]))


def ledger(held: Holdings, **selection: Any) -> Any:
    return make_ledger(held.standing, TASKS, MADE_OF, Selection(**selection))


BOTH = [answer("a", "ocr"), answer("a", "caption")]


@pytest.mark.parametrize(
    ("held", "version", "reason"),
    [
        (holdings([]), "v1", "new"),
        (holdings(BOTH), "v1", "done"),
        (holdings(BOTH), "v2", "new version"),
        (holdings([answer("a", "ocr")]), "v1", "new task"),
        (holdings([answer("a", "ocr", parts_total=2), answer("a", "caption")]), "v1", "unfinished"),
        (holdings([answer("a", "ocr")], [error("a", 0, "caption")]), "v1", "failed"),
        (holdings([], [error("a")]), "v1", "failed"),
        (holdings([], [error("a")]), "v2", "new version"),
        (holdings([answer("a", "ocr", fingerprint="o1"), BOTH[1]]), "v1", "changed: prompt"),
        (holdings([answer("a", "ocr", fingerprint="??"), BOTH[1]]), "v1", "changed: asked otherwise"),
        (holdings([*BOTH, answer("a", "ocr", fingerprint="o1")]), "v1", "done"),
        (holdings([], [], "a"), "v1", "filtered"),
    ],
)
def test_a_document_is_worked_on_for_a_reason(held: Holdings, version: str, reason: str) -> None:
    assert ledger(held).reasons(documents("a", version=version)).to_pylist() == [reason]


def test_what_is_selected_is_worked_on_and_the_rest_is_skipped() -> None:
    held = holdings([*BOTH, answer("c", "ocr", fingerprint="o1")], [error("b")])
    listed = documents("a", "b", "c", "d")

    def worked(**selection: Any) -> set[str]:
        book = ledger(held, **selection)
        skipped = book.skipped(book.reasons(listed)).to_pylist()
        return {name for name, skip in zip("abcd", skipped, strict=True) if not skip}

    assert worked() == {"b", "c", "d"}
    assert worked(force=True) == {"a", "b", "c", "d"}
    assert worked(only=ONLY["failed"]) == {"b"}
    assert worked(only=ONLY["changed"]) == {"c"}
    assert worked(only=ONLY["new"]) == {"d"}
    assert worked(only=ONLY["failed"], categories={"corrupt"}) == {"b"}
    assert worked(only=ONLY["failed"], categories={"empty"}) == set()


def test_what_was_asked_otherwise_in_vain_is_tried_again_as_what_failed() -> None:
    held = holdings([answer("a", "ocr", fingerprint="o1"), BOTH[1]], [error("a", 0, "ocr")])

    def worked(selection: Selection) -> bool:
        book = make_ledger(held.standing, TASKS, MADE_OF, selection)
        return not book.skipped(book.reasons(documents("a"))).to_pylist()[0]

    assert worked(failed_selection([])) and worked(Selection(only=ONLY["changed"]))
    assert not worked(failed_selection(["empty"])) and not worked(Selection(only=ONLY["new"]))


def test_what_is_not_asked_of_such_parts_any_more_makes_up_for_nothing_that_is() -> None:
    """As when `of: [image]` comes to one task of a job and another task is new."""
    held = holdings([*BOTH, answer("b", "caption"), answer("c", "ocr")])

    def asked(*tasks: str) -> list[str]:
        book = make_ledger(held.standing, {"page": tasks, "image": ["caption"]}, MADE_OF, Selection())
        found: list[str] = book.reasons(documents("a", "b", "c")).to_pylist()
        return found

    assert asked("ocr", "transcribe") == ["new task"] * 3
    assert asked("ocr") == ["done", "new task", "done"]
    assert asked() == ["done"] * 3
    done = completeness(held.standing.runs, {"page": ["ocr", "transcribe"]})
    assert done["answers"].to_pylist() == [["0/ocr"], [], ["0/ocr"]]


def test_what_failed_otherwise_is_not_tried_again_with_a_category() -> None:
    half = [answer("a", task, parts_total=2) for task in TASKS["page"]]
    held = holdings(half, [error("a", 1, "ocr", category="poison", parts_total=2)])
    tried = {}
    for category in ("poison", "request_timeout"):
        book = make_ledger(held.standing, TASKS, MADE_OF, failed_selection([category]))
        tried[category] = not book.skipped(book.reasons(documents("a"))).to_pylist()[0]
    assert tried == {"poison": True, "request_timeout": False}


def test_who_cannot_be_looked_up_any_more_has_failed_whatever_was_answered_before() -> None:
    held, listed = holdings(BOTH, [error("a", version="")]), documents("a", version="")
    done = completeness(held.standing.runs, TASKS)
    found = judge(listed, done, held.errors, pa.array([], pa.string()), TASKS)
    assert (found.counts["ok"], found.counts["failed"]) == (0, 1)


def test_what_was_asked_again_in_vain_is_not_made_good_by_the_answer_there_was() -> None:
    held, listed = (
        holdings(BOTH, [error("a", 0, "ocr"), error("a", 0, "ocr", run_id="before")]),
        documents("a"),
    )
    settled, done = pa.array(["a"]), completeness(held.standing.runs, TASKS)
    found = {}
    for again in (False, True):
        gone = superseded_errors(held, listed, settled, "run", TASKS, again=again)["row"].to_pylist()
        nobody = pa.array([], pa.string())
        audit = judge(listed, done, held.errors.slice(0, 1), nobody, TASKS, anew=nobody if again else None)
        assert audit.missing == () and audit.settled["name"].to_pylist() == ["a/v1"]
        found[again] = sorted(gone), +audit.counts
    assert found == {False: ([0, 1], {"ok": 1}), True: ([1], {"partial": 1})}


def test_who_was_to_be_asked_again_and_was_not_is_missing_though_the_old_answer_is_there() -> None:
    held = holdings([answer(name, task) for name in "abc" for task in TASKS["page"]], [error("b")])
    done, listed = completeness(held.standing.runs, TASKS), documents("a", "b", "c")
    found = judge(listed, done, held.errors, pa.array([], pa.string()), TASKS, anew=pa.array(["a/v1"]))
    assert +found.counts == {"ok": 1, "partial": 1}
    assert found.settled["name"].to_pylist() == ["a/v1", "b/v1"]
    assert found.missing == tuple(listed["uri"].to_pylist()[2:])


def test_a_half_done_document_goes_on_at_what_is_missing() -> None:
    held = holdings([answer("a", "ocr", part, parts_total=3) for part in (0, 2)])
    assert ledger(held).kept_answers(documents("b", "a")).to_pylist() == [None, ["0/ocr", "2/ocr"]]
    assert ledger(held, force=True).kept_answers(documents("a")).to_pylist() == [None]


def gone(answers: list[dict[str, Any]], listed: pa.Table) -> list[int]:
    places: list[int] = superseded_answers(holdings(answers).answers, listed)["row"].to_pylist()
    return sorted(places)


def test_an_answer_goes_when_its_successor_is_there_and_not_before() -> None:
    old = answer("a", "ocr", fingerprint="o1")
    assert gone([old], documents("a")) == []
    assert gone([old, answer("a", "ocr")], documents("a")) == [0]
    assert gone([old, answer("a", "caption")], documents("a")) == [], "another task is no successor"
    assert gone([old, answer("b", "ocr")], documents("a", "b")) == []
    assert gone([old, answer("a", "ocr")], documents("b")) == [], "not listed, not ours to sweep"


def test_a_document_that_became_shorter_loses_its_last_pages_when_it_is_whole() -> None:
    old = [answer("a", "ocr", part, parts_total=3) for part in range(3)]
    new = [answer("a", "ocr", part, parts_total=2, version="v2") for part in range(2)]
    assert gone([*old, new[0]], documents("a", version="v2")) == [0]
    assert gone([*old, *new], documents("a", version="v2")) == [0, 1, 2]


def test_the_last_good_answer_stays_when_the_new_version_fails() -> None:
    held = holdings([answer("a", "ocr")], [error("a", version="v2")])
    assert superseded_answers(held.answers, documents("a", version="v2")).num_rows == 0


def test_of_one_answer_written_twice_the_later_stays() -> None:
    later = answer("a", "ocr", answered_at=BEGAN + timedelta(seconds=1))
    assert gone([later, answer("a", "ocr")], documents("a")) == [1]
    assert gone([answer("a", "ocr"), later, answer("a", "ocr")], documents("a")) == [0, 2]


def test_errors_go_when_they_are_restated_or_made_good() -> None:
    listed, nobody = documents("a"), pa.array([], pa.string())

    def swept(answers: list[dict[str, Any]], errors: list[dict[str, Any]], settled: pa.Array) -> list[int]:
        found = superseded_errors(holdings(answers, errors), listed, settled, "run", TASKS)
        return sorted(found["row"].to_pylist())

    before = error("a", run_id="before")
    assert swept([], [before, error("a")], pa.array(["a"])) == [0], "said anew by this run"
    assert swept([], [before], nobody) == [], "this run has not come to it"
    assert swept(BOTH, [before], nobody) == [0], "every answer is there"
    assert swept([answer("a", "ocr")], [error("a", 0, "ocr"), error("a", 0, "caption")], nobody) == [0]
    assert swept([], [error("b", run_id="before")], pa.array(["b"])) == [], "not listed"
    others = error("a", 0, "translate", run_id="before")
    assert swept(BOTH, [others, before], pa.array(["a"])) == [1], "another job's task, which this one leaves"


WHOLES = {"page": ["caption"], "audio": []}


def whole(document: str, **more: Any) -> dict[str, Any]:
    return answer(document, "caption", **{"part_index": None, "parts_total": 2, "fingerprint": "c2w"} | more)


def pages(document: str, **more: Any) -> list[dict[str, Any]]:
    return [
        answer(document, task, part, parts_total=2, **more) for task in TASKS["page"] for part in range(2)
    ]


def test_what_is_owed_of_the_whole_alone_does_not_need_the_document() -> None:
    def needed(answers: list[dict[str, Any]], **selection: Any) -> tuple[list[str], list[bool]]:
        held = holdings(answers)
        book = make_ledger(held.standing, TASKS, MADE_OF, Selection(**selection), WHOLES)
        listed = documents("a")
        return book.reasons(listed).to_pylist(), book.needed(listed).to_pylist()

    assert needed(pages("a")) == (["unfinished"], [False])
    assert needed(pages("a")[1:]) == (["unfinished"], [True])
    assert needed([*pages("a"), whole("a")])[0] == ["done"]
    assert needed([answer("a", task) for task in TASKS["page"]])[0] == ["done"], "one page is the whole"
    assert needed(pages("a"), force=True) == (["unfinished"], [True])


def test_a_document_that_had_no_version_when_it_was_listed_is_asked_about_as_a_whole() -> None:
    held = holdings([*pages("a"), *pages("b"), *pages("c", version="v2")]).answers
    work = pa.concat_tables([documents("a", version=""), documents("c")])
    assert set(held.filter(about(held, work))["document_id"].to_pylist()) == {"a"}


def test_an_answer_about_the_whole_goes_when_its_successor_is_there() -> None:
    def gone(answers: list[dict[str, Any]], wholes: Mapping[str, Sequence[str]] = WHOLES) -> list[int]:
        held = holdings(answers)
        return sorted(superseded_answers(held.answers, documents("a"), wholes)["row"].to_pylist())

    old = whole("a", fingerprint="c1w")
    assert gone([old, *pages("a")]) == [], "another is owed"
    assert gone([old, *pages("a"), whole("a")]) == [0]
    assert gone([old, *pages("a")], {}) == [0], "no longer asked"
    assert gone([old, *(answer("a", task) for task in TASKS["page"])]) == [0], "one page left"
    assert gone([old, *pages("a")[:3]], {}) == [], "not all parts are asked anew"
