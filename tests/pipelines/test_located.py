"""The job that a run writes down, read in another folder than it was run in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipelines.deploying.refusals import refuse_what_pods_cannot
from pipelines.located import addresses, located
from pipelines.submit import Terms, pack
from schemas.errors import JobError
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


def test_a_job_for_another_machine_says_of_each_path_that_it_is_of_this_one(tmp_path: Path) -> None:
    values = {"output": "s3://b/out", "tasks": ["ocr"]}
    beside = make_job(
        values
        | {"table": {"uri": "s3://b/t", "key": "id", "into": f"{tmp_path}/t"}}
        | {"sink": {"kind": "delta", "tables": f"{tmp_path}/lake"}}
    )
    paths = {"table.into": f"file://{tmp_path}/t", "sink.tables": f"file://{tmp_path}/lake"}
    assert dict(addresses(beside)).items() >= paths.items()
    (tmp_path / "sent").mkdir()
    parcel = pack(beside, Terms(), tmp_path / "sent")
    sent = json.loads((parcel.folder / "sent.json").read_text())
    assert sent["paths"] == list(paths.values())
    with pytest.raises(JobError, match=r"^table\.into: .* is on this machine"):
        refuse_what_pods_cannot(beside, "gke")
    iceberg = make_job(values | {"table": {"uri": "lake.t", "format": "iceberg", "key": "id"}})
    (tmp_path / "named").mkdir()
    job = yaml.safe_load((pack(iceberg, Terms(), tmp_path / "named").folder / "job.yaml").read_text())
    assert job["table"]["uri"] == "lake.t"
    refuse_what_pods_cannot(iceberg, "gke")
