"""Where the storage, source and sink tests keep their objects: a folder, and a real S3 bucket."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from schemas.storage import StorageOptions
from workers.storage.factory import join, normalise, open_storage

if TYPE_CHECKING:
    from pathlib import Path

    from workers.storage import Storage


@dataclass(frozen=True)
class Place:
    """A prefix of its own for one test."""

    root: str
    options: StorageOptions

    @property
    def storage(self) -> Storage:
        """What serves it."""
        return open_storage(self.root, self.options)

    def put(self, name: str, content: bytes = b"x") -> str:
        """Publish, and say where."""
        uri = join(self.root, name)
        self.storage.publish(uri, content)
        return uri

    def names(self, below: str = "") -> list[str]:
        """What a listing finds, relative to the root."""
        where = join(self.root, below) if below else self.root
        return [info.uri.removeprefix(self.root + "/") for info in self.storage.list(where)]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same test on a file system and on an S3 server."""
    if request.param == "local":
        return Place(normalise(str(tmp_path / "lake")), StorageOptions())
    store = request.getfixturevalue("object_store")
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    return Place(store.url(uuid.uuid4().hex), StorageOptions(endpoint_url=store.endpoint))
