"""What is particular to S3: credentials, large uploads, a store that fails or is no store."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import urllib3

from deploy.demo.objectstore import ObjectStore
from deploy.demo.objectstore import object_store as start_object_store
from schemas.errors import (
    AccessDenied,
    GemstreamError,
    JobError,
    ObjectChanged,
    ObjectMissing,
    StorageUnavailable,
)
from schemas.storage import StorageOptions
from workers.storage import s3
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.storage import Storage


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
        storage = open_storage(uri, options)
        storage.publish(uri, b"here")
        [info] = storage.list(store.url())
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


class _Answers(ThreadingHTTPServer):
    """Gives each request the next of some canned answers, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers: list[bytes] = []
        self.asked = 0

    def will_say(self, *answers: bytes) -> Storage:
        """Set what comes next; the storage to ask it with."""
        self.answers, self.asked = list(answers), 0
        endpoint = f"http://127.0.0.1:{self.server_port}"
        return s3.S3Storage(
            StorageOptions(
                endpoint_url=endpoint, anonymous=True, region="us-east-1", attempts=2, outage_seconds=0
            )
        )


class _Answer(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        assert isinstance(self.server, _Answers)
        answers = self.server.answers
        answer = answers[min(self.server.asked, len(answers) - 1)]
        self.server.asked += 1  # before the client hears it and looks
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def web() -> Iterator[_Answers]:
    """A server on loopback that says what it is told to; one, since a client takes 0.3 s to make."""
    with _Answers() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _http(status: str, body: bytes, length: int | None = None) -> bytes:
    announced = len(body) if length is None else length
    return (
        f'HTTP/1.1 {status}\r\nContent-Length: {announced}\r\nETag: "e"\r\nConnection: close\r\n\r\n'.encode()
        + body
    )


def _fault(status: str, code: str) -> bytes:
    return _http(
        status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>AKIA</Message></Error>".encode()
    )


@pytest.mark.parametrize(
    ("answer", "expected", "text"),
    [
        (_fault("503 Slow Down", "SlowDown"), StorageUnavailable, "SlowDown"),
        (_fault("500 Internal", "InternalError"), StorageUnavailable, "InternalError"),
        (_fault("403 Forbidden", "AccessDenied"), AccessDenied, "grant s3:GetObject"),
        (_fault("403 Forbidden", "InvalidObjectState"), AccessDenied, "restore it first"),
        (_fault("403 Forbidden", "RequestTimeTooSkewed"), AccessDenied, "clock"),
        (_fault("400 Bad Request", "ExpiredToken"), AccessDenied, "log in again"),
        (_fault("400 Bad Request", "AuthorizationHeaderMalformed"), AccessDenied, "storage.region"),
        (_fault("405 Not Allowed", "MethodNotAllowed"), AccessDenied, "refuses the request"),
        (_fault("404 Not Found", "NoSuchKey"), ObjectMissing, "nothing is there"),
        (_fault("412 Precondition", "PreconditionFailed"), ObjectChanged, "changed"),
        (_http("404 Not Found", b"<html>a web server</html>"), ObjectMissing, "nothing is there"),
        (_http("200 OK", b"half", length=100), StorageUnavailable, "broke off"),
    ],
)
def test_what_a_store_answers_decides_the_error(
    web: _Answers, answer: bytes, expected: type[GemstreamError], text: str
) -> None:
    with pytest.raises(expected, match=text) as caught:
        web.will_say(answer).read("s3://lake/a")
    assert type(caught.value) is expected
    assert "AKIA" not in caught.value.message


@pytest.mark.parametrize("page", [b"<html>a web server", b"<html>a well-formed one</html>"])
def test_a_listing_by_what_is_no_store_is_not_an_empty_one(web: _Answers, page: bytes) -> None:
    with pytest.raises(StorageUnavailable, match="check storage.endpoint_url"):
        list(web.will_say(_http("200 OK", page)).list("s3://lake/"))


def test_an_answer_that_broke_off_is_asked_for_again(web: _Answers) -> None:
    storage = web.will_say(_http("200 OK", b"hal", length=5), _http("200 OK", b"whole"))
    assert storage.read("s3://lake/a") == b"whole"
    assert web.asked == 2


def test_a_tls_connection_that_breaks_is_an_answer_that_broke_off(
    web: _Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> bytes:
        raise urllib3.exceptions.SSLError("[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]")

    storage = web.will_say(_http("200 OK", b"whole"))
    monkeypatch.setattr(urllib3.HTTPResponse, "read", breaks)
    with pytest.raises(StorageUnavailable, match="broke off"):
        storage.read("s3://lake/a")


def test_a_throttled_request_is_sent_again(web: _Answers) -> None:
    storage = web.will_say(_fault("503 Slow Down", "SlowDown"), _http("200 OK", b"whole"))
    assert storage.read("s3://lake/a") == b"whole"
    assert web.asked == 2


def test_a_store_that_heeds_no_precondition_is_found_out(web: _Answers) -> None:
    with pytest.raises(ObjectChanged):
        web.will_say(_http("200 OK", b"other")).read("s3://lake/a", version="another")


def test_an_object_that_has_become_shorter_has_changed_and_not_ended(web: _Answers) -> None:
    storage = web.will_say(_fault("416 Range", "InvalidRange"), _http("200 OK", b""))
    with pytest.raises(ObjectChanged):
        storage.read("s3://lake/a", version="another", start=8, length=8)
    assert storage.read("s3://lake/a", version="e", start=8, length=8) == b""


def test_a_range_names_the_version_of_the_whole_where_there_are_no_etags(web: _Answers) -> None:
    head = "HTTP/1.1 {} OK\r\nLast-Modified: Mon, 02 Nov 2026 10:00:00 GMT\r\nContent-Length: {}\r\n{}\r\n"
    part = head.format(206, 2, "Content-Range: bytes 4-5/10\r\n").encode() + b"45"
    storage = web.will_say(head.format(200, 10, "").encode(), part)
    version = storage.info("s3://lake/a").version
    assert version.endswith("-10")
    assert storage.read("s3://lake/a", version=version, start=4, length=2) == b"45"


def test_one_client_serves_all_storages_of_a_process(store: ObjectStore) -> None:
    for _ in range(3):
        open_storage(store.url(), StorageOptions()).publish(store.url("clients/a"), b"x")
    assert len(s3._clients) == 1
