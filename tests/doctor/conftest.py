"""The session's object store, as the checks find it."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.demo.objectstore import ObjectStore
from workers.storage import s3

CLIENTS: dict[Any, Any] = {}
"""Of all these tests: one takes 0.3 s of CPU to make, which is most of what a test of the store takes."""


@pytest.fixture
def store(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server, with its credentials where the AWS chain finds them; its objects under doctor/."""
    monkeypatch.setattr(s3, "_clients", CLIENTS)
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    return object_store


@pytest.fixture
def altered(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The same, for a test that alters the environment: clients keep what they were made with."""
    monkeypatch.setattr(s3, "_clients", {})
    return store
