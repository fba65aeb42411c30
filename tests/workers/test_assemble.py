"""Records and errors in, a row per document out: its text in order, its gaps by name, nothing untyped."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.documents import DOCUMENT_ROWS, documents_schema
from schemas.rows import ERRORS, records_schema, with_attributes
from tests.workers.documents import (
    ATTRIBUTES,
    BOTH,
    NOW,
    TASKS,
    assembled,
    clip,
    fault,
    gap,
    identity,
    page,
    unanswered,
)
from workers.assemble import assemble
from workers.sinks.parquet import encode


def test_pages_come_in_any_order_and_leave_in_theirs() -> None:
    rows = [
        page(2, 0, total=1),
        *(page(1, part, total=12) for part in (11, 2, 0, 10, 1, 9, 3, 8, 4, 7, 5, 6)),
    ]
    first, second = assembled({"ocr": rows})
    assert first == {
        **identity(1),
        "media_type": "application/pdf",
        "document_digest": None,
        "status": "ok",
        "part_kind": "page",
        "parts_total": 12,
        "answers": 12,
        "owed": 12,
        "missing": [],
        "texts": {"ocr": "\n\n".join(f"page {part}" for part in range(12))},
        "segments": None,
        "srt": None,
        "vtt": None,
        "seconds_of_media": None,
        "prompt_tokens": 1_200,
        "output_tokens": 120,
        "engine_seconds": 6.0,
        "fingerprints": {"ocr": "f" * 32},
        "document_metadata": '{"title":"x"}',
        "answered_at": NOW,
        "run_id": "run-2",
    }
    assert (second["status"], second["texts"]) == ("ok", {"ocr": "page 0"})


def test_an_empty_page_leaves_no_hole_and_an_empty_document_its_entry() -> None:
    rows = [page(1, 0, "a"), page(1, 1, ""), page(1, 2, "b"), page(2, 0, "", total=1)]
    assert [row["texts"] for row in assembled({"ocr": rows})] == [{"ocr": "a\n\nb"}, {"ocr": ""}]


def test_a_transcript_is_stitched_in_time() -> None:
    rows = [clip(1, 2, "and good night."), clip(1, 0, "Good evening"), clip(1, 1, ""), page(2, 0, total=1)]
    spoken, read = assembled({"transcribe": rows[:3], "ocr": rows[3:]})
    assert (spoken["status"], spoken["missing"]) == ("ok", [])
    assert spoken["texts"] == {"transcribe": "Good evening and good night."}
    said = [(heard["part_index"], heard["start_seconds"], heard["text"]) for heard in spoken["segments"]]
    assert said == [(0, 0.0, "Good evening"), (2, 20.0, "and good night.")]
    assert spoken["segments"][1]["task"] == "transcribe"
    assert spoken["segments"][1]["end_seconds"] == spoken["seconds_of_media"] == 29.5
    assert read["segments"] is None


def test_silence_has_segments_but_none_to_show() -> None:
    [row] = assembled({"transcribe": [clip(1, 0, "", total=1)]})
    assert (row["segments"], row["texts"], row["seconds_of_media"]) == ([], {"transcribe": ""}, 9.5)


def test_segments_of_two_tasks_share_one_clock() -> None:
    tasks = {"audio": ("transcribe", "translate")}
    heard = {name: [clip(1, part, f"{name} {part}", total=2) for part in (1, 0)] for name in tasks["audio"]}
    [row] = assembled(heard, tasks=tasks)
    assert [each["text"] for each in row["segments"]] == [
        "transcribe 0",
        "translate 0",
        "transcribe 1",
        "translate 1",
    ]
    assert row["texts"] == {"transcribe": "transcribe 0 transcribe 1", "translate": "translate 0 translate 1"}


def test_what_is_missing_has_a_name_and_no_place_in_the_text() -> None:
    later = NOW + timedelta(minutes=1)
    errors = [fault(1, 1, "ocr", category="looping", message="cut at 512", total=4, answered_at=later)]
    [row] = assembled({"ocr": [page(1, 3, total=4), page(1, 0, total=4)]}, errors)
    assert (row["status"], row["answers"], row["owed"]) == ("partial", 2, 4)
    assert row["missing"] == [gap(1, "ocr", "looping", "cut at 512"), unanswered(2, "ocr")]
    assert row["texts"] == {"ocr": "page 0\n\npage 3"}
    assert row["answered_at"] == later


def test_a_part_that_failed_before_any_task_is_one_entry() -> None:
    """Also where one of its tasks was answered earlier, but not where all of them were."""
    records = {
        "ocr": [page(1, 0, total=2), page(2, 0, total=1)],
        "extract": [page(1, 0, "{}", total=2), page(1, 1, "{}", total=2)],
    }
    first, second = assembled(
        records, [fault(1, 0, total=2), fault(1, 1, total=2), fault(2, 0, total=1)], BOTH
    )
    assert (first["status"], first["missing"]) == ("partial", [gap(1, None)])
    assert (second["status"], second["missing"]) == ("partial", [gap(0, None)])


def test_a_document_that_never_opened_says_so_once() -> None:
    [row] = assembled({}, [fault(1, total=None, media_type=None)])
    assert (row["status"], row["answers"], row["owed"], row["parts_total"]) == ("failed", 0, None, None)
    assert row["missing"] == [gap(None, None)]
    assert (row["texts"], row["fingerprints"], row["segments"]) == ({}, {}, None)
    assert (row["uri"], row["media_type"], row["prompt_tokens"]) == ("s3://lake/1", None, None)
    assert row["answered_at"] == NOW


def test_a_document_given_up_halfway_is_explained_by_one_row() -> None:
    [row] = assembled({"ocr": [page(1, 0, total=900)]}, [fault(1, 1, total=900), fault(1, total=900)])
    assert (row["status"], row["answers"], row["owed"]) == ("partial", 1, 900)
    assert row["missing"] == [gap(1, None), gap(None, None)]


def test_a_document_of_which_every_part_failed() -> None:
    [row] = assembled({}, [fault(1, part, total=2) for part in (1, 0)], BOTH)
    assert (row["status"], row["answers"], row["owed"]) == ("failed", 0, 4)
    assert row["missing"] == [gap(0, None), gap(1, None)]


def test_two_tasks_on_one_document() -> None:
    records = {
        "ocr": [page(1, part, total=2) for part in (1, 0)],
        "extract": [page(1, 1, '{"n":1}', total=2, fingerprint="e")],
    }
    [row] = assembled(records, [fault(1, 0, "extract", total=2)], BOTH)
    assert row["texts"] == {"extract": '{"n":1}', "ocr": "page 0\n\npage 1"}
    assert row["fingerprints"] == {"extract": "e", "ocr": "f" * 32}
    assert (row["answers"], row["owed"], row["prompt_tokens"]) == (3, 4, 300)
    assert row["missing"] == [gap(0, "extract")]


def test_a_document_among_thousands_has_its_own_texts() -> None:
    # Arrow's groups come in the order of a hash table: with few documents that looks like the right one.
    texts = {
        task: [page(n, part, f"{n} {task} {part}", total=2) for n in range(3_000) for part in (1, 0)]
        for task in BOTH["page"]
    }
    assert [row["texts"] for row in assembled(texts, tasks=BOTH)] == [
        {task: f"{n} {task} 0\n\n{n} {task} 1" for task in BOTH["page"]} for n in range(3_000)
    ]


def test_what_is_said_of_the_whole_stands_for_what_its_parts_say() -> None:
    gist = page(1, 0, "gist", part_index=None, total=2, fingerprint="w" * 32)
    rows = [*(page(1, part, total=2) for part in range(2)), gist, page(2, 0, "alone", total=1)]
    whole, single = assembled({"ocr": rows}, wholes={"page": ["ocr"]})
    assert (whole["status"], whole["answers"], whole["owed"], whole["missing"]) == ("ok", 3, 3, [])
    assert whole["texts"] == {"ocr": "gist"} and whole["fingerprints"] == {"ocr": "w" * 32}
    assert (single["status"], single["owed"], single["texts"]) == ("ok", 1, {"ocr": "alone"})


def test_of_a_recording_the_whole_has_no_time_of_its_own() -> None:
    rows = [clip(1, 0, "a", total=2), clip(1, 1, "b", total=2), clip(1, 0, "ab", total=2, part_index=None)]
    rows[2] |= {"start_seconds": None, "end_seconds": None}
    (heard,) = assembled({"gist": rows}, tasks={"audio": ["gist"]}, wholes={"audio": ["gist"]})
    assert heard["texts"] == {"gist": "ab"} and heard["seconds_of_media"] == 19.5
    assert [segment["text"] for segment in heard["segments"]] == ["a", "b"]


def test_a_whole_that_waits_for_its_parts_is_no_gap_of_its_own() -> None:
    wholes = {"page": ["ocr"]}
    (half,) = assembled({"ocr": [page(1, 0, total=2)]}, [fault(1, 1, "ocr", total=2)], wholes=wholes)
    assert (half["status"], half["missing"]) == ("partial", [gap(1, "ocr")])
    both = [page(1, part, total=2) for part in range(2)]
    (failed,) = assembled({"ocr": both}, [fault(1, None, "ocr", total=2)], wholes=wholes)
    assert (failed["status"], failed["missing"]) == ("partial", [gap(None, "ocr")])
    assert failed["texts"] == {"ocr": "page 0\n\npage 1"}
    (waiting,) = assembled({"ocr": both}, wholes=wholes)
    assert waiting["missing"] == [unanswered(None, "ocr")]


def test_an_answer_that_is_not_asked_for_makes_up_for_none() -> None:
    records = {"ocr": [page(1, 0, total=2)], "caption": [page(1, 0, total=2), page(2, 0, total=1)]}
    first, second = assembled(records)
    assert (first["status"], first["answers"], first["texts"]) == ("partial", 1, {"ocr": "page 0"})
    assert first["missing"] == [unanswered(1, "ocr")]
    assert (second["status"], second["missing"]) == ("failed", [unanswered(0, "ocr")])


def test_an_error_that_was_made_good_is_not_missing() -> None:
    errors = [fault(1, 0, "ocr", total=2), fault(1, 1, total=2), fault(1, total=None)]
    [row] = assembled({"ocr": [page(1, part, total=2) for part in range(2)]}, errors)
    assert (row["status"], row["missing"]) == ("ok", [])


def test_of_two_errors_about_the_same_the_later_counts() -> None:
    later = fault(1, total=None, category="too_large", message="m", answered_at=NOW + timedelta(days=1))
    [row] = assembled({}, [later, fault(1, total=None)])
    assert row["missing"] == [gap(None, None, "too_large", "m")]


def test_sums_pass_what_a_part_can_hold() -> None:
    [row] = assembled({"ocr": [page(1, part, prompt_tokens=2**31 - 1) for part in range(3)]})
    assert row["prompt_tokens"] == 3 * (2**31 - 1)


def test_all_null_columns_keep_their_types() -> None:
    """`assembled` holds each result against the schema; here nothing but the keys is known."""
    bare = identity(1) | {"part_index": 0, "parts_total": 1, "part_kind": "page"}
    [row] = assembled({"ocr": [bare]})
    assert (row["status"], row["texts"], row["fingerprints"]) == ("ok", {"ocr": ""}, {"ocr": None})
    assert row["prompt_tokens"] is row["answered_at"] is row["media_type"] is None
    [row] = assembled({}, [identity(1)])
    assert (row["status"], row["missing"]) == ("failed", [gap(None, None, None, None)])


def test_attributes_are_carried_from_either() -> None:
    def own(customer: str) -> dict[str, Any]:
        return {"attributes": {"customer": customer, "priority": 1}}

    later: dict[str, Any] = {"answered_at": NOW + timedelta(days=1)}
    records = [page(1, 1, **own("old")), page(1, 0, **own("a"), **later), page(1, 2, attributes=None)]
    records.append(page(3, 0, attributes=None, total=1))
    rows = assembled({"ocr": records}, [fault(2, total=None, **own("b"))], attributes=ATTRIBUTES)
    assert [row["attributes"] and row["attributes"]["customer"] for row in rows] == ["a", "b", None]
    assert "attributes" not in assembled({"ocr": records})[0]


@pytest.mark.parametrize("attributes", [None, ATTRIBUTES])
def test_nothing_in_nothing_out(attributes: pa.DataType | None) -> None:
    assert assembled({}, attributes=attributes) == []
    assert assembled({"ocr": []}, attributes=attributes) == []


def test_the_order_of_rows_and_tasks_changes_nothing() -> None:
    rows = [page(document, part, seconds=0.1 * part) for document in range(5) for part in range(3)]
    records = {"ocr": rows, "extract": rows[2:]}
    errors = [fault(document) for document in range(8)]
    shuffled = {
        name: random.Random(1).sample(records[name], len(records[name])) for name in reversed(records)
    }
    assert assembled(shuffled, errors[::-1], BOTH) == assembled(records, errors, BOTH)


def test_duckdb_and_pandas_read_it(tmp_path: Path) -> None:
    import duckdb
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]

    attributes: dict[str, Any] = {"attributes": {"customer": "c", "priority": 1}}
    schema = records_schema(None, ATTRIBUTES)
    records = {
        "ocr": [page(1, 1, total=2, **attributes), page(1, 0, total=2, **attributes)],
        "transcribe": [clip(2, 0, "hello", total=2), clip(2, 1, "", total=2)],
    }
    errors = pa.Table.from_pylist(
        [fault(3, total=None, **attributes)], schema=with_attributes(ERRORS, ATTRIBUTES)
    )
    tables = {task: pa.Table.from_pylist(rows, schema=schema) for task, rows in records.items()}
    table = assemble(tables, errors, TASKS, ["transcribe"], "run-1", ATTRIBUTES)
    file = tmp_path / "documents.parquet"
    file.write_bytes(encode(table))
    assert pq.ParquetFile(file).schema_arrow.equals(documents_schema(ATTRIBUTES), check_metadata=False)
    assert pq.ParquetFile(file).read().equals(table)

    with duckdb.connect() as connection:

        def query(what: str) -> list[Any]:
            return connection.execute(f"SELECT {what} FROM '{file}' ORDER BY document_id").fetchall()

        assert query("status, texts['ocr'], attributes.customer") == [
            ("ok", "page 0\n\npage 1", "c"),
            ("ok", None, None),
            ("failed", None, "c"),
        ]
        assert query("len(missing), missing[1].category") == [(0, None), (0, None), (1, "corrupt")]
        assert query("segments[1].text, map_keys(fingerprints)") == [
            (None, ["ocr"]),
            ("hello", ["transcribe"]),
            (None, []),
        ]

    frame = pd.read_parquet(file)
    assert dict(frame["texts"][0]) == {"ocr": "page 0\n\npage 1"}
    assert [each["start_seconds"] for each in frame["segments"][1]] == [0.0]
    assert [each["category"] for each in frame["missing"][2]] == ["corrupt"]
    assert frame["answered_at"].dt.tz is not None


def test_the_key_and_the_status_are_never_null() -> None:
    assert DOCUMENT_ROWS.names[:3] == list(identity(1))
    assert not any(DOCUMENT_ROWS.field(name).nullable for name in (*identity(1), "status"))
