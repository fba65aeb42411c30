"""S3, and whatever speaks its protocol (SeaweedFS, MinIO, R2, Ceph), through boto3."""

from __future__ import annotations

import io
import mimetypes
import os
import threading
from contextlib import closing, suppress
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from schemas.errors import AccessDenied, JobError, ObjectChanged, ObjectMissing, StorageUnavailable
from workers.storage import ObjectInfo
from workers.storage.s3_errors import BrokenBody, changed, code_of, errors_as_ours, no_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from workers.storage import StorageOptions

MULTIPART_BYTES = 64 * 1024 * 1024
"""Above this an upload goes in pieces. It is still one step: the object appears at completion."""

PAGE = 1000
"""Objects per request of a listing: S3 gives no more."""

PIECE_BYTES = 16 * 1024 * 1024

CONNECTIONS = 32
"""Kept open per process; more threads than that wait for one another."""

LONGEST_WAIT_SECONDS = 10.0
"""Between two looks at a store that is away: it is noticed soon after it is back."""

_NO_ETAG = "modified-"
"""Starts the version of an object whose store gives no etag."""


P = ParamSpec("P")
T = TypeVar("T")


def _patient(call: Callable[Concatenate[S3Storage, P], T]) -> Callable[Concatenate[S3Storage, P], T]:
    """Have a method wait for a store that is away, `storage.outage_seconds` long.

    botocore's own retries are over within a second: they are for a request that got lost.
    """

    @wraps(call)
    def patient(self: S3Storage, /, *args: P.args, **kwargs: P.kwargs) -> T:
        from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

        waiting = Retrying(
            retry=retry_if_exception_type(StorageUnavailable),
            stop=stop_after_delay(self.options.outage_seconds),
            wait=wait_random_exponential(multiplier=1, max=LONGEST_WAIT_SECONDS),
            reraise=True,
        )
        return waiting(call, self, *args, **kwargs)

    return patient


