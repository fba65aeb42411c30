"""Where botocore's errors become ours: the one place that knows their names.

What the store says in words stays out of messages, for servers echo requests, keys among them;
its error code is enough to name the cause and what to do.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from schemas.errors import AccessDenied, GemstreamError, ObjectChanged, ObjectMissing, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.exceptions import BotoCoreError, ClientError

_DENIED = {
    "InvalidAccessKeyId": "the store does not know the access key; check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key does not fit the access key; check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the session has expired; log in again",
    "InvalidToken": "the session token is not valid here; log in again",
    "RequestTimeTooSkewed": "this machine's clock is wrong by more than the store allows; set it",
    "InvalidObjectState": "it lies in an archive tier; restore it first",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set storage.region",
    "PermanentRedirect": "the bucket is in another region; set storage.region",
    "IllegalLocationConstraintException": "the bucket is in another region; set storage.region",
}
"""Error code -> cause and next step."""

_THROTTLED = {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout"}
_TRANSIENT_STATUS = {408, 425, 429}

_BODILESS = {"HeadObject", "HeadBucket"}

_ACTIONS = {
    "read": "s3:GetObject",
    "listed": "s3:ListBucket",
    "written": "s3:PutObject",
    "deleted": "s3:DeleteObject",
}


_ENDPOINT = "check storage.endpoint_url"


class BrokenBody(Exception):
    """The answer began well and broke off; botocore's own retries end before the body begins."""


@contextmanager
def errors_as_ours(uri: str, what: str) -> Iterator[None]:
    """Turn what botocore raises inside into the errors that `Storage` promises.

    Args:
        uri: the object or prefix that the call is about.
        what: how the message goes on after "cannot be": one of the keys of `_ACTIONS`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _from_answer(uri, what, error) from error
    except BotoCoreError as error:
        raise _from_client(uri, what, error) from error
    except BrokenBody as error:
        raise StorageUnavailable(f"{uri} cannot be {what}: the answer broke off, at every attempt") from error


def changed(uri: str) -> ObjectChanged:
    """What a read of another version than the listed one raises."""
    return ObjectChanged(f"{uri} changed since it was listed; run again to read what is there now")


def no_store(uri: str, what: str = "listed") -> StorageUnavailable:
    """What a web page in the place of an answer raises: read as one, it would be an empty listing, or an
    object that is not there."""
    return StorageUnavailable(f"{uri} cannot be {what}: what answers is no S3 server; {_ENDPOINT}")


def code_of(error: ClientError) -> str:
    """The store's error code; for a HEAD, whose answer has no body, the status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _from_answer(uri: str, what: str, error: ClientError) -> GemstreamError:
    """An error that the store answered with."""
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        bucket = uri.removeprefix("s3://").partition("/")[0]
        return ObjectMissing(f"there is no bucket {bucket!r}; check its name; {_ENDPOINT}")
    if code in _DENIED:
        return AccessDenied(f"{uri} cannot be {what}: {_DENIED[code]}")
    if status >= 500 or status in _TRANSIENT_STATUS or code in _THROTTLED:
        return StorageUnavailable(
            f"{uri} cannot be {what}: the store kept answering {code or status}; {_ENDPOINT} if this goes on"
        )
    if status == 404:
        # A proxy that reads its routes anew knows no page for a moment, nor does it name what is missing. Of
        # what has no body there is no telling.
        if what == "listed" or (code in {"", "404"} and error.operation_name not in _BODILESS):
            return no_store(uri, what)
        return ObjectMissing(f"{uri} cannot be {what}: nothing is there")
    if status == 412:
        return changed(uri)
    if status in (401, 403):
        return AccessDenied(
            f"{uri} cannot be {what}: these credentials may not; grant {_ACTIONS[what]}, or set others"
        )
    return AccessDenied(f"{uri} cannot be {what}: the store refuses the request ({code or status})")


def _from_client(uri: str, what: str, error: BotoCoreError) -> GemstreamError:
    """An error of botocore's own: nothing was sent, or nothing came back."""
    from botocore import exceptions as boto

    no_credentials = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
        boto.SSOError,
        boto.ProfileNotFound,
        boto.NoAuthTokenError,
    )
    name = type(error).__name__
    if isinstance(error, no_credentials):
        return AccessDenied(
            f"{uri} cannot be {what}: no usable credentials ({name}); set AWS_PROFILE, or "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or storage.anonymous for a public bucket"
        )
    if isinstance(error, boto.ParamValidationError):
        return ObjectMissing(f"{uri} cannot be {what}: S3 allows no such bucket or key name")
    return StorageUnavailable(f"{uri} cannot be {what}: the store did not answer ({name}); {_ENDPOINT}")
