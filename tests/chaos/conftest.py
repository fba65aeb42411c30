"""The lake, its store, and the run that nobody disturbs: once for the session."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, Output, assert_lawful, read_output
from tests.chaos.lake import MORE, Lake, job_file, make_lake
from tests.chaos.process import run_to_end

FEW = 120
"""Documents that most tests disturb a run over: enough for a middle, and soon done."""


@pytest.fixture(scope="session")
def whole_lake() -> Lake:
    """300 documents, 12 of them broken."""
    return make_lake()


@pytest.fixture(scope="session")
def lake(whole_lake: Lake) -> Lake:
    """The first of them."""
    return whole_lake.cut(FEW)[0]


@pytest.fixture(scope="session")
def source(lake: Lake, object_store: ObjectStore) -> str:
    """Their address in the session's store."""
    return lake.upload(object_store)


@pytest.fixture(scope="session")
def sources(whole_lake: Lake, source: str, object_store: ObjectStore) -> list[str]:
    """The addresses of all 300."""
    return [source, whole_lake.cut(FEW)[1].upload(object_store, MORE)]


@pytest.fixture(scope="session")
def whole_quiet(
    whole_lake: Lake, sources: list[str], object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Output:
    """What every disturbed run over all 300 has to come to."""
    place = Bucket(object_store, "chaos/quiet")
    run_to_end(job_file(tmp_path_factory.mktemp("quiet"), sources, place.url), object_store.environment())
    output = read_output(place)
    assert_lawful(output)
    assert set(output.keys.values()) == {1}
    assert output.failed == whole_lake.broken, "the planted ones have failed, and no other"
    refused = {uri for uri, _, task, _ in output.errors if task}
    assert refused, "some answers were refused"
    heard = {uri.rpartition("/")[2] for uri in output.uris | refused}
    assert heard == set(whole_lake.documents) - set(whole_lake.broken)
    return output


@pytest.fixture(scope="session")
def quiet(whole_quiet: Output, lake: Lake) -> Output:
    """What a disturbed run over the first of them has to come to."""
    output = whole_quiet.among(lake.documents)
    assert {uri for uri, _, task, _ in output.errors if task} and output.failed == lake.broken
    return output


@pytest.fixture(autouse=True)
def duration(request: pytest.FixtureRequest) -> Iterator[None]:
    """Prints what each test took, for a suite whose time is bounded."""
    began = time.monotonic()
    yield
    print(f"{request.node.name}: {time.monotonic() - began:.1f} s")
