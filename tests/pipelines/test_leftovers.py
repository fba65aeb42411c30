"""What dead runs left goes, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.leftovers import remove_leftovers


@pytest.mark.parametrize("folder", ["listed", "filtered"])
def test_an_output_below_a_folder_of_that_name_keeps_what_its_runs_wrote(tmp_path: Path, folder: str) -> None:
    output = tmp_path / folder / "out"
    kept = [f"ended/{name}" for name in ("job.yaml", "report.json", "counts.json", "filtered/part-1.parquet")]
    gone = ["dead/listed/000000.parquet", "dead/filtered/part-1.parquet"]
    for name in (*kept, "dead/job.yaml", *gone):
        path = output / "_runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert remove_leftovers(str(output)) == len(gone)
    left = {str(path.relative_to(output / "_runs")) for path in output.rglob("*") if path.is_file()}
    assert left == {*kept, "dead/job.yaml"}
