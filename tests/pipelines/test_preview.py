"""A plan says what it adds to the job's own words, and refuses what a run would."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymupdf
import pytest

from deploy.demo.documents import EXAMPLES
from pipelines.plan import make_plan
from pipelines.preview import preview
from pipelines.runner import run, source_of
from pipelines.terminal import terminal
from schemas.errors import JobError
from schemas.job import JobSpec, make_job
from schemas.rows import IDENTITY, outcomes_schema
from schemas.selection import Selection
from tests.fixtures.runs import GEMMA3, GEMMA3N
from tests.pipelines import outputs
from workers.sinks.parquet import ParquetSink

PAY = {
    "name": "pay",
    "description": "An invoice is due.",
    "parameters": {"type": "object", "properties": {"[b]to[/b]": {"type": "string"}}},
}


def test_bounds_are_told_by_task_and_place(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    job = {
        "input": str(tmp_path / "in"),
        "output": str(tmp_path / "out"),
        "tasks": [
            "ocr",
            {"task": "extract", "fields": {"number": "text", "paid": "boolean", "tags": ["text"]}},
            {"task": "extract", "name": "held", "fields": {"paid": "boolean"}},
            {"task": "call", "functions": [PAY]},
        ],
    }
    seen = preview(make_job(job))
    assert seen.bounds == {
        "extract": {
            "#/properties/number": "at most 1000 characters",
            "#/properties/tags": "at most 100 items",
            "#/properties/tags/items": "at most 1000 characters",
        },
        "call": {
            "pay: #": "no other fields",
            "pay: #/properties/[b]to[~1b]": "at most 1000 characters",
        },
    }
    page = StringIO()
    terminal(width=200, file=page).print(seen.table())
    shown = page.getvalue()
    assert "#/properties/tags/items" in shown and "[b]to[~1b]" in shown and "at most 100 items" in shown


def test_recordings_are_cut_for_the_model_that_hears_them_whatever_else_is_asked(tmp_path: Path) -> None:
    def parts(*tasks: str) -> int:
        job = {
            "input": str(EXAMPLES / "recordings"),
            "output": str(tmp_path / "out"),
            "tasks": list(tasks),
            "models": {"vision": str(GEMMA3), "audio": str(GEMMA3N)},
        }
        return preview(make_job(job)).parts["audio"]

    assert parts("ocr", "transcribe") == parts("transcribe") > 20, (
        "in pieces of 8 s, of 30 s they would be 13"
    )


@pytest.mark.parametrize(
    ("options", "lacking", "told"),
    [
        ({"privacy": {"redact": "all"}}, "presidio_analyzer", r"gemstream\[privacy\]"),
        ({"duplicates": {"text": 0.8}}, "datasketch", r"gemstream\[duplicates\]"),
        ({"sink": {"kind": "delta"}}, "deltalake", r"gemstream\[delta\]"),
        ({"sink": {"kind": "delta"}}, None, "no run of Gemstream made"),
    ],
)
def test_what_a_run_refuses_beforehand_has_no_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], lacking: str | None, told: str
) -> None:
    deltalake = pytest.importorskip("deltalake")
    (tmp_path / "in").mkdir()
    if lacking is None:
        theirs = pa.table({"theirs": [1]})
        deltalake.write_deltalake(str(tmp_path / "out" / "tables" / "documents"), theirs)
    else:
        monkeypatch.setitem(sys.modules, lacking, None)
    job = make_job(
        {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "tasks": ["ocr"]} | options
    )
    for way in (preview, run):
        with pytest.raises(JobError, match=told):
            way(job)


def pdf(pages: int) -> bytes:
    with pymupdf.open() as document:
        for number in range(pages):
            document.new_page(width=200, height=200).insert_text((20, 60), f"page {number}")
        body: bytes = document.tobytes()
        return body


def answer(job: JobSpec, about: Mapping[str, Iterable[str]]) -> None:
    """Publish answers, by file name, as the ledger has them: of documents of three pages."""
    plan, rows = make_plan(job, None, 0.0), []
    [listed] = source_of(job).documents()
    for document in listed.select(IDENTITY.names).to_pylist():
        for key in about.get(document["uri"].rpartition("/")[2], ()):
            part, _, task = key.partition("/")
            asked = plan.fingerprints[task][0 if part else 1]
            index = {"part_index": int(part) if part else None, "parts_total": 3, "fingerprint": asked}
            rows.append(outputs.answer("a.pdf", task, "said") | document | index)
    sink = ParquetSink(plan.output, job.storage, {}, None, plan.run_id, plan.metadata)
    sink.write(pa.Table.from_pylist(rows, outcomes_schema({}, None)))


def test_what_is_answered_already_is_not_counted(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("half", "whole", "new"):
        (source / f"{name}.pdf").write_bytes(pdf(3))
    (source / "parted.pdf").write_bytes(b"%PDF-1.7 of which nothing more is read")
    job = make_job(
        {
            "input": str(source),
            "output": str(tmp_path / "out"),
            "tasks": ["ocr", "summarize"],
            "models": {"vision": str(GEMMA3), "audio": str(GEMMA3N)},
        }
    )
    summaries = {f"{part}/summarize" for part in range(3)}
    answer(
        job,
        {
            "half.pdf": ["0/ocr", "1/ocr", "0/summarize"],
            "whole.pdf": [*summaries, "/summarize"],
            "parted.pdf": [*summaries, *(f"{part}/ocr" for part in range(3))],
        },
    )
    seen, all_anew = preview(job), preview(job, Selection(force=True))
    assert seen.listed == 4 and not seen.skipped and seen.media == {"application/pdf": 4}
    pages, wholes = 2 + 0 + 3, 1 + 0 + 1 + 1
    assert seen.requests == {"ocr": 1 + 3 + 3, "summarize": pages + wholes}
    assert seen.parts == {"page": 2 + 3 + 3}, "the page that has both answers is not made"
    assert seen.prediction.basis["prompt_tokens"].startswith("15 answers")
    assert (all_anew.requests, all_anew.parts) == ({"ocr": 9, "summarize": 9 + 3}, {"page": 9})
    assert seen.prompt_tokens < all_anew.prompt_tokens
    one = preview(job.model_copy(update={"include": ["parted.pdf"]}))
    assert (one.requests, one.parts, one.media) == ({"ocr": 0, "summarize": 1}, {}, {"application/pdf": 1})


def test_a_task_of_two_models_is_asked_of_each_part_once(tmp_path: Path) -> None:
    job = make_job(
        {
            "input": str(EXAMPLES),
            "include": ["shapes/*", "recordings/number.wav"],
            "output": str(tmp_path / "out"),
            "tasks": [{"task": "summarize", "whole": False}],
            "models": {"vision": str(GEMMA3), "audio": str(GEMMA3N)},
        }
    )
    seen = preview(job)
    assert set(seen.parts) == {"image", "audio"}
    assert seen.requests == {"summarize": sum(seen.parts.values())}
