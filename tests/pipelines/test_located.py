"""The job that a run writes down, read in another folder than it was run in."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.located import located
from schemas.job import make_job


def test_paths_are_whole_and_names_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    models = {"vision": "small", "audio": "google/gemma-3n-E4B-it"}
    values = {"output": "out", "tasks": ["ocr", "transcribe"], "models": models}
    found = located(make_job(values | {"input": ["in", "s3://bucket/in"]}))
    assert (found.input, found.output) == (
        (f"file://{tmp_path}/in", "s3://bucket/in"),
        f"file://{tmp_path}/out",
    )
    assert (found.models.vision, found.models.audio) == (str(tmp_path / "small"), models["audio"])
    assert located(make_job(values | {"manifest": "list.csv"})).manifest == f"file://{tmp_path}/list.csv"
    beside = located(make_job(values | {"table": {"uri": "t", "key": "id", "into": "beside"}})).table
    assert beside and (beside.uri, beside.into) == (f"file://{tmp_path}/t", f"file://{tmp_path}/beside")
    table = {"uri": "lake.t", "format": "iceberg", "key": "id", "into": "same"}
    named = located(make_job(values | {"table": table})).table
    assert named and (named.uri, named.into) == ("lake.t", "same")
