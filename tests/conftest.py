"""What all tests share. One object store, one Ray and one engine per model for the whole session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.fixtures.objectstore",
    "tests.fixtures.watched",
    "tests.fixtures.runs",
    "tests.fixtures.served",
]

# A shared machine stalls at times; how long an example takes is no law of ours.
settings.register_profile("gemstream", deadline=None, derandomize=True)
settings.load_profile("gemstream")

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT.parent / "shared" / "corpus"

# No hub is asked, and no test takes the cluster of whoever runs it for its own.
os.environ["HF_HUB_OFFLINE"] = "1"
for inherited in ("RAY_ADDRESS", "AWS_ENDPOINT_URL", "AWS_PROFILE"):
    os.environ.pop(inherited, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="run what takes long as well")
    parser.addoption("--goldens", action="store_true", help="write what is pinned anew, to be looked at")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--thorough"):
        return
    skipped = pytest.mark.skip(reason="takes long: asked for by --thorough")
    for item in items:
        if item.get_closest_marker("thorough"):
            item.add_marker(skipped)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Real files, healthy and nasty; a checkout without them skips what needs them."""
    if not (CORPUS / "manifest.csv").is_file():
        pytest.skip("no corpus of real files beside this checkout")
    return CORPUS
