"""What is particular to S3: credentials, large uploads, a store that goes away."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from deploy.demo.objectstore import ObjectStore
from deploy.demo.objectstore import object_store as start_object_store
from schemas.errors import (
    AccessDenied,
    GemstreamError,
    JobError,
    ObjectMissing,
    StorageUnavailable,
)
from schemas.storage import StorageOptions
from workers.storage import s3
from workers.storage.factory import open_storage


@pytest.fixture
def store(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server, with its credentials where the AWS chain finds them.

    Clients are kept per process and options; a test that changes credentials needs one of its own.
    """
    monkeypatch.setattr(s3, "_clients", {})
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    return object_store


def test_times_are_those_that_boto3_reads(store: ObjectStore) -> None:
    uri = store.url("times/a")
    storage = open_storage(uri, StorageOptions())
    storage.publish(uri, b"x")
    client = store.client()
    [theirs] = client.list_objects_v2(Bucket=store.bucket, Prefix="times/")["Contents"]
    [listed] = storage.list(store.url("times"))
    assert listed.modified == theirs["LastModified"]
    assert (
        storage.info(uri).modified == client.head_object(Bucket=store.bucket, Key="times/a")["LastModified"]
    )


def test_uploads_of_the_prefix_alone_are_ended(store: ObjectStore) -> None:
    client = store.client()
    keys = ("ours/part", "ours-too/part")
    begun = {key: client.create_multipart_upload(Bucket=store.bucket, Key=key)["UploadId"] for key in keys}
    uri = store.url("ours")
    assert open_storage(uri, StorageOptions()).remove_unfinished(uri) == 1
    left = client.list_multipart_uploads(Bucket=store.bucket, Prefix="ours").get("Uploads", [])
    assert [upload["Key"] for upload in left] == ["ours-too/part"]
    client.abort_multipart_upload(Bucket=store.bucket, Key=keys[1], UploadId=begun[keys[1]])


def refused(store: ObjectStore, options: StorageOptions) -> list[GemstreamError]:
    """What each kind of call raises."""
    uri = store.url("denied/a")
    storage = open_storage(uri, options)
    errors = []
    for call in (
        lambda: storage.read(uri),
        lambda: storage.info(uri),
        lambda: list(storage.list(store.url("denied"))),
        lambda: storage.publish(uri, b"x"),
        lambda: storage.delete(uri),
    ):
        with pytest.raises(GemstreamError) as caught:
            call()
        errors.append(caught.value)
    return errors


def test_a_wrong_secret_key_is_denied_and_not_told(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    errors = refused(store, StorageOptions())
    assert {type(error) for error in errors} == {AccessDenied}
    assert "check AWS_SECRET_ACCESS_KEY" in errors[0].message
    for error in errors:
        assert store.access_key not in str(error)
        assert "not-the-secret" not in str(error)


def test_an_unknown_access_key_is_denied(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")
    errors = refused(store, StorageOptions())
    assert {type(error) for error in errors} == {AccessDenied}
    assert "check AWS_ACCESS_KEY_ID" in errors[0].message
    assert not any("AKIANOBODY" in str(error) for error in errors)


def test_no_credentials_at_all_says_where_to_put_some(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    errors = refused(store, StorageOptions())
    assert {type(error) for error in errors} == {AccessDenied}
    assert "set AWS_PROFILE" in errors[0].message


def test_an_unknown_profile_is_denied(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert {type(error) for error in refused(store, StorageOptions())} == {AccessDenied}


def test_anonymous_requests_carry_no_signature(store: ObjectStore) -> None:
    errors = refused(store, StorageOptions(anonymous=True))
    assert {type(error) for error in errors} == {AccessDenied}
    assert "grant s3:GetObject" in errors[0].message


def test_a_bucket_that_is_not_there_is_named(store: ObjectStore) -> None:
    storage = open_storage("s3://nowhere/a", StorageOptions())
    with pytest.raises(ObjectMissing, match="no bucket 'nowhere'"):
        storage.read("s3://nowhere/a")
    with pytest.raises(ObjectMissing, match="no bucket 'nowhere'"):
        list(storage.list("s3://nowhere/a"))
    with pytest.raises(ObjectMissing, match="no such bucket"):
        storage.read("s3://not a bucket/a")
    with pytest.raises(ObjectMissing, match="names a bucket"):
        storage.read("s3://lake")


def test_folder_markers_are_not_listed(store: ObjectStore) -> None:
    client = store.client()
    for key in ("marked/", "marked/folder/", "marked/folder/a"):
        client.put_object(Bucket=store.bucket, Key=key, Body=b"")
    listing = open_storage(store.url(), StorageOptions()).list(store.url("marked"))
    assert [info.uri for info in listing] == [store.url("marked/folder/a")]


def test_a_listing_goes_through_all_its_pages(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PAGE", 10)
    storage = open_storage(store.url(), StorageOptions())
    uris = [store.url(f"many/{number:04d}") for number in range(25)]
    for uri in uris:
        storage.publish(uri, b"x")
    assert [info.uri for info in storage.list(store.url("many"))] == uris


def test_a_large_upload_in_pieces_is_one_object(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "MULTIPART_BYTES", 5 * 1024 * 1024)
    monkeypatch.setattr(s3, "PIECE_BYTES", 5 * 1024 * 1024)
    content = os.urandom(1024) * (11 * 1024)
    uri = store.url("large/a.parquet")
    storage = open_storage(uri, StorageOptions())
    storage.publish(uri, content)
    [info] = storage.list(uri)
    assert info.version.endswith("-3")
    assert storage.read(uri, version=info.version) == content
    assert storage.read(uri, version=info.version, start=6_000_000, length=9) == content[6_000_000:6_000_009]


def test_a_store_that_goes_away_is_unavailable_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    options = StorageOptions(attempts=2, connect_seconds=1, read_seconds=2, outage_seconds=0)
    with ExitStack() as running:
        store = running.enter_context(start_object_store())
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        uri = store.url("a")
        # A fresh one may take its time over the first.
        unhurried = open_storage(uri, StorageOptions(endpoint_url=store.endpoint))
        storage = open_storage(uri, options)
        unhurried.publish(uri, b"here")
        [info] = unhurried.list(store.url())
        running.close()
        for call in (
            lambda: storage.read(uri, version=info.version),
            lambda: storage.info(uri),
            lambda: list(storage.list(store.url())),
            lambda: storage.publish(uri, b"x"),
            lambda: storage.delete(uri),
        ):
            with pytest.raises(StorageUnavailable, match="did not answer"):
                call()


def test_an_endpoint_that_is_no_url_is_the_job_s_fault() -> None:
    with pytest.raises(JobError, match="storage.endpoint_url is no address") as told:
        open_storage("s3://lake/a", StorageOptions(endpoint_url="u:secret@here")).read("s3://lake/a")
    assert "secret" not in str(told.value) and told.value.__cause__ is None


def test_one_client_serves_all_storages_of_a_process(store: ObjectStore) -> None:
    for _ in range(3):
        open_storage(store.url(), StorageOptions()).publish(store.url("clients/a"), b"x")
    assert len(s3._clients) == 1
