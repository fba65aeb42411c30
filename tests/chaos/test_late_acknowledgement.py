"""A write that is acknowledged too late is done twice: it replaces itself, and nothing is there twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, Output, assert_same, read_output
from tests.chaos.lake import job_file
from tests.chaos.process import started
from tests.chaos.proxy import lossy_proxy

pytestmark = pytest.mark.timeout(600)

EVERY = 6
READ_SECONDS = 2
"""What the client waits for an answer before it asks again."""


def test_writes_acknowledged_late_are_written_once(
    object_store: ObjectStore, source: str, quiet: Output, tmp_path: Path
) -> None:
    place = Bucket(object_store, "chaos/late")
    job = job_file(tmp_path, source, place.url, storage={"read_seconds": READ_SECONDS})
    with lossy_proxy(object_store, EVERY) as proxy:
        way = {"AWS_ENDPOINT_URL": proxy.endpoint, "AWS_ENDPOINT_URL_S3": proxy.endpoint}
        with started(job, object_store.environment() | way) as run:
            status = run.wait()
    folders = Counter(path.split("/chaos/late/")[1].split("/")[0] for path in proxy.lost)
    said = f"answers lost: {dict(folders)}; the run ended with {status} and said:\n{run.said}"
    print(said)
    assert folders["records"] > 1, said
    assert status == 0, said
    assert_same(read_output(place), quiet, said)
