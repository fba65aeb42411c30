"""What a command line says and nothing would come of, and what is no YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.flags import job_of, said_of, settings_of, storage_of
from schemas.errors import JobError
from schemas.yaml_text import read_yaml


@pytest.mark.parametrize("task", [None, ["ocr"]])
@pytest.mark.parametrize("given", [{"schema": "invoice.json"}, {"field": ["total:decimal"]}])
def test_a_flag_of_extract_without_it_is_refused(task: list[str] | None, given: dict[str, object]) -> None:
    with pytest.raises(JobError, match="--task extract"):
        settings_of({"task": task, "schema": None, "field": None} | given)


def test_a_setting_that_a_command_does_not_look_at_is_refused() -> None:
    with pytest.raises(JobError, match=r"stoarge\.endpoint_url"):
        storage_of(["stoarge.endpoint_url=http://store:9000"])
    assert storage_of(["storage.region=eu", "expand.passwords=[a]"], others=True).region == "eu"


def test_a_date_that_there_is_not_and_bytes_are_told_as_any_other_fault(tmp_path: Path) -> None:
    for number, body in enumerate((b"seed: 2024-13-45", b"\xff\xfe\x00")):
        path = tmp_path / f"{number}.yaml"
        path.write_bytes(body)
        for read in (job_of, said_of):
            with pytest.raises(JobError, match=path.name):
                read(path, {}, None)
    with pytest.raises(JobError, match="--set"):
        job_of(None, {}, ["seed=2024-13-45"])


def test_a_setting_that_is_there_twice_is_refused_and_a_merge_is_not(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    job = "input: in\noutput: out\ntasks: [ocr]\nlimits: {failed_share: 0.5}\n"
    path.write_text(job + "limits: {pages: 3}\n")
    for read in (job_of, said_of):
        with pytest.raises(JobError, match="'limits' is there twice"):
            read(path, {}, None)
    base = "x: {deep: {a: &a {<<: &b {k: 1}, k: 2}}}\ny: {<<: *a, k: 3}\n"
    assert read_yaml(base) == {"x": {"deep": {"a": {"k": 2}}}, "y": {"k": 3}}


def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    said = ["--save", str(tmp_path / "nowhere" / "rates.yaml"), "--vision-model", "no-such-model"]
    measured = CliRunner().invoke(app, ["bench", *said])
    assert isinstance(measured.exception, JobError) and "--save" in measured.exception.message
    job = tmp_path / "job.yaml"
    job.write_text("input: s3://b/in\noutput: s3://b/out\ntasks: [ocr]\n")
    made = CliRunner().invoke(app, ["deploy", "render", str(job), "--target", "gke", "--to", str(job)])
    assert isinstance(made.exception, JobError) and "--to" in made.exception.message
