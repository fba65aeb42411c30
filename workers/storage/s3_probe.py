"""What a run takes for granted of an S3 store, asked outright: that it heeds conditions, and the time."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

from workers.storage import s3
from workers.storage.s3_errors import code_of, errors_as_ours

if TYPE_CHECKING:
    from workers.storage import StorageOptions

Condition = Literal["IfNoneMatch", "IfMatch"]
FALSE: dict[Condition, str] = {"IfNoneMatch": "*", "IfMatch": '"00000000000000000000000000000000"'}
"""Conditions that do not hold for an object that is there."""
WRITTEN = b"gemstream doctor, as a second writer; delete this if it still is here\n"
HALF_SECOND = 0.5
"""What a Date is cut off by, on average."""


def heeds(uri: str, condition: Condition, options: StorageOptions) -> bool:
    """Whether the store refuses a PUT whose condition does not hold. `S3Storage.claim` does not show it: it
    looks first, and makes do with stores that ignore conditions.

    Args:
        uri: of an object that is there, and may be overwritten.
        condition: a key of `FALSE`.
        options: how to reach it.

    Raises:
        GemstreamError: what `Storage.publish` raises.
    """
    from botocore.exceptions import ClientError

    bucket, key = s3._split(uri)
    with errors_as_ours(uri, "written"):
        try:
            client = s3._client(options)
            client.put_object(Bucket=bucket, Key=key, Body=WRITTEN, **{condition: FALSE[condition]})
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in (409, 412):
                return True
            if status == 501 or code_of(error) == "NotImplemented":
                return False
            raise
    return False


def clock_ahead(uri: str, options: StorageOptions) -> float | None:
    """Seconds by which this machine's clock is ahead of the store's; None where the store does not say. An
    answer that refuses says it as well.

    Raises:
        StorageUnavailable: there is no answer.
        GemstreamError: no request can be made.
    """
    from botocore.exceptions import ClientError

    bucket, _ = s3._split(uri)
    began = datetime.now(UTC)
    with errors_as_ours(uri, "listed"):
        try:
            answer = s3._client(options).head_bucket(Bucket=bucket)
        except ClientError as error:
            answer = error.response
    ended = datetime.now(UTC)
    told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        there = parsedate_to_datetime(told)
    except (TypeError, ValueError):
        return None
    if there.tzinfo is None:
        return None
    return (began + (ended - began) / 2 - there).total_seconds() - HALF_SECOND
