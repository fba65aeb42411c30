"""An output is looked at before a run starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.occupancy import refuse_foreign_output
from pipelines.plan import make_plan
from schemas.errors import JobError
from schemas.job import make_job


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 and what a full disk left of the rest"])
def test_a_part_file_that_is_cut_is_named(tmp_path: Path, content: bytes) -> None:
    part = tmp_path / "records" / "task=ocr" / "part-1.parquet"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    plan = make_plan(make_job({"input": "/in", "output": str(tmp_path), "tasks": ["ocr"]}), None, 0)
    with pytest.raises(JobError, match=r"part-1.parquet is no Parquet file"):
        refuse_foreign_output(plan)
