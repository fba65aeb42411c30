"""A job that does not hold is refused before anything is spent, with key, value and what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from schemas.errors import JobError
from schemas.job import JobSpec, load_job, make_job
from schemas.secrets import masked

GOOD: dict[str, Any] = {"input": "s3://in/docs", "output": "s3://out/table", "tasks": ["ocr"]}


def test_the_least_job() -> None:
    job = make_job(GOOD)
    assert job.input == ("s3://in/docs",)
    assert [task.kind for task in job.tasks] == ["ocr"]
    assert job.limits.failed_share == 0.1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inptu": "x"}, ["inptu", "did you mean 'input'"]),
        ({"limits": {"page": 3}}, ["limits.page", "did you mean 'pages'"]),
        ({"limits": {"pages": "many"}}, ["limits.pages", "'many'"]),
        ({"limits": {"failed_share": 7}}, ["limits.failed_share", "7"]),
        ({"engine": {"replica": 2}}, ["engine.replica", "did you mean 'replicas'"]),
        ({"engine": {"node_labels": {"visoin": {"a": "b"}}}}, ["engine.node_labels.visoin", "'vision'"]),
        ({"storage": {"endpoint": "x"}}, ["storage.endpoint", "did you mean 'endpoint_url'"]),
        ({"tasks": ["orc"]}, ["'orc'", "did you mean 'ocr'"]),
        ({"tasks": []}, ["at least one"]),
        ({"tasks": ["ocr", "ocr"]}, ["'ocr'", "another name"]),
        ({"tasks": [{"task": "ocr", "max_token": 5}]}, ["max_token", "did you mean 'max_tokens'"]),
        ({"tasks": [{"task": "ocr", "name": "../up"}]}, ["../up", "folder"]),
        ({"tasks": [{"prompt": "x"}]}, ["needs its name"]),
        ({"tasks": ["extract"]}, ["schema", "required"]),
        ({"tasks": [{"task": "classify", "labels": ["a"]}]}, ["labels", "at least 2"]),
        ({"tasks": [{"task": "classify", "labels": ["a", "a"]}]}, ["labels", "twice"]),
        ({"tasks": [{"task": "classify", "labels": ["a", " b"]}]}, ["labels", "' b'"]),
        ({"manifest": "list.csv"}, ["input", "manifest"]),
        ({"input": ()}, ["input", "manifest"]),
        ({"output": None}, ["output", "None"]),
    ],
)
def test_faults_name_key_value_and_meaning(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(JobError) as caught:
        make_job({**GOOD, **change})
    assert [word for word in words if word not in caught.value.message] == [], caught.value.message


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(JobError) as caught:
        make_job({**GOOD, "inptu": 1, "limits": {"pages": 0}, "seeds": 3})
    assert all(key in caught.value.message for key in ("inptu", "limits.pages", "seeds"))


def test_a_file_and_flags_on_top(tmp_path: Path) -> None:
    path = tmp_path / "gemstream.yaml"
    path.write_text(yaml.safe_dump({**GOOD, "limits": {"pages": 10}}))
    job = load_job(path, {"limits.failed_share": 0.5, "limit": 3})
    assert (job.limits.pages, job.limits.failed_share, job.limit) == (10, 0.5, 3)


@pytest.mark.parametrize("text", ["- a list", "input: [unclosed", ""])
def test_a_file_that_is_no_job(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gemstream.yaml"
    path.write_text(text)
    with pytest.raises(JobError, match="gemstream.yaml"):
        load_job(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="nowhere"):
        load_job(tmp_path / "nowhere.yaml")


def test_passwords_are_never_written_down() -> None:
    job = make_job({**GOOD, "expand": {"passwords": ["hunter2"]}})
    assert "hunter2" not in yaml.safe_dump(job.public())
    assert "hunter2" not in repr(job)


def test_what_a_run_writes_down_is_a_job_again() -> None:
    schema = {"type": "object", "properties": {"total": {"type": "string", "format": "decimal"}}}
    job = make_job({**GOOD, "tasks": ["ocr", {"task": "extract", "name": "totals", "schema": schema}]})
    assert make_job(yaml.safe_load(yaml.safe_dump(job.public()))) == job


def test_a_job_does_not_change() -> None:
    with pytest.raises(ValidationError):
        JobSpec.model_validate(GOOD).seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("http://user:hunt@er2@host/v1", ""),
        ("https://host/a?sig=er2&x=1", ""),
        ("https://host/a?X-Amz-Signature=er2", ""),
        ("er2", "private_key"),
        ("er2", "ssl_passphrase"),
    ],
)
def test_what_is_written_down_is_without_secrets(value: str, name: str) -> None:
    assert "er2" not in masked(value, name)
    assert masked("https://host/a?significance=er2", "sigma") == "https://host/a?significance=er2"
