"""Run after run over one output ends by SIGKILL, of the driver alone or of everything, as when the power
fails: the run that is let alone at last completes it."""

from __future__ import annotations

import random
import time
from pathlib import Path

import psutil
import pytest

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, Output, assert_same, part_files, read_output
from tests.chaos.lake import job_file
from tests.chaos.process import assert_gone, end, run_to_end, started

pytestmark = pytest.mark.timeout(900)

SEED = 41
STARTING_SECONDS = 6.0
"""What a run needs to come up on an idle machine: a kill within them hits Ray, the plan or the ledger."""


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.thorough)])
def test_killed_again_and_again(
    object_store: ObjectStore, sources: list[str], whole_quiet: Output, tmp_path: Path, kills: int
) -> None:
    rng = random.Random(SEED)
    place = Bucket(object_store, f"chaos/killed/{kills}")
    job = job_file(tmp_path, sources, place.url, seconds=0.1)
    history: list[str] = []
    family: list[psutil.Process] = []
    for kill in range(kills):
        before = len(part_files(place))
        with started(job, object_store.environment()) as run:
            # Half of the kills wait for work to be published, half strike while the run comes up.
            if kill % 2:
                moment = time.monotonic() + rng.uniform(0, STARTING_SECONDS)
                going = run.until(lambda: time.monotonic() >= moment)  # noqa: B023 - called before it changes
            else:
                fresh = rng.randint(1, 5)
                going = run.until(lambda: len(part_files(place)) >= before + fresh)  # noqa: B023
                # Anywhere in the life of the next group: asked, answered, half of its files published.
                time.sleep(rng.uniform(0, 1))
            assert going, f"seed {SEED}, kill {kill}: the run ended before it could be killed:\n{run.said}"
            # What a driver leaves behind has to notice by itself; it is looked at below. Both ways, for those
            # that come up and those at work, in four kills; of two, each kind of each once.
            left = run.family()
            run.kill()
            if kill % 4 in (1, 2):
                end(left)
            family += left
        history.append(f"{len(part_files(place)) - before} files")
    said = f"seed {SEED}, published before each kill: {', '.join(history)}"
    print(said)
    run_to_end(job_file(tmp_path, sources, place.url), object_store.environment())
    assert_same(read_output(place), whole_quiet, said)
    assert_gone(family)
