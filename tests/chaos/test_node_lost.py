"""Two Ray nodes, and one of them is lost in mid-run, with the engines and parsers on it; another comes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, Output, assert_lawful, assert_same, part_files, read_output
from tests.chaos.lake import REFUSED, job_file
from tests.chaos.process import gone, run_to_end, started, title
from tests.conftest import ROOT

ANSWER_SECONDS = 0.6
"""27 s in the engine. A cluster's first writer is a process that is started when there is something to write,
which takes a busy machine as long as 7 s of answers: then the engines are gone before there is a file. Its
second may come when all is answered."""
HEAD_CPUS = 1
"""For one of the two parsers at most."""
NODE = {"num_cpus": 6, "num_gpus": 2}
"""As Ray counts them. The head has no GPU, so the engines, which each ask for one, are on the other node
whatever Ray finds best."""


@contextmanager
def two_nodes(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Iterator[tuple[Any, Any]]:
    """A cluster and the node of it that is not the head. Its processes inherit what is set here."""
    from ray.cluster_utils import Cluster

    # Ray writes down the address of the latest cluster for whoever starts one after it; not in the folder
    # that everyone on this machine looks into. Its sockets' paths must be short.
    folder = tempfile.mkdtemp(prefix="gs-ray-", dir="/tmp")
    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": HEAD_CPUS, "include_dashboard": False}
    )
    try:
        yield cluster, cluster.add_node(**NODE)
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def stages_on(node: Any) -> list[psutil.Process]:
    """The processes of a node in which a stage of a run lives."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [
        child
        for child in raylet.children(recursive=True)
        if not gone(child) and title(child).startswith("ray::MapWorker")
    ]


def test_a_node_lost_in_mid_run(
    object_store: ObjectStore, source: str, quiet: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Bucket(object_store, "chaos/node")
    # Of the parsers one is left, of the engines none until the other node comes.
    options = {"seconds": ANSWER_SECONDS, "refuse": REFUSED}
    engine = {"kind": "fault", "options": options, "max_num_seqs": 4, "gpus": 1}
    job = job_file(tmp_path, source, place.url, engine=engine, expand={"workers": 2})
    environment = object_store.environment()
    with two_nodes(monkeypatch, environment) as (cluster, second):
        with started(job, environment | {"RAY_ADDRESS": cluster.address}) as run:
            assert run.until(lambda: stages_on(second) and part_files(place)), run.said
            lost = [title(process) for process in stages_on(second)]
            cluster.remove_node(second, allow_graceful=False)
            cluster.add_node(**NODE)
            status = run.wait()
            said = f"lost {lost}; it ended with {status} and said:\n{run.said}"
        print(said)
        if status == 0:
            assert_lawful(read_output(place))
        else:
            assert "gemstream: " in run.said, said
            run_to_end(job, environment | {"RAY_ADDRESS": cluster.address})
        assert_same(read_output(place), quiet, said)
