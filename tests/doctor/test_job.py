"""What a run would refuse: told beforehand, as it would tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.doctor.job import job
from pipelines.lease import Lease
from schemas.shard import Shard
from schemas.storage import StorageOptions
from schemas.tables import Place, TableFormat
from tests.doctor.patients import patient, told
from tests.fixtures.runs import GEMMA3, GEMMA3N
from workers.tables import OUTPUT, open_table

if TYPE_CHECKING:
    from pathlib import Path


def found(**settings: Any) -> dict[str, str]:
    given: dict[str, Any] = {"tasks": ["ocr"], "models": {"vision": str(GEMMA3)}}
    return told(job(patient(**given | settings)))


def test_a_job_that_holds_and_an_output_that_is_free(tmp_path: Path) -> None:
    lines = found(output=str(tmp_path / "out"))
    assert list(lines) == ["job", "output"] and all(line.startswith("ok: ") for line in lines.values()), lines
    assert not (tmp_path / "out").exists()


def test_a_job_whose_model_does_not_fit(tmp_path: Path) -> None:
    line = found(models={"vision": str(GEMMA3N)}, output=str(tmp_path))["job"]
    assert line.startswith("failed: models.vision") and "audio" in line


def test_an_output_that_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"my only copy")
    line = found(output=str(tmp_path))["output"]
    assert line.startswith("failed") and "thesis.docx" in line and "choose an empty prefix" in line


def test_tables_that_are_somebody_elses(tmp_path: Path) -> None:
    given: dict[str, Any] = {"output": str(tmp_path / "out"), "sink": {"kind": "delta"}}
    assert found(**given)["tables"].startswith("ok: 3 in file://") and not (tmp_path / "out").exists()
    place = Place(format=TableFormat.DELTA, uri=f"file://{tmp_path}/out/tables/documents")
    columns = pa.schema([("uri", pa.string()), ("status", pa.int64())])
    open_table(place, StorageOptions()).create(columns, {OUTPUT: "s3://lake/another"})
    line = found(**given)["tables"]
    assert line.startswith("failed: ") and "holds the rows of s3://lake/another" in line
    assert "choose another place (sink.tables)" in line
    ours = Place(format=TableFormat.DELTA, uri=f"file://{tmp_path}/ours/documents")
    open_table(ours, StorageOptions()).create(columns, {OUTPUT: f"file://{tmp_path}/out"})
    line = found(**given | {"sink": {"kind": "delta", "tables": str(tmp_path / "ours")}})["tables"]
    assert "column status is int64, and this job has string for it" in line and "-> give the task" in line


def test_an_output_that_a_run_writes_to(tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    with Lease(output, StorageOptions(), "20260101T000000-abcdef", None):
        line = found(output=output)["lease"]
        assert line.startswith("failed: run 20260101T000000-abcdef on ")
    assert "lease" not in found(output=output), "it was given back"
    with Lease(output, StorageOptions(), "20260101T000000-abcdef", Shard(index=1, count=4)):
        assert "--shard 1/4" in found(output=output)["lease"]
    (tmp_path / "out" / "_runs" / "_lease" / "all.json").write_text("{}")
    assert "is no lease" in found(output=output)["lease"]


def test_an_output_that_cannot_be_looked_at() -> None:
    lines = found(output="s3://lake/out", storage={"endpoint_url": "http://127.0.0.1:1", "attempts": 1})
    assert lines["output"].startswith("warning") and "see storage" in lines["output"]
