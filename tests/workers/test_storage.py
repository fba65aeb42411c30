"""What every storage promises, held to on a file system and on a real S3 server alike."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pickle
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.objectstore import ObjectStore
from schemas.errors import ObjectChanged, ObjectMissing
from schemas.storage import StorageOptions
from tests.workers.places import Place, place
from workers.storage import ObjectInfo, s3
from workers.storage.factory import join, normalise, open_storage
from workers.storage.stream import open_object

__all__ = ["place"]

ODD_NAMES = [
    "a b.pdf",
    " leading and trailing ",
    "Größe/日本語.png",
    "issue #7.pdf",
    "what?.pdf",
    "100%.pdf",
    "a%20b.pdf",
    "a+b&c=d.pdf",
    "'quoted' \"twice\" <x>.pdf",
    "two\nlines.txt",
    "*[x]{y}.pdf",
    "-rf.pdf",
    "~home.pdf",
    "e\u0301 and \u00e9.pdf",
]


def test_what_is_published_is_read_listed_and_described_alike(place: Place) -> None:
    uri = place.put("folder/a.pdf", b"0123456789")
    info = place.storage.info(uri)
    assert place.storage.read(uri) == b"0123456789"
    assert (info.uri, info.size) == (uri, 10)
    assert info.modified is not None
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=5)
    [listed] = place.storage.list(place.root)
    assert (listed.uri, listed.version, listed.size) == (info.uri, info.version, info.size)


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (0, 3, b"012"),
        (2, 3, b"234"),
        (7, None, b"789"),
        (8, 100, b"89"),
        (10, None, b""),
        (99, 5, b""),
        (3, 0, b""),
    ],
)
def test_ranges_are_those_of_a_file(place: Place, start: int, length: int | None, expected: bytes) -> None:
    uri = place.put("a", b"0123456789")
    version = place.storage.info(uri).version
    assert place.storage.read(uri, start=start, length=length) == expected
    assert place.storage.read(uri, version=version, start=start, length=length) == expected


def test_an_empty_object_reads_as_empty_whole_or_ranged(place: Place) -> None:
    uri = place.put("empty", b"")
    assert place.storage.info(uri).size == 0
    assert place.storage.read(uri) == b""
    assert place.storage.read(uri, start=0, length=1024) == b""


def test_another_version_than_the_listed_one_is_not_read(place: Place) -> None:
    uri = place.put("a", b"first")
    [listed] = place.storage.list(uri)
    assert place.storage.read(uri, version=listed.version) == b"first"
    place.put("a", b"other")
    for length in (None, 2, 99):
        with pytest.raises(ObjectChanged, match="changed since it was listed"):
            place.storage.read(uri, version=listed.version, length=length)
    assert place.storage.read(uri, version=place.storage.info(uri).version) == b"other"


def test_what_is_not_there_is_missing(place: Place) -> None:
    place.put("there")
    uri = join(place.root, "not there.pdf")
    with pytest.raises(ObjectMissing, match="not there.pdf"):
        place.storage.info(uri)
    with pytest.raises(ObjectMissing, match="not there.pdf"):
        place.storage.read(uri, version="1-2", length=4)
    with pytest.raises(ObjectMissing):
        place.storage.read(place.root)  # a prefix or folder, no object


def test_deleting_twice_is_success(place: Place) -> None:
    uri = place.put("a")
    place.storage.delete(uri)
    place.storage.delete(uri)
    with pytest.raises(ObjectMissing):
        place.storage.info(uri)


def test_a_listing_has_an_order_and_stays_below_its_prefix(place: Place) -> None:
    names = ["scans/a-b", "scans/a.pdf", "scans/a/2", "scans/a/10", "scans/b", "scans-old/z", "scans.txt"]
    for name in names:
        place.put(name)
    below = [name for name in names if name.startswith("scans/")]
    # In key order on files and on S3 itself; SeaweedFS goes through "scans/" before "scans-old/".
    assert sorted(place.names()) == sorted(names)
    assert sorted(place.names("scans")) == sorted(place.names("scans/")) == sorted(below)
    assert place.names() == place.names()
    assert [info.uri for info in place.storage.list(join(place.root, "scans", "a.pdf"))] == [
        join(place.root, "scans/a.pdf")
    ]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_round_trip(place: Place, name: str) -> None:
    uri = f"{place.root}/{name}"
    assert normalise(uri) == uri
    place.storage.publish(uri, name.encode())
    [listed] = place.storage.list(place.root)
    assert listed.uri == uri
    assert place.storage.read(listed.uri, version=listed.version) == name.encode()
    assert place.storage.info(uri).version == listed.version


def test_readers_see_one_whole_version_while_it_is_replaced(place: Place) -> None:
    versions = [bytes([letter]) * 400_000 for letter in b"abcdef"]
    uri = place.put("a", versions[0])
    done = threading.Event()

    def write() -> None:
        for content in versions * 4:
            place.storage.publish(uri, content)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set() or reads == 0:
        assert place.storage.read(uri) in versions
        reads += 1
    writer.join()
    assert place.names() == ["a"]


def test_storages_travel_between_processes_even_when_used(place: Place) -> None:
    uri = place.put("a", b"hello")
    storage = place.storage
    storage.read(uri)
    sent = pickle.dumps(storage)
    assert len(sent) < 1000  # options only: no client, no connection
    assert pickle.loads(sent).read(uri) == b"hello"


def test_a_listing_can_be_left_half_way(place: Place) -> None:
    for name in "abc":
        place.put(name)
    listing = iter(place.storage.list(place.root))
    assert next(listing).uri == join(place.root, "a")
    del listing
    assert place.names() == ["a", "b", "c"]


def claims_at_once(place: Place, uri: str, version: str | None) -> list[tuple[bytes, ObjectInfo]]:
    """What eight threads that start together claim: those that are told they won."""
    together = threading.Barrier(8)

    def claim(number: int) -> tuple[bytes, ObjectInfo | None]:
        content = f"claimant {number}".encode()
        together.wait()
        return content, place.storage.claim(uri, content, version)

    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(claim, range(8)))
    return [(content, info) for content, info in claims if info is not None]


def test_what_is_there_is_not_created_again(place: Place) -> None:
    uri = join(place.root, "below/a")
    first = place.storage.claim(uri, b"first", None)
    assert first is not None
    assert place.storage.claim(uri, b"other", None) is None
    assert place.storage.read(uri, version=first.version) == b"first"
    info = place.storage.info(uri)
    assert (first.uri, first.version, first.size) == (info.uri, info.version, info.size)
    assert place.names() == ["below/a"]


def test_a_claim_follows_on_the_one_before(place: Place) -> None:
    uri = join(place.root, "a")
    version = None
    for content in (b"1", b"2", b"3"):
        info = place.storage.claim(uri, content, version)
        assert info is not None and info.version != version
        version = info.version
        assert place.storage.read(uri, version=version) == content


def test_what_a_claim_has_already_written_counts_as_written(place: Place) -> None:
    """Whoever was told nothing, and asks again, has not lost to itself."""
    uri = join(place.root, "a")
    first = place.storage.claim(uri, b"first", None)
    assert first is not None and place.storage.claim(uri, b"first", None) == first
    second = place.storage.claim(uri, b"other", first.version)
    assert second is not None and place.storage.claim(uri, b"other", first.version) == second
    assert place.storage.claim(uri, b"third", first.version) is None
    assert place.storage.info(uri) == second


def test_a_stale_version_loses(place: Place) -> None:
    uri = place.put("a", b"first")
    version = place.storage.info(uri).version
    assert place.storage.claim(uri, b"second", version) is not None
    assert place.storage.claim(uri, b"others", version) is None
    assert place.storage.read(uri) == b"second"


def test_a_version_of_what_is_gone_loses(place: Place) -> None:
    uri = place.put("a", b"first")
    version = place.storage.info(uri).version
    place.storage.delete(uri)
    assert place.storage.claim(uri, b"second", version) is None
    assert place.names() == []
    assert place.storage.claim(uri, b"second", None) is not None


def test_one_of_many_creates(place: Place) -> None:
    for number in range(5):
        uri = join(place.root, f"created {number}")
        [(content, info)] = claims_at_once(place, uri, None)
        assert place.storage.read(uri, version=info.version) == content


def test_one_of_many_replaces(place: Place) -> None:
    for number in range(5):
        uri = place.put(f"replaced {number}", b"claimant x")
        [(content, info)] = claims_at_once(place, uri, place.storage.info(uri).version)
        assert place.storage.read(uri, version=info.version) == content
    assert len(place.names()) == 5


def test_files_of_one_size_and_one_tick_of_the_clock_are_different_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.utime(descriptor, ns=(1, 1)))
    place = Place(normalise(str(tmp_path)), StorageOptions())
    uri = join(place.root, "a")
    version = None
    seen = set()
    for content in (b"1", b"2", b"3"):
        info = place.storage.claim(uri, content, version)
        assert info is not None
        seen.add(version := info.version)
    assert len(seen) == 3


def test_a_claim_where_folders_cannot_be_locked_locks_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NFS does: it locks only what is open for writing."""
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    place = Place(normalise(str(tmp_path)), StorageOptions())
    uri = place.put("a")
    assert len(claims_at_once(place, uri, place.storage.info(uri).version)) == 1
    assert len(claims_at_once(place, join(place.root, "b"), None)) == 1
    assert place.names() == ["a", "b"]


