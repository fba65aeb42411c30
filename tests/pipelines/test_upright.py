"""By what pages are turned upright is part of every answer about a page, and of none about a recording."""

from __future__ import annotations

from pathlib import Path

from pipelines.plan import make_plan
from schemas.job import make_job
from schemas.rows import Upright


def test_another_way_of_turning_pages_is_another_question(tmp_path: Path) -> None:
    common = {"input": str(tmp_path), "output": str(tmp_path / "out"), "tasks": ["ocr", "transcribe"]}
    plain, text, metadata = (
        make_plan(make_job(common | {"expand": expand}), None, 0.0)
        for expand in ({}, {"upright": "text"}, {"upright": "metadata"})
    )
    assert [lane.expand.upright for lane in plain.lanes] == [Upright.TEXT, None]
    assert [lane.expand.upright for lane in metadata.lanes] == [Upright.METADATA, None]
    assert plain.fingerprints == text.fingerprints
    assert plain.fingerprints["ocr"] != metadata.fingerprints["ocr"]
    assert plain.fingerprints["transcribe"] == metadata.fingerprints["transcribe"]
