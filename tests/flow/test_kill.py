"""Kill the driver at any moment and run the same command again: the output is that of one quiet run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from deploy.demo.documents import EXAMPLES
from deploy.demo.paper import PASSWORD
from tests.fixtures.runs import GEMMA3
from tests.flow.test_faults import answers, rows

pytestmark = pytest.mark.timeout(300)

TASKS = ["ocr", "caption", "transcribe"]
DEADLINE = 120.0


def job_file(folder: Path, seconds: float) -> Path:
    values: dict[str, Any] = {
        "input": str(EXAMPLES),
        "output": str(folder / "output"),
        "tasks": TASKS,
        "models": {"vision": str(GEMMA3), "audio": "google/gemma-3n-E2B-it"},
        "engine": {"kind": "fault", "options": {"seconds": seconds}, "max_num_seqs": 2},
        "expand": {"passwords": [PASSWORD]},
        "sink": {"rows": 4, "seconds": 1},
        "limits": {"failed_share": 1.0},
    }
    path = folder / "gemstream.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def start(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "run", str(path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_records(output: Path, process: subprocess.Popen[bytes]) -> None:
    """Until something is published, and not all of it."""
    deadline = time.monotonic() + DEADLINE
    while not list(output.glob("records/*/part-*.parquet")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_kill_and_run_again(tmp_path: Path) -> None:
    path = job_file(tmp_path, seconds=0.4)
    output = tmp_path / "output"
    first = start(path)
    wait_for_records(output, first)
    family = psutil.Process(first.pid).children(recursive=True)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=DEADLINE)
    before = answers(str(output))
    assert before

    again = start(job_file(tmp_path, seconds=0))
    report = json.loads(again.communicate(timeout=DEADLINE)[0])
    assert again.returncode == 0
    after = answers(str(output))
    assert set(after.values()) == {1}, "no answer twice"
    assert set(before) <= set(after), "no answer lost"
    counts = report["counts"]
    listed = counts.pop("listed")
    assert listed == sum(counts.values())

    quiet = tmp_path / "quiet"
    quiet.mkdir()
    process = start(job_file(quiet, seconds=0))
    process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert answers(str(quiet / "output")) == after
    errors = Counter(row["uri"] for row in rows(str(quiet / "output"), "errors", ["uri"]))
    assert set(errors) == {row["uri"] for row in rows(str(output), "errors", ["uri"])}

    _, left = psutil.wait_procs([member for member in family if not gone(member)], timeout=30)
    assert [member.cmdline() for member in left if not gone(member)] == [], "a killed run leaves no process"


def test_an_interrupted_run_writes_what_it_has(tmp_path: Path) -> None:
    path = job_file(tmp_path, seconds=0.4)
    values = yaml.safe_load(path.read_text())
    values["sink"] = {"rows": 4, "seconds": 3600}
    path.write_text(yaml.safe_dump(values))
    process = start(path)
    wait_for_records(tmp_path / "output", process)
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=DEADLINE)
    assert process.returncode not in (0, -signal.SIGTERM)
    runs = [path.parent for path in (tmp_path / "output" / "_runs").glob("*/job.yaml")]
    assert len(runs) == 1 and not (runs[0] / "counts.json").exists(), "it did not end, and does not say so"
    before = answers(str(tmp_path / "output"))
    assert set(before.values()) == {1}
