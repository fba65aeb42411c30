"""What a command prints is what it was asked for, whatever Ray has to say meanwhile."""

from __future__ import annotations

import threading

import pytest
import ray

from pipelines.cluster import cluster
from tests.pipelines.test_lease import until

WARNING = "WARNING: 10 PYTHON worker processes have been started on this node"


def test_what_ray_warns_of_is_no_part_of_a_commands_answer(
    ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"out": "", "err": ""}

    def heard() -> bool:
        out, err = capsys.readouterr()
        said["out"] += out
        said["err"] += err
        return WARNING in said["out"] + said["err"]

    with cluster():
        print("{")
        warned()
        until(heard)
    print("}")
    assert WARNING in said["err"]
    assert (said["out"], capsys.readouterr().out) == ("", "}\n")


def test_a_run_in_a_thread_leaves_the_process_its_output(
    ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        with cluster():
            print("mine")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert capsys.readouterr().out == "mine\n"


def warned() -> None:
    """As a raylet does: to every driver of the cluster."""
    from ray._private.utils import publish_error_to_driver

    client = ray._private.worker.global_worker.gcs_client
    publish_error_to_driver("worker_pool_large", WARNING, gcs_client=client)
