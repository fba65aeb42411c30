"""A write that is acknowledged too late is done twice: it replaces itself, and nothing is there twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, Output, assert_same, read_output
from tests.chaos.lake import job_file
from tests.chaos.process import started
from tests.chaos.proxy import lose_each, proxied

NTH = 3
READ_SECONDS = 2
"""What the client waits for an answer before it asks again."""


def test_writes_acknowledged_late_are_written_once(
    object_store: ObjectStore, source: str, quiet: Output, tmp_path: Path
) -> None:
    place = Bucket(object_store, "chaos/late")
    job = job_file(tmp_path, source, place.url, storage={"read_seconds": READ_SECONDS})
    lost: list[str] = []
    with proxied(object_store, lose_each(NTH, lost)) as environment, started(job, environment) as run:
        status = run.wait()
    twice = {path.split("/chaos/late/")[1] for path in lost}
    folders = Counter(name.split("/")[0] for name in twice)
    said = f"answers lost: {dict(folders)}; the run ended with {status} and said:\n{run.said}"
    print(said)
    assert status == 0, said
    written = {name for folder in ("records", "errors", "documents") for name in place.names(folder)}
    assert written and written <= twice, said
    assert_same(read_output(place), quiet, said)
