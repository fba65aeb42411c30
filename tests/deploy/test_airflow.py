"""The DAG, imported and run by a real Airflow, which has an environment of its own (`make airflow`)."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.documents import EXAMPLES
from tests.conftest import ROOT

BIN = ROOT / ".venv" / "airflow" / "bin"
DAGS = ROOT / "deploy" / "airflow"
STANDIN = Path(__file__).with_name("standin.py")
CONF = {"job": "/jobs/a.yaml", "address": "http://127.0.0.1:8265", "settings": ["limit=3"]}


class Airflow:
    """An Airflow with a database of its own in a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "GEMSTREAM": str(STANDIN),
            "STATE": str(home),
        }

    def __call__(self, *command: str | Path) -> str:
        """What a command of its environment prints, the log included."""
        done = subprocess.run(
            [BIN / command[0], *command[1:]],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def run(
        self, conf: dict[str, Any] | None = None, ends: tuple[int, ...] = ()
    ) -> tuple[dict[str, Any], str]:
        """The facts of the DAG, and of a run of it whose submissions end like that, and its log."""
        (self.home / "codes.json").write_text(json.dumps(ends))
        (self.home / "submitted.json").unlink(missing_ok=True)
        (self.home / "said").unlink(missing_ok=True)
        script = Path(__file__).with_name("airflow_run.py")
        *log, facts = self("python", script, DAGS, json.dumps(conf) if conf else "").splitlines()
        return json.loads(facts), "\n".join(log)

    @property
    def asked(self) -> list[list[str]]:
        """The commands that the last run called."""
        return [json.loads(line) for line in (self.home / "said").read_text().splitlines()]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    if not (BIN / "airflow").exists():
        pytest.skip("no Airflow beside the environment: `make airflow` installs it into .venv/airflow")
    airflow = Airflow(tmp_path_factory.mktemp("airflow"))
    airflow("airflow", "db", "migrate")
    airflow("airflow", "dags", "reserialize")
    return airflow


def test_airflow_imports_it(airflow: Airflow) -> None:
    facts, _ = airflow.run()
    assert facts == {
        **{"errors": {}, "dags": ["gemstream"], "schedule": "0 3 * * *", "catchup": False},
        **{"max_active_runs": 1, "mode": "reschedule", "retries": 3},
    }


def test_a_run_that_a_signal_ended_is_submitted_again(airflow: Airflow) -> None:
    facts, _ = airflow.run(CONF, ends=(5, 0))
    assert (facts["state"], facts["tries"]) == ("success", 2)
    assert facts["counts"] == {"listed": 3, "ok": 2, "failed": 1}
    assert facts["report"]["output"] == "s3://bucket/table"
    submits = [words for words in airflow.asked if words[0] == "submit"]
    first, second = (words[words.index("--submission-id") + 1] for words in submits)
    assert first.endswith("-try1") and second == first.removesuffix("1") + "2"
    assert submits[0][:2] == ["submit", "/jobs/a.yaml"] and "--set limit=3" in shlex.join(submits[0])


@pytest.mark.parametrize("code", [2, 3])
def test_a_run_that_would_end_so_again_is_not_tried_again(airflow: Airflow, code: int) -> None:
    facts, log = airflow.run(CONF, ends=(code,))
    assert (facts["state"], facts["tries"], facts["counts"]) == ("failed", 1, None)
    assert facts["report"]["counts"]["failed"] == 1, "what it came to is handed on all the same"
    assert {2: "the job is wrong", 3: "more documents failed than limits.failed_share allows"}[code] in log


def test_what_it_calls_are_commands_of_ours(airflow: Airflow) -> None:
    pytest.importorskip("pipelines.jobs", reason="this checkout has no `gemstream submit`")
    from typer.main import get_command

    from pipelines.cli import app

    airflow.run(CONF, ends=(0,))
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    assert {words[0] for words in airflow.asked} == {"submit", "status", "wait"}
    for name, *arguments in airflow.asked:
        exists = [str(STANDIN) if argument == CONF["job"] else argument for argument in arguments]
        commands[name].make_context(name, exists)


@pytest.mark.thorough
def test_it_runs_a_job_on_a_real_cluster(airflow: Airflow, tmp_path: Path) -> None:
    """The same, by our own commands, from a Ray head on loopback."""
    head = pytest.importorskip("tests.fixtures.head", reason="this checkout has no `gemstream submit`")
    job = tmp_path / "job.yaml"
    engine = {"kind": "fault", "gpus": 0}
    source = {"input": str(EXAMPLES), "include": ["shapes/*"], "output": str(tmp_path / "out")}
    job.write_text(json.dumps({**source, "tasks": ["ocr"], "engine": engine}))
    program = tmp_path / "gemstream"
    program.write_text(f'#!/bin/sh\nexec env PYTHONPATH={ROOT} {sys.executable} -m pipelines.cli "$@"\n')
    program.chmod(0o755)
    with head.ray_head({}) as ray:
        airflow.environment |= {**ray.environment, "GEMSTREAM": str(program)}
        conf = {"job": str(job), "address": ray.address, "settings": ["limits.failed_share=0.5"]}
        facts, log = airflow.run(conf)
    assert (facts["state"], facts["tries"]) == ("success", 1), log
    assert facts["counts"]["ok"] == facts["counts"]["listed"] == 6
    assert (tmp_path / "out" / "_runs" / facts["report"]["run_id"] / "report.json").exists()
