"""What dead runs left goes, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.lake import staged
from pipelines.leftovers import remove_leftovers
from schemas.storage import StorageOptions
from schemas.tables import Place
from workers.storage.factory import normalise


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


def test_a_mark_that_its_run_takes_back_in_between_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, options = normalise(str(tmp_path)), StorageOptions()
    place = Place(format="delta", uri=f"{output}/table")
    with staged.marked(output, options, "another", place):
        [mark] = tmp_path.rglob("staged-*.json")

        def ended(*_: object) -> set[str]:
            mark.unlink()
            return set()

        monkeypatch.setattr(staged, "live_runs", ended)
        assert staged.discard_dead(output, options) == 0
