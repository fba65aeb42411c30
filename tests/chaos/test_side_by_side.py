"""Several runs and one output: refused, unless each has a shard of its own."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, Output, assert_same, part_files, read_output
from tests.chaos.lake import job_file
from tests.chaos.process import run_to_end, started

SHARDS = 2


def test_a_second_run_is_refused_and_the_first_goes_on(
    object_store: ObjectStore, source: str, quiet: Output, tmp_path: Path
) -> None:
    place = Bucket(object_store, "chaos/twice")
    environment = object_store.environment()
    # For as long as a machine with ten other things to do may take to bring the second up.
    with started(job_file(tmp_path, source, place.url, seconds=2.0), environment) as first:
        assert first.until(lambda: part_files(place)), first.said
        job = job_file(tmp_path, source, place.url)
        with started(job, environment) as second:
            assert second.wait() == 2, second.said
        assert "writes to this output" in second.said and "--shard" in second.said
        assert str(first.pid) in second.said, "it says who holds the output"
        published = part_files(place)
        assert first.until(lambda: part_files(place) > published), first.said
        os.kill(first.pid, signal.SIGTERM)
        assert first.wait() == 5, first.said
    run_to_end(job, environment)
    assert_same(read_output(place), quiet)


def test_shards_side_by_side_are_one_run(
    object_store: ObjectStore, source: str, quiet: Output, tmp_path: Path
) -> None:
    place = Bucket(object_store, "chaos/shards")
    job = job_file(tmp_path, source, place.url)
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                started(job, object_store.environment(), "--shard", f"{index}/{SHARDS}", "--json")
            )
            for index in range(1, SHARDS + 1)
        ]
        for run in runs:
            assert run.wait() == 0, run.said
    reports = [json.loads(run.said[run.said.index("{\n") :]) for run in runs]
    for report in reports:
        counts = dict(report["counts"])
        assert counts.pop("listed") == sum(counts.values()) > 0
    output = read_output(place)
    assert sum(report["counts"]["listed"] for report in reports) == len(output.uris | _failed(output))
    assert_same(output, quiet, f"{SHARDS} shards")


def _failed(output: Output) -> set[str]:
    return {uri for uri, *_ in output.errors}