class S3Storage:
    """Objects by bucket and key. A version is the etag.

    Holds only its options, so it travels between processes; all instances of a process that have
    the same options share one client, which threads may use together.
    """

    def __init__(self, options: StorageOptions) -> None:
        """Connects to nothing yet."""
        self.options = options

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Stream the objects under a prefix, a page of 1,000 at a time.

        A prefix ends at a slash: `s3://lake/scans` lists `scans/1.pdf`, not `scans-old/1.pdf`. Where an
        object has that very name, it is what was named, unless it is empty and something is below: so some
        tools mark a folder.
        """
        bucket, key = _split(uri)
        alone = None
        if key and not key.endswith("/"):
            alone = self._if_object(uri)
            if alone is not None and alone.size:
                yield alone
                return
            key += "/"
        for info in self._below(uri, bucket, key):
            alone = None
            yield info
        if alone is not None:
            yield alone

    def _below(self, uri: str, bucket: str, key: str) -> Iterator[ObjectInfo]:
        request = {"Bucket": bucket, "Prefix": key, "MaxKeys": PAGE}
        while True:
            page = self._page(uri, request)
            if "IsTruncated" not in page:
                raise no_store(uri)
            for entry in page.get("Contents", ()):
                if entry["Size"] or not entry["Key"].endswith("/"):  # else what consoles show as a folder
                    yield _info(f"s3://{bucket}/{entry['Key']}", entry, entry["Size"])
            if not page["IsTruncated"]:
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    @_patient
    def _page(self, uri: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        with errors_as_ours(uri, "listed"):
            page: Mapping[str, Any] = _client(self.options).list_objects_v2(**request)
        return page

    @_patient
    def info(self, uri: str) -> ObjectInfo:
        """One object's facts, by a HEAD request."""
        bucket, key = _split(uri)
        with errors_as_ours(uri, "read"):
            answer = _client(self.options).head_object(Bucket=bucket, Key=_named(uri, key))
        return _info(uri, answer, answer["ContentLength"])

    @_patient
    def read(
        self, uri: str, *, version: str | None = None, start: int = 0, length: int | None = None
    ) -> bytes:
        """Bytes of one object, whole or a range; a range past its end is empty, as in a file."""
        bucket, key = _split(uri)
        request = {"Bucket": bucket, "Key": _named(uri, key)}
        if length == 0:
            return b""
        if start or length is not None:
            request["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        if version and not version.startswith(_NO_ETAG):
            request["IfMatch"] = f'"{version}"'
        with errors_as_ours(uri, "read"):
            found, content = self._fetch(request)
        if version is not None:
            # Not every store heeds If-Match or has etags, and none names the version when it refuses a range.
            if (self.info(uri).version if found is None else found) != version:
                raise changed(uri)
        return content

    @_patient
    def publish(self, uri: str, content: bytes) -> None:
        """One PUT, or above 64 MiB a multipart upload: either way the object appears whole."""
        bucket, key = _split(uri)
        media_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
        target = {"Bucket": bucket, "Key": _named(uri, key)}
        with errors_as_ours(uri, "written"):
            client = _client(self.options)
            if len(content) <= MULTIPART_BYTES:
                client.put_object(**target, Body=content, ContentType=media_type)
            else:
                from boto3.s3.transfer import TransferConfig

                pieces = TransferConfig(multipart_threshold=MULTIPART_BYTES, multipart_chunksize=PIECE_BYTES)
                client.upload_fileobj(
                    io.BytesIO(content), **target, ExtraArgs={"ContentType": media_type}, Config=pieces
                )

    @_patient
    def claim(self, uri: str, content: bytes, version: str | None) -> ObjectInfo | None:
        """Look, PUT under a condition, read back: it is ours if our very bytes are there.

        A store that heeds If-None-Match and If-Match (S3 itself, SeaweedFS) lets one claim through.
        The look and the reading back are for the others, which answer 501 or ignore conditions:
        there a claim loses to every claim that ended before it began, and of those at the same time
        the last to write is the one that stays, but one that read back before that was told it won.
        A version that does not fit may be that of our own bytes: put before, when no answer came.
        """
        bucket, key = _split(uri)
        media_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
        request = {"Bucket": bucket, "Key": _named(uri, key), "Body": content, "ContentType": media_type}
        there = self._if_there(uri)
        if version == (None if there is None else there.version):
            condition = {}
            if version is None:
                condition["IfNoneMatch"] = "*"
            elif not version.startswith(_NO_ETAG):
                condition["IfMatch"] = f'"{version}"'
            with errors_as_ours(uri, "written"):
                _put_if(_client(self.options), request, condition)
            there = self._if_there(uri)
        if there is None or there.size != len(content):
            return None
        with suppress(ObjectChanged, ObjectMissing):
            if self.read(uri, version=there.version) == content:
                return there
        return None

    def remove_unfinished(self, uri: str) -> int:
        """Multipart uploads that were neither completed nor aborted: stores charge for their pieces."""
        bucket, key = _split(uri)
        # As listing has it: what is below the prefix, and not what is beside it with a longer name.
        key += "/" if key and not key.endswith("/") else ""
        client, removed = _client(self.options), 0
        with errors_as_ours(uri, "deleted"):
            for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=key):
                for upload in page.get("Uploads", ()):
                    client.abort_multipart_upload(
                        Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    removed += 1
        return removed

    @_patient
    def delete(self, uri: str) -> None:
        """Remove the object; S3 itself calls it success when there is none."""
        bucket, key = _split(uri)
        with suppress(ObjectMissing), errors_as_ours(uri, "deleted"):
            _client(self.options).delete_object(Bucket=bucket, Key=_named(uri, key))

    def _if_object(self, uri: str) -> ObjectInfo | None:
        """The object of that very name, if there is one that may be read.

        Asked before listing, so that a public object in a bucket that may not be listed works.
        """
        with suppress(ObjectMissing, AccessDenied):
            return self.info(uri)
        return None

    def _if_there(self, uri: str) -> ObjectInfo | None:
        """The object, or None: unlike above, one that may not be read is an error."""
        with suppress(ObjectMissing):
            return self.info(uri)
        return None

    def _fetch(self, request: Mapping[str, Any]) -> tuple[str | None, bytes]:
        """Version and bytes. An answer that breaks off is asked for again.

        botocore retries until the headers are there; the body after them is left to its reader.
        """
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        retrying = Retrying(
            retry=retry_if_exception_type(BrokenBody),
            stop=stop_after_attempt(self.options.attempts),
            wait=wait_random_exponential(multiplier=0.5, max=20),
            reraise=True,
        )
        return retrying(_fetch_once, _client(self.options), request)


def _fetch_once(client: Any, request: Mapping[str, Any]) -> tuple[str | None, bytes]:
    from botocore.exceptions import ClientError, FlexibleChecksumError, HTTPClientError, IncompleteReadError
    from urllib3.exceptions import HTTPError

    try:
        answer = client.get_object(**request)
    except ClientError as error:
        if code_of(error) in ("InvalidRange", "416"):  # past the end, or an empty object
            return None, b""
        raise
    try:
        with closing(answer["Body"]) as body:  # itself entered, it hands out urllib3's stream and its errors
            content: bytes = body.read()
    # urllib3's own: botocore lets that of a TLS connection that breaks through.
    except (FlexibleChecksumError, HTTPClientError, IncompleteReadError, HTTPError) as error:
        raise BrokenBody(type(error).__name__) from error
    whole = str(answer.get("ContentRange", "")).rpartition("/")[2]  # of a range: "bytes 0-9/42"
    return _version(answer, int(whole) if whole.isdigit() else len(content)), content


def _put_if(client: Any, request: Mapping[str, Any], condition: Mapping[str, str]) -> None:
    """PUT, unless the condition does not hold. Which of the two it was, the object itself says.

    The answer does not: botocore repeats a PUT whose answer got lost, and the repeated one meets
    the first one's object.
    """
    from botocore.exceptions import ClientError

    try:
        client.put_object(**request, **condition)
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 501 or code_of(error) == "NotImplemented":
            client.put_object(**request)
        elif status not in (409, 412) and code_of(error) != "NoSuchKey":
            raise


_clients: dict[tuple[int, StorageOptions], Any] = {}
_making = threading.Lock()


def _client(options: StorageOptions) -> Any:
    """This process's client: one takes 0.3 s to make, and connections outlive no fork."""
    key = (os.getpid(), options)
    with _making:
        if key not in _clients:
            _clients[key] = _make_client(options)
        return _clients[key]


def _make_client(options: StorageOptions) -> Any:
    import boto3
    import botocore.session
    from botocore import UNSIGNED
    from botocore.config import Config

    settings: dict[str, Any] = {}
    if options.anonymous:
        settings["signature_version"] = UNSIGNED
    if options.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # Since 1.36 boto3 adds checksums of its own to every upload, which other stores may refuse.
        settings["request_checksum_calculation"] = "when_required"
        settings["response_checksum_validation"] = "when_required"
    config = Config(
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        **settings,
    )
    core = botocore.session.get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    try:
        return boto3.session.Session(botocore_session=core).client(
            "s3", endpoint_url=options.endpoint_url, region_name=options.region, config=config
        )
    except ValueError:  # botocore's word for an endpoint that is no URL; there may be a password in it
        raise JobError(
            "storage.endpoint_url is no address: write http://host:port", key="storage.endpoint_url"
        ) from None


def _moment(told: Any) -> datetime:
    """A time as S3 tells it. botocore has dateutil guess at each, which is half of what a listing takes."""
    from botocore.utils import parse_timestamp

    if isinstance(told, str) and told.endswith("Z"):
        with suppress(ValueError):
            return datetime.fromisoformat(told)
    moment: datetime = parse_timestamp(told)
    return moment


def _split(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _named(uri: str, key: str) -> str:
    if not key:
        raise ObjectMissing(f"{uri} names a bucket, not an object in it")
    return key


def _info(uri: str, facts: Mapping[str, Any], size: int) -> ObjectInfo:
    return ObjectInfo(uri=uri, version=_version(facts, size), size=size, modified=facts.get("LastModified"))


def _version(facts: Mapping[str, Any], size: int) -> str:
    etag = str(facts.get("ETag", "")).removeprefix("W/").strip('"')
    # A listing tells milliseconds, of which the header of an object, in whole seconds, says nothing.
    return etag or f"{_NO_ETAG}{int(facts['LastModified'].timestamp())}-{size}"
