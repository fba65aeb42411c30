"""What a manifest's relative names come to, beside it in a bucket."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from pipelines.sources import open_source
from schemas.storage import StorageOptions
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from tests.fixtures.objectstore import ObjectStore


@pytest.mark.parametrize(
    ("folder", "name", "uri"),
    [
        ("x", "../y//k.pdf", "s3://{root}/y//k.pdf"),
        ("x", ".//k.pdf", "s3://{root}/x//k.pdf"),
        ("x/", "./a.pdf", "s3://{root}/x//a.pdf"),
        ("x/", "a.pdf", "s3://{root}/x//a.pdf"),
        ("x", "../../../a.pdf", "s3://{bucket}/a.pdf"),
        ("x", "y//../a.pdf", "s3://{root}/x/y/a.pdf"),
    ],
)
def test_steps_of_a_name_are_taken_and_empty_ones_stay(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, folder: str, name: str, uri: str
) -> None:
    """S3 tells a double slash from a single one."""
    for variable, value in object_store.environment().items():
        monkeypatch.setenv(variable, value)
    options = StorageOptions(endpoint_url=object_store.endpoint)
    root = f"{object_store.bucket}/{uuid.uuid4().hex}"
    list_uri = f"s3://{root}/{folder}/list.txt"
    open_storage(list_uri, options).publish(list_uri, name.encode())
    [listed] = open_source([], options, manifest=list_uri).documents()
    assert listed["uri"].to_pylist() == [uri.format(root=root, bucket=object_store.bucket)]
