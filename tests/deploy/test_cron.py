"""The line for cron, run as cron runs it: by its shell, with the variables of the file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo.documents import EXAMPLES
from pipelines.lease import Lease
from schemas.storage import StorageOptions
from tests.conftest import ROOT

FILE = ROOT / "deploy" / "cron" / "gemstream.cron"
FIELD = r"[\d*/,-]+"


def _read() -> tuple[dict[str, str], str]:
    """The variables of the file, and the command of its one line."""
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    variables = dict(re.fullmatch(r"(\w+)=(.*)", line).groups() for line in lines[:-1])  # type: ignore[union-attr]
    entry = re.fullmatch(rf"{FIELD} {FIELD} {FIELD} {FIELD} {FIELD}  (\w+)  (.+)", lines[-1])
    assert entry and "%" not in entry[2], "cron takes % for a new line"
    return variables, entry[2]


def _mail(tmp_path: Path, job: str) -> str:
    """What cron would mail."""
    variables, command = _read()
    (tmp_path / "job.yaml").write_text(job)
    ours = {"JOB": str(tmp_path / "job.yaml"), "LOG": str(tmp_path / "last.log"), "PYTHONPATH": str(ROOT)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    kept = {key: os.environ[key] for key in ("HOME", "HF_HUB_OFFLINE") if key in os.environ}
    done = subprocess.run(
        [variables["SHELL"], "-c", command],
        env={**kept, **variables, **ours, "PATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


def _job(tmp_path: Path, extra: str = "") -> str:
    return (
        f"{{input: {EXAMPLES}/shapes, output: {tmp_path}/out, tasks: [ocr], engine: {{kind: fault}}{extra}}}"
    )


def test_a_wrong_job_is_mailed_with_what_is_wrong(tmp_path: Path) -> None:
    mail = _mail(tmp_path, _job(tmp_path, ", limits: {failed_shar: 0.1}"))
    assert mail.startswith(f"gemstream run {tmp_path}/job.yaml: exit code 2\n")
    assert "did you mean 'failed_share'" in mail


def test_one_that_finds_yesterday_s_at_work_is_refused_at_once(tmp_path: Path) -> None:
    with Lease(str(tmp_path / "out"), StorageOptions(), "yesterday", None):
        mail = _mail(tmp_path, _job(tmp_path))
    assert "exit code 2" in mail and "yesterday" in mail
    assert not list((tmp_path / "out" / "_runs").glob("*/job.yaml")), "nothing was begun"


@pytest.mark.thorough
def test_of_a_run_that_went_well_nothing_is_mailed(tmp_path: Path) -> None:
    assert _mail(tmp_path, _job(tmp_path)) == ""
    assert (tmp_path / "out" / "records").is_dir()
