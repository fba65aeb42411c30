"""A run is killed while it settles, at each kind of step: the next run brings it to the same end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, assert_lawful, assert_same, part_files, read_output
from tests.chaos.lake import TASKS, job_file
from tests.chaos.process import run_to_end, started
from tests.chaos.proxy import Fate, proxied

DOCUMENTS = 60
SINK = {"rows": 10, "seconds": 1}
"""Many small files, so that there is something to sweep."""
ENGINE = {"kind": "fault", "max_num_seqs": 4}
"""It refuses nothing: beside an error the old answer would stay, and is to."""
CHANGED = [{"task": "caption", "prompt": "What is it?"}, "ocr", "transcribe"]
"""Every answer of one task is superseded, and of the others none."""


class Moment:
    """The first request of a kind that a run makes, and what becomes of it. Where that is not the usual,
    those that follow never come to the store: threads sweep side by side, and the run is as good as dead.

    Args:
        methods: its method.
        folder: of the output, that its path lies in.
        known: paths of the output; None where any will do.
        fate: what becomes of it.
    """

    def __init__(self, methods: str, folder: str, known: set[str] | None, fate: Fate) -> None:
        self._methods = methods.split()
        self._folder = folder
        self._known = known
        self._fate = fate
        self.come = threading.Event()

    def decide(self, method: str, path: str) -> Fate:
        """A `proxy.Decide`."""
        _, found, name = path.partition("/chaos/settle/")
        named = found and name.startswith(self._folder) and (self._known is None or name in self._known)
        if self.come.is_set():
            return Fate.PASSED if self._fate is Fate.PASSED else Fate.HELD
        if method not in self._methods or not named:
            return Fate.PASSED
        self.come.set()
        return self._fate


@pytest.mark.thorough
def test_killed_while_it_settles(object_store: ObjectStore, source: str, tmp_path: Path) -> None:
    some = {"include": [f"00[0-{DOCUMENTS // 10 - 1}]*"], "sink": SINK, "engine": ENGINE}
    place = Bucket(object_store, "chaos/settle/out")
    environment = object_store.environment()
    run_to_end(job_file(tmp_path, source, place.url, **some), environment)
    before = part_files(place)
    assert len(before) > 5

    other = Bucket(object_store, "chaos/settled")
    changed = some | {"tasks": CHANGED}
    run_to_end(job_file(tmp_path, source, other.url, **changed), environment)
    quiet = read_output(other)
    assert_lawful(quiet)

    job = job_file(tmp_path, source, place.url, **changed)
    old = {f"out/{name}" for name in before}
    for moment in (
        Moment("PUT DELETE", "out/records/", old, Fate.UNANSWERED),
        Moment("PUT", "out/documents/", None, Fate.UNANSWERED),
    ):
        with proxied(object_store, moment.decide) as way, started(job, way) as run:
            assert run.until(moment.come.is_set), run.said
            run.kill()
    told = Moment("PUT", "out/_runs/", None, Fate.PASSED)
    with proxied(object_store, told.decide) as way, started(job, way) as run:
        assert run.until(told.come.is_set), run.said
        os.kill(run.pid, signal.SIGTERM)
        assert run.wait() == 5 and "run the same command to go on" in run.said, run.said
    run_to_end(job, environment)
    output = read_output(place)
    assert_same(output, quiet)
    assert {key[-1] for key in output.keys} == set(TASKS)
