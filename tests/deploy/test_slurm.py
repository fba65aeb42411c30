"""The array script, run as Slurm runs it: by bash, with its variables, and a `scontrol` that takes notes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.demo.documents import EXAMPLES
from tests.chaos.process import Run
from tests.conftest import ROOT

SCRIPT = ROOT / "deploy" / "slurm" / "gemstream.sbatch"
Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`start(task, array, *arguments)`: one task of an array of so many."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/scontrol\n')
    (tools / "scontrol").chmod(0o755)

    def begin(task: int, array: range, *arguments: str | Path, **extra: str) -> Run:
        slurm = {
            "SLURM_ARRAY_JOB_ID": "77",
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_COUNT": str(len(array)),
            "SLURM_ARRAY_TASK_MIN": str(min(array)),
            "SLURM_ARRAY_TASK_MAX": str(max(array)),
            "SLURM_CPUS_PER_TASK": "4",
            "RAY_ADDRESS": "ray://another-cluster:10001",
        }
        path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        words = tmp_path / f"{task}.log"
        with words.open("w") as log:
            process = subprocess.Popen(
                ["bash", SCRIPT, *arguments],
                cwd=tmp_path,
                env=os.environ | slurm | {"PATH": path, "PYTHONPATH": str(ROOT)} | extra,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return Run(process, words)

    return begin


def _job(tmp_path: Path, **options: float) -> Path:
    job = tmp_path / "job.yaml"
    job.write_text(
        json.dumps(
            {
                **{"input": str(EXAMPLES), "output": str(tmp_path / "out"), "tasks": ["ocr", "transcribe"]},
                "engine": {"kind": "fault", "options": options},
                "include": ["photos/*", "shapes/*"],
            }
        )
    )
    return job


def _listed(run: Run) -> int:
    assert run.wait() == 0, run.said
    listed: int = json.loads(run.said)["listed"]
    return listed


def test_the_tasks_of_an_array_share_all_documents(start: Start, tmp_path: Path) -> None:
    job = _job(tmp_path)
    shares = [_listed(start(task, range(2), "plan", job, "--json")) for task in range(2)]
    assert sum(shares) == 14 and min(shares) > 2
    again = start(1, range(1, 2), "plan", job, "--json", SHARDS="2")
    assert _listed(again) == shares[1], "one of them by itself, later"


def test_an_array_with_gaps_is_refused(start: Start, tmp_path: Path) -> None:
    run = start(4, range(2, 8, 2), "plan", _job(tmp_path))
    assert run.wait() == 2
    assert run.said == "gemstream: the array is not 0-2; say how many shards there are in all: SHARDS=16\n"


def test_outside_an_array_it_says_so(tmp_path: Path) -> None:
    bare = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    done = subprocess.run(
        ["bash", SCRIPT, "run", "job.yaml"],
        env=bare,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "is set in array jobs alone: sbatch --array=0-15" in done.stderr


def test_a_run_s_exit_code_is_the_task_s(start: Start, tmp_path: Path) -> None:
    run = start(0, range(2), "run", tmp_path / "none.yaml")
    assert run.wait() == 2 and "none.yaml" in run.said
    assert not (tmp_path / "scontrol").exists(), "a wrong job is not put back"


def test_it_is_told_in_time_to_drain() -> None:
    (lead,) = re.findall(r"^#SBATCH --signal=B:TERM@(\d+)$", SCRIPT.read_text(), re.MULTILINE)
    from schemas.limits import Limits

    assert int(lead) >= Limits().drain_seconds + 60, "what is in flight, and then what is to be published"


@pytest.mark.thorough
def test_a_task_whose_time_is_over_drains_and_goes_back_into_the_queue(start: Start, tmp_path: Path) -> None:
    job = _job(tmp_path, seconds=5)
    run = start(1, range(2), "run", job, "--set", "limits.drain_seconds=2")
    assert run.until(lambda: list((tmp_path / "out" / "_runs").glob("*/job.yaml")))
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 5, run.said
    assert "run the same command to go on" in run.said
    assert (tmp_path / "scontrol").read_text() == "requeue 77_1\n"


@pytest.mark.thorough
def test_two_tasks_side_by_side_do_all_of_it(start: Start, tmp_path: Path) -> None:
    job = _job(tmp_path)
    runs = [
        start(task, range(2), "run", job, "--json", "--set", "limits.failed_share=1") for task in range(2)
    ]
    assert [run.wait() for run in runs] == [0, 0], [run.said for run in runs]
    counts = [json.loads(path.read_text()) for path in (tmp_path / "out" / "_runs").glob("*/counts.json")]
    assert sum(one["listed"] for one in counts) == 14
    assert sum(one["ok"] for one in counts) == 14
