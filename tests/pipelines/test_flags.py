"""What a command line says and nothing would come of, and what is no YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.flags import job_of, said_of, settings_of, storage_of
from schemas.errors import JobError


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
