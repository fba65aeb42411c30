"""What looks after an output, where there is none, and where a prompt or a path is out of the ordinary."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.failures import Failures, Group, last_job, read_failures
from pipelines.leftovers import remove_leftovers
from pipelines.subtitles import write_subtitles
from schemas.errors import JobError
from schemas.job import make_job
from schemas.storage import StorageOptions


def test_where_no_run_has_written_nothing_is_said_to_be_well_and_nothing_is_made(tmp_path: Path) -> None:
    for folder in (tmp_path / "mistyped", tmp_path):
        for look in (read_failures, remove_leftovers):
            with pytest.raises(JobError, match="holds no run of Gemstream"):
                look(str(folder))
        with pytest.raises(JobError, match="holds no run of Gemstream"):
            write_subtitles(str(folder), str(tmp_path / "to"), "srt", None, StorageOptions())
    assert not list(tmp_path.iterdir())


def test_the_command_to_try_again_can_be_pasted() -> None:
    group = Group(category="empty", stage="route", rows=1, documents=1, setting=None, example="")
    row = {"uri": "u", "part_index": None, "task": None, "category": "empty", "message": ""}
    *_, last = Failures(output="file:///my table", groups=(group,), rows=(row,)).lines()
    assert "retry 'file:///my table' --category" in last


def test_stars_in_a_prompt_are_no_passwords(tmp_path: Path) -> None:
    written = tmp_path / "_runs" / "20260101T000000-abcdef" / "job.yaml"
    written.parent.mkdir(parents=True)
    values = {"input": "in", "output": "out", "tasks": [{"task": "ask", "prompt": "**********"}]}
    written.write_text(yaml.safe_dump(make_job(values).public()))
    assert last_job(str(tmp_path), None).output == f"file://{tmp_path}"
    written.write_text(yaml.safe_dump(make_job(values | {"expand": {"passwords": ["x"]}}).public()))
    with pytest.raises(JobError, match="had passwords"):
        last_job(str(tmp_path), None)


def test_the_limit_of_the_last_run_is_none_of_the_retry(tmp_path: Path) -> None:
    """A look at three documents after a run over all: what had failed may lie behind them."""
    job = make_job({"input": "/in", "output": str(tmp_path), "tasks": ["ocr"], "limit": 3})
    run = tmp_path / "_runs" / "20260101T000000-abcdef"
    run.mkdir(parents=True)
    (run / "job.yaml").write_text(yaml.safe_dump(job.public()))
    assert last_job(str(tmp_path), None).limit is None
    assert last_job(str(tmp_path), ["limit=2"]).limit == 2
