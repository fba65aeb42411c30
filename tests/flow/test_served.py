"""The main job's questions about pages, put to a server of the same model: the same answers, by HTTP."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from PIL import Image

from deploy.demo.documents import EXAMPLES
from pipelines.report import EXIT_DONE
from schemas.errors import EngineAway
from schemas.job import load_job, make_job
from schemas.models import find_model
from schemas.rows import PartKind
from schemas.storage import StorageOptions
from tests.fixtures.runs import DEMO_JOB, GEMMA3, MainRun, RunJob
from tests.workers.answering import answering
from workers.engines import EngineConfig, Media, Request
from workers.engines.openai import OpenAIEngine
from workers.harmless import harmless
from workers.sinks.reading import read_columns

FOLDERS = ("photos", "scans", "shapes")
COLUMNS = ["uri", "part_index", "text", "finish_reason", "fingerprint", "prompt_tokens", "output_tokens"]


@pytest.mark.thorough
def test_a_server_gives_the_answers_that_the_engine_in_process_gives(
    main_run: MainRun, run_job: RunJob, served_gemma3: str, tmp_path: Path
) -> None:
    demo = load_job(DEMO_JOB, {"input": "x", "output": "y"}).public()
    asked = [task for task in demo["tasks"] if task["task"] != "transcribe"]
    settings = {
        "input": str(EXAMPLES),
        "include": [f"{folder}/*" for folder in FOLDERS],
        "output": str(tmp_path / "output"),
        "tasks": asked,
        "models": {"vision": str(GEMMA3)},
        "engine.kind": "openai",
        "engine.options": {"base_url": served_gemma3, "choices": "vllm"},
    }
    report = run_job(load_job(DEMO_JOB, settings))
    assert report.exit_code == EXIT_DONE and report.counts.ok == report.counts.listed > 10
    for task in (task["task"] for task in asked):
        tables = read_columns(
            report.output, StorageOptions(), f"records/task={task}", [*COLUMNS, "confidence"]
        )
        served = {
            (Path(row["uri"]).relative_to(f"file://{EXAMPLES}").as_posix(), row["part_index"]): row
            for row in pa.concat_tables(tables).to_pylist()
        }
        hosted = {
            (row["name"].removeprefix("examples/"), row["part_index"]): row
            for row in main_run.table(f"records/task={task}").to_pylist()
        }
        assert len(served) == report.tasks[task].answers
        for place, row in served.items():
            assert [row[name] for name in COLUMNS[2:]] == [hosted[place][name] for name in COLUMNS[2:]], place
            assert row["confidence"] == pytest.approx(hosted[place]["confidence"], rel=0.05), place


def test_a_server_that_is_not_there_ends_the_run_and_says_what_to_do(run_job: RunJob, tmp_path: Path) -> None:
    with answering() as gone:
        options = {"base_url": gone.url}
    job = make_job(
        {
            "input": str(EXAMPLES / "shapes"),
            "output": str(tmp_path / "output"),
            "tasks": ["caption"],
            "models": {"vision": "any:model"},
            "engine": {"kind": "openai", "options": options},
        }
    )
    with pytest.raises(EngineAway, match="cannot be reached .* start the server, or correct"):
        run_job(job)
    with answering(port=urlsplit(gone.url).port or 0):
        report = run_job(job)
    assert report.exit_code == EXIT_DONE and report.counts.ok == report.counts.listed


def test_labels_held_by_a_schema_come_without_its_quotes(served_gemma3: str) -> None:
    options = {"base_url": served_gemma3}
    engine = OpenAIEngine(EngineConfig(find_model(str(GEMMA3)), 16, 1024, options=options))
    photo = io.BytesIO()
    with Image.open(EXAMPLES / "photos" / "invoice.jpg") as image:
        image.convert("RGB").save(photo, "JPEG", quality=90)
    shown = Media(PartKind.IMAGE, photo.getvalue(), "photo")
    labels = ("invoice", "receipt", "letter", "drawing")
    request = Request("key", "What is this?", shown, max_tokens=16, choices=labels)

    async def asked() -> str:
        try:
            return (await engine.generate(request)).text
        finally:
            await engine._give_back()

    assert asyncio.run(asked()) in labels


@pytest.mark.parametrize("kind", [None, PartKind.PAGE, PartKind.IMAGE])
def test_what_is_harmless_is_answered(kind: PartKind | None, served_gemma3: str) -> None:
    options = {"base_url": served_gemma3}
    engine = OpenAIEngine(EngineConfig(find_model(str(GEMMA3)), 16, 1024, options=options))

    async def asked() -> int:
        try:
            return (await engine.generate(harmless(kind))).output_tokens
        finally:
            await engine._give_back()

    assert asyncio.run(asked()) == 1
