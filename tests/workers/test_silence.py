"""Silence never becomes words: no model is asked about it, and the document is answered all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from pipelines.plan import make_plan
from schemas.job import make_job
from schemas.rows import DOCUMENTS
from tests.fixtures.runs import GEMMA3, GEMMA3N
from workers.expander import Expand
from workers.infer import Infer, InferRecipe
from workers.storage.factory import normalise

RATE = 16_000
SPOKEN = 0.1 * np.random.default_rng(0).normal(0, 1, 2 * RATE) * np.repeat([1, 0.1] * 10, RATE // 10)
SILENT = np.random.default_rng(1).normal(0, 0.003, 3 * RATE)


def outcomes(folder: Path, kept: list[str] | None = None, **sounds: np.ndarray) -> list[dict]:
    """Through expand and infer, with an engine that refuses whatever it is asked."""
    job = make_job(
        {
            "input": str(folder),
            "output": str(folder / "out"),
            "tasks": ["transcribe", {"task": "transcribe", "name": "again"}],
            "models": {"audio": str(GEMMA3N)},
            "engine": {"kind": "fault", "options": {"refuse": 1.0}},
        }
    )
    plan = make_plan(job, None, 0.0)
    [lane] = plan.lanes
    rows = []
    for name, samples in sounds.items():
        soundfile.write(folder / f"{name}.wav", samples, RATE)
        uri = normalise(str(folder / f"{name}.wav"))
        rows.append({"document_id": name, "uri": uri, "version": "", "kept": kept})
    schema = DOCUMENTS.append(pa.field("kept", pa.list_(pa.string())))
    expand = Expand(job.storage, lane.expand, job.limits, lane.tasks_by_kind)
    infer = Infer(InferRecipe(job.engine.kind, lane.config, lane.asks, plan.schema, plan.run_id, job.limits))

    async def run() -> list[dict]:
        parts = expand(pa.Table.from_pylist(rows, schema))
        tables = [table for part in parts async for table in infer(part)]
        return pa.concat_tables(tables).to_pylist()

    try:
        return asyncio.run(run())
    finally:
        expand.close()
        infer.close()


def test_nobody_is_asked_about_silence_and_it_is_answered(tmp_path: Path) -> None:
    found = outcomes(tmp_path, silent=SILENT, spoken=SPOKEN)
    silent = [row for row in found if row["document_id"] == "silent"]
    assert sorted(row["task"] for row in silent) == ["again", "transcribe"]
    for row in silent:
        assert (row["status"], row["text"], row["error"]) == ("record", "", None)
        assert (row["text_source"], row["finish_reason"], row["attempts"]) == ("silence", "silence", 0)
        assert (row["parts_total"], row["part_index"], row["expected"], row["settled"]) == (1, 0, 2, 1)
        assert (row["start_seconds"], row["end_seconds"]) == (0.0, 3.0)
        assert row["fingerprint"] and row["prompt_tokens"] is None
    spoken = [row for row in found if row["document_id"] == "spoken"]
    assert [row["error"]["category"] for row in spoken] == ["request_refused"] * 2


def test_what_is_there_already_of_a_silent_recording_is_kept(tmp_path: Path) -> None:
    found = outcomes(tmp_path, ["0/again"], silent=SILENT)
    assert {row["task"]: row["status"] for row in found} == {"again": "kept", "transcribe": "record"}


def test_how_recordings_are_cut_counts_for_what_is_heard_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "input": str(tmp_path),
        "output": str(tmp_path / "out"),
        "tasks": ["ocr", "transcribe"],
        "models": {"vision": str(GEMMA3), "audio": str(GEMMA3N)},
    }
    before = make_plan(make_job(settings), None, 0.0).fingerprints
    monkeypatch.setattr("pipelines.plan.SEGMENTATION", 3)
    after = make_plan(make_job(settings), None, 0.0).fingerprints
    assert before["ocr"] == after["ocr"] and before["transcribe"] != after["transcribe"]
