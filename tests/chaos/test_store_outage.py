"""The object store goes away for 12 s in mid-run and comes back: nothing is lost, nobody is blamed."""

from __future__ import annotations

import random
import time
from pathlib import Path

from deploy.demo.objectstore import object_store as start_object_store
from tests.chaos.compare import Bucket, Output, assert_lawful, assert_same, part_files, read_output
from tests.chaos.lake import Lake, job_file
from tests.chaos.process import run_to_end, started

SEED = 43
OUTAGE_SECONDS = 12.0


def test_a_store_that_was_gone_for_a_while(lake: Lake, quiet: Output, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    with start_object_store() as store:
        source = lake.upload(store)
        place = Bucket(store, "chaos/outage")
        job = job_file(tmp_path, source, place.url, seconds=0.1)
        files = rng.randint(1, 6)
        with started(job, store.environment()) as run:
            assert run.until(lambda: len(part_files(place)) >= files), run.said
            with store.outage():
                # The outage itself: nothing to wait for but its end.
                time.sleep(OUTAGE_SECONDS)
            status = run.wait()
            said = f"seed {SEED}, after {files} files; the run ended with {status} and said:\n{run.said}"
        print(said)
        if status:
            assert "gemstream: " in run.said and "Traceback" not in run.said, said
        else:
            assert_lawful(read_output(place))
        run_to_end(job_file(tmp_path, source, place.url), store.environment())
        assert_same(read_output(place), quiet, said)
