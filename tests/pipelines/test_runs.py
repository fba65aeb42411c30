"""Runs of parts say what the rows say, however these lie in files: laws, and a real output."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from pipelines.holdings import ANSWERS, read_holdings
from pipelines.ledger import Ledger, completeness, make_ledger, read_ledger
from pipelines.plan import Plan, make_plan
from pipelines.runs import apart, ids_of, joined, names_of, one_by_one, runs_of
from schemas.job import make_job
from schemas.rows import Status, outcomes_schema
from schemas.selection import Selection
from schemas.storage import StorageOptions
from tests.pipelines.outputs import answer
from workers.sinks.parquet import ParquetSink

TASKS = {"page": ["ocr", "caption"], "audio": []}
WHOLES = {"page": ["caption"], "audio": []}

rows = st.fixed_dictionaries(
    {
        "document_id": st.sampled_from(["a", "b"]),
        "version": st.sampled_from(["v1", "v/2", ""]),
        "task": st.sampled_from(["ocr", "caption"]),
        "fingerprint": st.sampled_from(["now", "whole", "before"]),
        "part_index": st.sampled_from([None, 0, 1, 2, 3, 4]),
        "parts_total": st.just(3),
        "part_kind": st.just("page"),
    }
)
files = st.lists(st.lists(rows, max_size=12), max_size=5)


def answers(rows: list[dict[str, Any]]) -> pa.Table:
    ours = {"file": 0, "row": 0, "answered_at": datetime(2026, 1, 1, tzinfo=UTC)}
    keyed = [{**row, **ours, "name": name(row), "current": row["fingerprint"] != "before"} for row in rows]
    return pa.Table.from_pylist(keyed, ANSWERS)


def name(row: dict[str, Any]) -> str:
    return f"{row['document_id']}/{row['version']}"


@given(files)
def test_no_answer_is_lost_or_made_up(files: list[list[dict[str, Any]]]) -> None:
    runs = joined([runs_of(answers(rows)) for rows in files])
    each = pa.concat_tables(
        [one_by_one(apart(runs.filter(pc.equal(runs["current"], now)))) for now in (True, False)]
    )
    found = [
        (row["name"], row["task"], row["current"], None if row["first"] < 0 else row["first"])
        for row in each.to_pylist()
    ]
    said = {
        (name(row), row["task"], row["fingerprint"] != "before", row["part_index"])
        for rows in files
        for row in rows
    }
    assert len(found) == len(set(found)) and set(found) == said


@given(files)
def test_what_is_complete_does_not_depend_on_how_the_answers_lie_in_files(
    files: list[list[dict[str, Any]]],
) -> None:
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for row in (row for rows in files for row in rows if row["fingerprint"] != "before"):
        part = "" if row["part_index"] is None else row["part_index"]
        keys[name(row)].add(f"{part}/{row['task']}")
    found = completeness(joined([runs_of(answers(rows)) for rows in files]), TASKS, WHOLES).to_pylist()
    assert sorted(row["name"] for row in found) == sorted(keys)
    for row in found:
        have = keys[row["name"]]
        of_parts = {key for key in have if not key.startswith("/")}
        assert row["answered"] == len(have)
        assert row["owed"] == 3 * 2 + 1
        assert row["complete"] == (len(have) >= 7)
        assert row["parted"] == (len(of_parts) >= 6)
        assert row["tasks"] == len({key.partition("/")[2] for key in have})
        if not row["complete"]:
            assert sorted(row["answers"]) == sorted(have)


def test_one_row_says_that_all_pages_of_a_book_have_an_answer() -> None:
    book = [
        {"document_id": "a", "version": "v1", "task": "ocr", "fingerprint": "now", "part_index": part}
        | {"parts_total": 1_000, "part_kind": "page"}
        for part in range(1_000)
    ]
    [run] = runs_of(answers(book)).to_pylist()
    assert (run["first"], run["last"]) == (0, 999)
    first, second = runs_of(answers(book[:500] + book[501:])).to_pylist()
    assert (first["first"], first["last"], second["first"], second["last"]) == (0, 499, 501, 999)
    unlike = [*book[:500], *({**row, "part_kind": None} for row in book[500:])]
    assert [run["last"] for run in runs_of(answers(unlike)).to_pylist()] == [499, 999]


@given(st.lists(st.tuples(st.sampled_from(["a", "b2"]), st.sampled_from(["", "/", "v/1"]))))
def test_a_name_has_its_id_in_it_whatever_the_version(pairs: list[tuple[str, str]]) -> None:
    table = pa.table(
        {
            "document_id": pa.array([one for one, _ in pairs], pa.string()),
            "version": pa.array([other for _, other in pairs], pa.string()),
        }
    )
    assert ids_of(names_of(table)).to_pylist() == [one for one, _ in pairs]


def planned(output: Path, prompt: str = "") -> Plan:
    ocr = {"task": "ocr", "prompt": prompt} if prompt else "ocr"
    return make_plan(make_job({"input": "/in", "output": str(output), "tasks": [ocr, "caption"]}), None, 0)


def publish(plan: Plan, rows: list[dict[str, Any]]) -> None:
    sink = ParquetSink(plan.output, StorageOptions(), plan.data_types, None, plan.run_id, plan.metadata)
    now = {task: fingerprints[0] for task, fingerprints in plan.fingerprints.items()}
    rows = [row | {"fingerprint": now[row["task"]]} if row["task"] else row for row in rows]
    sink.write(pa.Table.from_pylist(rows, outcomes_schema(plan.data_types, None)))


def failed(name: str, status: Status, category: str) -> dict[str, Any]:
    error = {"stage": "expand", "category": category, "message": "it is broken", "transient": False}
    return answer(name, "", None) | {"task": None, "status": status.value, "error": error}


def facts(ledger: Ledger) -> dict[str, Any]:
    return {
        key: value.to_pylist() if isinstance(value, pa.Array) else value
        for key, value in vars(ledger).items()
    }


def test_the_ledger_that_reads_file_by_file_is_that_of_all_rows(tmp_path: Path) -> None:
    """A book in two files that overlap, one with a page missing, one asked otherwise, one broken, one that
    nothing was asked about."""

    def pages(name: str, *parts: int) -> list[dict[str, Any]]:
        return [answer(name, task, "x", part, parts_total=4) for task in ("ocr", "caption") for part in parts]

    publish(planned(tmp_path, "Read it aloud."), [answer("old.pdf", "ocr", "x")])
    plan = planned(tmp_path)
    publish(plan, pages("book.pdf", 0, 1, 2) + pages("gap.pdf", 0, 1, 3) + pages("whole.pdf", 0, 1, 2, 3))
    publish(plan, pages("book.pdf", 2, 3))
    publish(plan, [failed("bad.pdf", Status.ERROR, "corrupt"), failed("note.txt", Status.FILTERED, "text")])
    held = read_holdings(plan)
    whole = make_ledger(held.standing, plan.tasks_by_kind, plan.ingredients, Selection(), plan.wholes_by_kind)
    ledger = read_ledger(plan)
    assert facts(ledger) == facts(whole)
    # 31 million names fill the 2 GiB of `string`.
    names = [ledger.complete, ledger.parted, ledger.begun, ledger.stale, ledger.failed, ledger.faulty]
    assert {each.type for each in (*names, ledger.filtered)} == {pa.large_string()}
    uris = ["book.pdf", "whole.pdf", "gap.pdf", "old.pdf", "bad.pdf", "note.txt", "new.pdf"]
    listed = pa.table(
        {
            "document_id": [answer(name, "ocr", "")["document_id"] for name in uris],
            "version": ["v1"] * len(uris),
        }
    )
    assert ledger.reasons(listed).to_pylist() == [
        "done", "done", "unfinished", "changed: prompt", "failed", "filtered", "new"
    ]  # fmt: skip
    assert sorted(ledger.kept_answers(listed)[2].as_py()) == [
        f"{part}/{task}" for part in (0, 1, 3) for task in ("caption", "ocr")
    ]
