"""What a retry is told by the run before it."""

from __future__ import annotations

from pathlib import Path

import yaml

from pipelines.failures import last_job
from schemas.job import make_job


def test_the_limit_of_the_last_run_is_none_of_the_retry(tmp_path: Path) -> None:
    """A look at three documents after a run over all: what had failed may lie behind them."""
    job = make_job({"input": "/in", "output": str(tmp_path), "tasks": ["ocr"], "limit": 3})
    run = tmp_path / "_runs" / "20260101T000000-abcdef"
    run.mkdir(parents=True)
    (run / "job.yaml").write_text(yaml.safe_dump(job.public()))
    assert last_job(str(tmp_path), None).limit is None
    assert last_job(str(tmp_path), ["limit=2"]).limit == 2
