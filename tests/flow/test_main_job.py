"""The main job on its real parts: S3 in, Ray Data, vLLM with Gemma 3 and Gemma 3n, Parquet out."""

from __future__ import annotations

import io
import json
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from pipelines.evaluate import evaluate
from pipelines.report import EXIT_DONE
from schemas.rows import records_schema
from tests.fixtures.runs import FRESH, MainRun, RunJob
from workers.storage.factory import join, open_storage

BROKEN = 2
"""Documents of each set that are broken on purpose."""


def pages(run: MainRun) -> dict[tuple[str, int], dict[str, Any]]:
    """(document, part) -> the right answers about it."""
    return {
        (name, index): page
        for name, entry in run.truth.items()
        for index, page in enumerate(entry.get("pages", ()))
    }


def test_every_document_is_accounted_for(main_run: MainRun) -> None:
    counts = main_run.report.counts
    assert counts.listed == len(main_run.truth)
    assert counts.unaccounted == 0
    broken = BROKEN * (1 + len(FRESH))
    assert (counts.failed, counts.partial, counts.skipped, counts.filtered) == (broken, 0, 0, 0)
    assert main_run.report.exit_code == EXIT_DONE


def test_the_counts_are_written_down(main_run: MainRun) -> None:
    uri = join(main_run.report.output, "_runs", main_run.report.run_id, "counts.json")
    written = json.loads(open_storage(uri, main_run.job.storage).read(uri))
    assert written == main_run.report.counts.model_dump()


def test_pages_are_read_by_eye_not_from_their_text_layer(main_run: MainRun) -> None:
    rows = main_run.table("records/task=ocr").to_pylist()
    assert {row["text_source"] for row in rows} == {"model"}


def test_how_well_they_are_read_is_in_the_report_as_evaluate_has_it(main_run: MainRun) -> None:
    held = main_run.report.text_layer["ocr"]
    judged = evaluate(main_run.report.output, "text-layer", main_run.job, sample=1_000).tasks["ocr"]
    assert (held.pages, held.not_read) == (judged.references, 0) and held.pages > 20
    assert held.cer == judged.scores["cer"] < 0.02
    rates = [row["text_layer_cer"] for row in main_run.table("records/task=ocr").to_pylist()]
    assert len(rates) - rates.count(None) == held.pages


def test_every_part_of_every_document_has_one_answer_per_task(main_run: MainRun) -> None:
    for task in ("ocr", "caption", "classify", "extract"):
        rows = main_run.table(f"records/task={task}").to_pylist()
        keys = [(row["document_id"], row["part_index"]) for row in rows]
        assert len(set(keys)) == len(keys) == len(pages(main_run))
        for row in rows:
            assert row["parts_total"] == len(main_run.truth[row["name"]]["pages"])


def test_recordings_are_heard_in_order_and_all_that_is_said_in_them(main_run: MainRun) -> None:
    rows = main_run.table("records/task=transcribe").to_pylist()
    recordings = {name: entry for name, entry in main_run.truth.items() if entry["media"] == "audio"}
    assert {row["name"] for row in rows} == set(recordings)
    for name, entry in recordings.items():
        segments = [row for row in rows if row["name"] == name]
        assert [row["part_index"] for row in segments] == list(range(segments[0]["parts_total"]))
        assert segments[-1]["end_seconds"] <= entry["seconds"] + 0.1
        for before, after in zip(segments, segments[1:], strict=False):
            assert before["end_seconds"] <= after["start_seconds"]
        assert all(row["end_seconds"] - row["start_seconds"] <= 8 for row in segments)
        assert {row["text_source"] for row in segments} == {"model" if entry["digits"] else "silence"}


def test_answers_say_how_they_came_about(main_run: MainRun) -> None:
    for row in main_run.table("records/task=ocr").to_pylist():
        assert 0 < row["confidence"] <= 1
        assert row["prompt_tokens"] > 144 and row["output_tokens"] > 0 and row["seconds"] > 0
        assert row["run_id"] == main_run.report.run_id
        assert row["model_revision"] and row["fingerprint"] and row["finish_reason"] == "stop"


def test_what_is_broken_is_named(main_run: MainRun) -> None:
    rows = main_run.table("errors").to_pylist()
    assert {(row["name"], row["category"]) for row in rows} == {
        (name, entry["category"]) for name, entry in main_run.truth.items() if entry["media"] == "broken"
    }
    assert all(row["message"] and row["stage"] for row in rows)


def test_all_files_of_a_task_have_one_schema_and_pandas_opens_them(main_run: MainRun) -> None:
    storage = open_storage(main_run.report.output, main_run.job.storage)
    for task in main_run.job.tasks:
        schema = records_schema(task.data_type(), None)
        infos = list(storage.list(join(main_run.report.output, "records", f"task={task.name}")))
        assert infos
        for info in infos:
            body = storage.read(info.uri)
            assert pq.read_schema(io.BytesIO(body)).remove_metadata() == schema
            assert len(pd.read_parquet(io.BytesIO(body))) > 0


def test_every_document_has_a_row_with_its_parts_in_order(main_run: MainRun) -> None:
    rows = pq.read_table(main_run.copy / "documents").to_pylist(maps_as_pydicts="strict")
    documents = {row["uri"].removeprefix(main_run.store.url("")): row for row in rows}
    assert len(documents) == len(rows)
    broken = {name for name, entry in main_run.truth.items() if entry["media"] == "broken"}
    assert set(documents) == set(main_run.truth)
    assert {name for name, row in documents.items() if row["status"] != "ok"} == broken
    for task, between in (("ocr", "\n\n"), ("transcribe", " ")):
        parts: dict[str, list[str]] = {}
        for row in main_run.table(f"records/task={task}").to_pylist():
            parts.setdefault(row["name"], []).append(row["text"])
        assert parts
        for name, texts in parts.items():
            assert documents[name]["texts"][task] == between.join(filter(None, texts)), name


def test_what_pages_say_of_a_field_is_in_the_documents_row(main_run: MainRun) -> None:
    rows = pq.read_table(main_run.copy / "documents").to_pylist(maps_as_pydicts="strict")
    documents = {row["uri"].removeprefix(main_run.store.url("")): row["data"] for row in rows}
    said: dict[str, list[dict[str, Any]]] = {}
    for row in main_run.table("records/task=extract").to_pylist():
        said.setdefault(row["name"], []).append(row["data"])
    assert {name for name, data in documents.items() if data is not None} == set(said)
    for name, answers in said.items():
        merged = documents[name]["extract"]
        for field, value in merged["value"].items():
            told = [answer[field] for answer in answers if answer[field] is not None]
            assert value == (told[0] if told else None), name
            agreeing = [part for part, answer in enumerate(answers) if answer[field] == value]
            assert merged["parts"].get(f"/{field}", []) == (agreeing if told else [])
            assert len(merged["conflicts"].get(f"/{field}", [])) == len(told) - told.count(value)


def test_a_second_run_asks_nothing_again(main_run: MainRun, run_job: RunJob) -> None:
    again = run_job(main_run.job)
    assert again.counts.listed == main_run.report.counts.listed
    assert again.counts.skipped == main_run.report.counts.ok
    assert again.counts.failed == main_run.report.counts.failed
    assert again.tasks == {}
