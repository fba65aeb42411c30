"""What the demo does around the job: documents into the store, and the output out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deploy.demo import __main__ as demo
from deploy.demo.documents import EXAMPLES, read_truth
from schemas.job import load_job

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deploy.demo.objectstore import ObjectStore


@pytest.fixture
def bucket(object_store: ObjectStore) -> Iterator[ObjectStore]:
    """The store, of which the demo's two prefixes are emptied afterwards."""
    yield object_store
    client = object_store.client()
    for prefix in (demo.INPUT_PREFIX, demo.OUTPUT_PREFIX):
        for entry in client.list_objects_v2(Bucket=object_store.bucket, Prefix=prefix).get("Contents", ()):
            client.delete_object(Bucket=object_store.bucket, Key=entry["Key"])


def test_every_example_is_uploaded_and_truth_is_not(bucket: ObjectStore) -> None:
    count = demo.upload(bucket)
    listed = bucket.client().list_objects_v2(Bucket=bucket.bucket, Prefix=demo.INPUT_PREFIX)["Contents"]
    sizes = {entry["Key"].removeprefix(demo.INPUT_PREFIX): entry["Size"] for entry in listed}
    assert sizes == {name: (EXAMPLES / name).stat().st_size for name in read_truth()}
    assert count == len(sizes)


def test_the_copy_holds_what_was_written_and_nothing_older(bucket: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "demo-output"
    (folder / "records").mkdir(parents=True)
    (folder / "records" / "old.parquet").touch()
    for key in ("records/task=ocr/a.parquet", "_runs/1/counts.json"):
        bucket.client().put_object(Bucket=bucket.bucket, Key=demo.OUTPUT_PREFIX + key, Body=key.encode())

    assert demo.download(bucket, folder) == 2

    copied = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert copied == {"records/task=ocr/a.parquet", "_runs/1/counts.json"}
    assert (folder / "_runs/1/counts.json").read_text() == "_runs/1/counts.json"
    assert [path.name for path in tmp_path.iterdir()] == ["demo-output"]


def test_a_job_that_wrote_nothing_leaves_the_last_output(bucket: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "demo-output"
    folder.mkdir()
    (folder / "kept").touch()
    assert demo.download(bucket, folder) == 0
    assert (folder / "kept").exists()


def test_the_job_holds() -> None:
    job = load_job(demo.JOB, {"input": "s3://lake/examples/", "output": "s3://lake/out/"})
    assert [task.name for task in job.tasks] == ["ocr", "caption", "classify", "extract", "transcribe"]
    for model in (job.models.vision, job.models.audio):
        assert model is not None and (demo.ROOT / model / "config.json").is_file()


def test_both_checkpoints_are_small() -> None:
    weights = [path.stat().st_size for path in (demo.ROOT / "deploy/demo/checkpoints").rglob("*.safetensors")]
    assert len(weights) == 2 and max(weights) < 10_000_000 and sum(weights) < 20_000_000
