"""The session's object store, as the checks find it."""

from __future__ import annotations

import pytest

from deploy.demo.objectstore import ObjectStore
from workers.storage import s3


@pytest.fixture
def store(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server, with its credentials where the AWS chain finds them; its objects under doctor/."""
    monkeypatch.setattr(s3, "_clients", {})
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    object_store.client().put_object(Bucket=object_store.bucket, Key="doctor/in/a.pdf", Body=b"%PDF")
    return object_store
