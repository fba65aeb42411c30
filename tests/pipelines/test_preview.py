"""A plan says what it adds to the job's own words, and refuses what a run would."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deploy.demo.documents import EXAMPLES
from pipelines.preview import preview
from pipelines.runner import run
from pipelines.terminal import terminal
from schemas.errors import JobError
from schemas.job import make_job
from tests.fixtures.runs import GEMMA3, GEMMA3N

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
