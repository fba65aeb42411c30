"""A run that is told to end: asked once, it brings what is in flight to its end; asked twice, it is gone."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import (
    Bucket,
    Output,
    assert_begun,
    assert_not_asked_again,
    assert_same,
    part_files,
    read_output,
)
from tests.chaos.lake import REFUSED, job_file
from tests.chaos.process import assert_gone, run_to_end, started

ANSWER_SECONDS = 1.0
"""45 s of answers: the first file may be there after 15 s, on a machine where its writer is slow to start."""
DRAIN_SECONDS = 10.0
LONG_SECONDS = 200.0
HANGING = 0.02
"""Share of questions that are never answered: such a run drains for as long as it may."""
END_SECONDS = 45.0
"""For a busy machine to write the last group and end Ray, which takes an idle one 3 s."""
GO_ON = "run the same command to go on"


def test_sigterm_drains(object_store: ObjectStore, source: str, quiet: Output, tmp_path: Path) -> None:
    place = Bucket(object_store, "chaos/drained")
    limits = {"drain_seconds": DRAIN_SECONDS}
    job = job_file(tmp_path, source, place.url, seconds=ANSWER_SECONDS, limits=limits)
    with started(job, object_store.environment()) as run:
        assert run.until(lambda: part_files(place)), run.said
        family = run.family()
        began = time.monotonic()
        os.kill(run.pid, signal.SIGTERM)
        status = run.wait()
        took = time.monotonic() - began
    print(f"ended {took:.1f} s after the signal with {status} and said:\n{run.said}")
    assert status == 5 and took < DRAIN_SECONDS + END_SECONDS, run.said
    assert "SIGTERM" in run.said and GO_ON in run.said and "Traceback" not in run.said, run.said
    assert_gone(family)
    before = read_output(place)
    assert_begun(before, quiet, run.said)
    run_to_end(job_file(tmp_path, source, place.url), object_store.environment())
    after = read_output(place)
    assert_same(after, quiet, run.said)
    assert_not_asked_again(after, before)


@pytest.mark.thorough
def test_a_second_ctrl_c_ends_it_at_once(
    object_store: ObjectStore, source: str, quiet: Output, tmp_path: Path
) -> None:
    place = Bucket(object_store, "chaos/interrupted")
    options = {"seconds": ANSWER_SECONDS, "refuse": REFUSED, "hang": HANGING}
    job = job_file(
        tmp_path,
        source,
        place.url,
        seconds=ANSWER_SECONDS,
        engine={"kind": "fault", "options": options, "max_num_seqs": 4},
        limits={"drain_seconds": LONG_SECONDS},
    )
    with started(job, object_store.environment()) as run:
        assert run.until(lambda: part_files(place)), run.said
        family = run.family()
        # As a terminal does: to all that were started by it.
        os.killpg(run.pid, signal.SIGINT)
        assert run.until(lambda: "SIGINT: no new work" in run.said), run.said
        began = time.monotonic()
        os.killpg(run.pid, signal.SIGINT)
        status = run.wait()
        took = time.monotonic() - began
    print(f"ended {took:.1f} s after the second signal with {status} and said:\n{run.said}")
    assert status == 5 and took < END_SECONDS, run.said
    assert GO_ON in run.said and "Traceback" not in run.said, run.said
    assert_gone(family)
    before = read_output(place)
    assert_begun(before, quiet, run.said)
    run_to_end(job_file(tmp_path, source, place.url), object_store.environment())
    after = read_output(place)
    assert_same(after, quiet, run.said)
    assert_not_asked_again(after, before)


def test_sigterm_while_it_comes_up(object_store: ObjectStore, source: str, tmp_path: Path) -> None:
    place = Bucket(object_store, "chaos/early")
    with started(job_file(tmp_path, source, place.url), object_store.environment()) as run:
        # Ray has its own answer to the signal while it starts, and this is when.
        assert run.until(lambda: [child for child in run.family() if _name(child) == "raylet"]), run.said
        os.kill(run.pid, signal.SIGTERM)
        family = run.family()
        status = run.wait()
    assert status == 5 and GO_ON in run.said and "Traceback" not in run.said, run.said
    assert not part_files(place)
    assert not [name for name in place.names("_runs") if "_lease" in name], "the output is free again"
    assert_gone(family)


def _name(process: psutil.Process) -> str:
    try:
        name: str = process.name()
    except psutil.NoSuchProcess:
        return ""
    return name