def _deaf(client: Any, /, **request: Any) -> Any:
    """A store that has never heard of conditions."""
    return client.put_object(**{name: request[name] for name in request if not name.startswith("If")})


def _refusing(client: Any, /, **request: Any) -> Any:
    """A store that knows it has not."""
    from botocore.exceptions import ClientError

    if "IfMatch" in request or "IfNoneMatch" in request:
        answer = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
        raise ClientError(answer, "PutObject")
    return client.put_object(**request)


def _unheard(client: Any, /, **request: Any) -> Any:
    """A store whose first answer gets lost, so that the client sends the request again."""
    client.put_object(**request)
    return client.put_object(**request)


class _Odd:
    """The client, but for how it puts."""

    def __init__(self, client: Any, put: Any) -> None:
        self._client = client
        self.put_object = partial(put, client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.mark.parametrize("put", [_deaf, _refusing, _unheard])
def test_claims_one_after_another_hold_in_odd_stores(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, put: Any
) -> None:
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    client = _Odd(object_store.client(), put)
    monkeypatch.setattr(s3, "_client", lambda options: client)
    uri = object_store.url(f"odd/{put.__name__}")
    storage = open_storage(uri, StorageOptions())
    created = storage.claim(uri, b"created", None)
    assert created is not None
    assert storage.claim(uri, b"created by another", None) is None
    replaced = storage.claim(uri, b"replaced", created.version)
    assert replaced is not None
    assert storage.claim(uri, b"replaced by another", created.version) is None
    assert storage.read(uri, version=replaced.version) == b"replaced"


def test_an_object_as_a_file_reads_like_one(place: Place) -> None:
    content = os.urandom(100_000)
    uri, storage = place.put("stream/a", content), place.storage
    for read_ahead in (0, 1_000, 1_000_000):
        with open_object(storage, storage.info(uri), read_ahead) as file:
            assert file.read(10) == content[:10]
            assert file.seek(-10, io.SEEK_END) == 99_990
            assert file.read() == content[-10:]
            assert file.read(1) == b""
            assert (file.seek(50), file.read(5), file.tell()) == (50, content[50:55], 55)
        with open_object(storage, storage.info(uri), read_ahead) as file:
            assert file.read() == content
    with open_object(storage, storage.info(uri)) as file:
        place.put("stream/a", b"other")
        with pytest.raises(ObjectChanged):
            file.read()
