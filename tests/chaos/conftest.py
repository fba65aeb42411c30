"""The lake, its store, and the run that nobody disturbs: once for the session."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, Output, assert_lawful, read_output
from tests.chaos.lake import Lake, job_file, make_lake
from tests.chaos.process import run_to_end


@pytest.fixture(scope="session")
def lake() -> Lake:
    """300 documents, 12 of them broken."""
    return make_lake()


@pytest.fixture(scope="session")
def source(lake: Lake, object_store: ObjectStore) -> str:
    """The lake's address in the session's store."""
    return lake.upload(object_store)


@pytest.fixture(scope="session")
def quiet(
    lake: Lake, source: str, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Output:
    """What every disturbed run has to come to."""
    place = Bucket(object_store, "chaos/quiet")
    run_to_end(job_file(tmp_path_factory.mktemp("quiet"), source, place.url), object_store.environment())
    output = read_output(place)
    assert_lawful(output)
    assert set(output.keys.values()) == {1}
    assert output.failed == lake.broken, "the planted ones have failed, and no other"
    refused = {uri for uri, _, task, _ in output.errors if task}
    assert refused, "some answers were refused"
    heard = {uri.rpartition("/")[2] for uri in output.uris | refused}
    assert heard == set(lake.documents) - set(lake.broken)
    return output


@pytest.fixture(autouse=True)
def duration(request: pytest.FixtureRequest) -> Iterator[None]:
    """Prints what each test took, for a suite whose time is bounded."""
    began = time.monotonic()
    yield
    print(f"{request.node.name}: {time.monotonic() - began:.1f} s")
