"""What a store answers, and what stands before it or in its place, decides what a call of S3 storage does."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import urllib3

from deploy.demo.objectstore import ObjectStore
from schemas.errors import AccessDenied, GemstreamError, ObjectChanged, ObjectMissing, StorageUnavailable
from schemas.storage import StorageOptions
from tests.chaos.proxy import Fate, proxied
from workers.sinks.reading import part_files
from workers.storage import s3
from workers.storage.factory import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.storage import Storage


class _Answers(ThreadingHTTPServer):
    """Gives each request the next of some canned answers, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers: list[bytes] = []
        self.asked = 0

    def will_say(self, *answers: bytes, outage_seconds: float = 0) -> Storage:
        """Set what comes next; the storage to ask it with."""
        self.answers, self.asked = list(answers), 0
        endpoint = f"http://127.0.0.1:{self.server_port}"
        return s3.S3Storage(
            StorageOptions(
                endpoint_url=endpoint,
                anonymous=True,
                region="us-east-1",
                attempts=2,
                outage_seconds=outage_seconds,
            )
        )


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Answers)
        answers = self.server.answers
        answer = answers[min(self.server.asked, len(answers) - 1)]
        self.server.asked += 1  # before the client hears it and looks
        self.wfile.write(answer)

    do_HEAD = do_DELETE = do_GET

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
        (_fault("404 Not Found", "ObjectNotFound"), ObjectMissing, "nothing is there"),
        (_fault("412 Precondition", "PreconditionFailed"), ObjectChanged, "changed"),
        (_http("404 Not Found", b"<html>a web server</html>"), StorageUnavailable, "no S3 server"),
        (_http("404 Not Found", b"404 page not found\n"), StorageUnavailable, "no S3 server"),
        (_http("404 Not Found", b""), StorageUnavailable, "no S3 server"),
        (_fault("404 Not Found", "NoSuchBucket"), ObjectMissing, "no bucket"),
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


NO_ROUTE = _http("404 Not Found", b"404 page not found\n")
"""What a proxy says while it reads its routes anew."""


def _page(*names: str, after: str = "") -> bytes:
    """A page of a listing; `after` is the token of the next."""
    entries = "".join(
        f"<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:01.600Z</LastModified><Size>5</Size></Contents>"
        for name in names
    )
    token = f"<NextContinuationToken>{after}</NextContinuationToken>" if after else ""
    body = f"<IsTruncated>{str(bool(after)).lower()}</IsTruncated>{token}{entries}"
    return _http("200 OK", f"<?xml version='1.0'?><ListBucketResult>{body}</ListBucketResult>".encode())


def test_a_page_that_a_proxy_does_not_find_is_asked_for_again(web: _Answers) -> None:
    pages = (NO_ROUTE, _page("out/a", after="t"), NO_ROUTE, _page("out/b"))
    listing = web.will_say(*pages, outage_seconds=10).list("s3://lake/out/")
    assert [info.uri for info in listing] == ["s3://lake/out/a", "s3://lake/out/b"]
    assert web.asked == 4


@pytest.mark.parametrize(
    ("below", "names"), [(_page("lake/scans/1.pdf"), ["lake/scans/1.pdf"]), (_page(), ["lake/scans"])]
)
def test_an_empty_object_named_like_a_folder_hides_nothing_below_it(
    web: _Answers, below: bytes, names: list[str]
) -> None:
    listing = web.will_say(_http("200 OK", b""), below).list("s3://bucket/lake/scans")
    assert [info.uri for info in listing] == [f"s3://bucket/{name}" for name in names]


def test_an_object_that_is_named_is_that_object(web: _Answers) -> None:
    """Also where what answers lists nothing."""
    object_ = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "e"\r\nConnection: close\r\n\r\n'
    listing = web.will_say(object_, NO_ROUTE).list("s3://bucket/a.pdf")
    assert [info.uri for info in listing] == ["s3://bucket/a.pdf"] and web.asked == 1


@pytest.mark.parametrize("code", ["", "NoSuchKey"])
def test_a_listing_that_is_not_found_is_not_an_empty_one(web: _Answers, code: str) -> None:
    """Of no object below a prefix S3 says so, with status 200."""
    storage = web.will_say(_fault("404 Not Found", code) if code else NO_ROUTE)
    for listing in (storage.list("s3://lake/out/"), part_files(storage, "s3://lake/out/")):
        with pytest.raises(StorageUnavailable, match="cannot be listed: what answers is no S3 server"):
            list(listing)


def test_a_folder_that_goes_while_its_part_files_are_listed_is_missing(web: _Answers) -> None:
    storage = web.will_say(_page("out/part-1.parquet", after="t"), _fault("404 Not Found", "NoSuchBucket"))
    listing = part_files(storage, "s3://lake/out/")
    assert next(listing).uri == "s3://lake/out/part-1.parquet"
    with pytest.raises(ObjectMissing):
        next(listing)
    assert list(part_files(web.will_say(_fault("404 Not Found", "NoSuchBucket")), "s3://lake/out/")) == []


def test_what_is_deleted_by_nobody_is_not_gone(web: _Answers) -> None:
    with pytest.raises(StorageUnavailable, match="cannot be deleted: what answers is no S3 server"):
        web.will_say(NO_ROUTE).delete("s3://lake/a")
    web.will_say(_fault("404 Not Found", "NoSuchKey")).delete("s3://lake/a")


def test_a_listing_and_an_object_name_one_version_where_there_are_no_etags(web: _Answers) -> None:
    """The listing tells milliseconds, the others whole seconds."""
    object_ = (
        b"HTTP/1.1 200 OK\r\nLast-Modified: Thu, 01 Jan 2026 00:00:01 GMT\r\nContent-Length: 5\r\n"
        b"Connection: close\r\n\r\nwhole"
    )
    storage = web.will_say(_page("out/a"), object_)
    [info] = storage.list("s3://lake/out/")
    assert storage.read(info.uri, version=info.version) == b"whole"


@pytest.mark.parametrize("exists", [False, True])
def test_a_claim_whose_every_answer_got_lost_was_made(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    uri = object_store.url(f"lost answers/{exists}")
    unheard: list[str] = []

    def decide(method: str, path: str) -> Fate:
        if method != "PUT" or len(unheard) == 2:
            return Fate.PASSED
        unheard.append(path)
        return Fate.UNANSWERED

    with proxied(object_store, decide) as environment:
        for name, value in object_store.environment().items():
            monkeypatch.setenv(name, value)
        version = None
        if exists:
            open_storage(uri, StorageOptions()).publish(uri, b"before")
            version = open_storage(uri, StorageOptions()).info(uri).version
        options = StorageOptions(
            endpoint_url=environment["AWS_ENDPOINT_URL"], attempts=2, read_seconds=0.5, outage_seconds=20
        )
        storage = open_storage(uri, options)
        claimed = storage.claim(uri, b"ours", version)
        assert len(unheard) == 2
        assert claimed is not None and claimed == storage.info(uri)
        assert storage.claim(uri, b"them", version) is None


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
