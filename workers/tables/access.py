"""How the formats' own libraries reach the stores that ours does: by the same settings and credentials.

What comes of it holds keys: it is handed to the library and goes nowhere else.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workers.storage.factory import scheme

if TYPE_CHECKING:
    from schemas.storage import StorageOptions


def object_store_options(storage: StorageOptions, uri: str) -> dict[str, str]:
    """For libraries on Rust's `object_store`, which delta-rs and Lance are: nothing for a local table."""
    if scheme(uri) != "s3":
        return {}
    found = _found(storage)
    told = {
        "aws_endpoint": found["endpoint"],
        # Without it the environment's AWS_ENDPOINT_URL_S3 would go before what the job says.
        "aws_endpoint_url_s3": found["endpoint"],
        "aws_region": found["region"],
        "aws_access_key_id": found["key"],
        "aws_secret_access_key": found["secret"],
        "aws_session_token": found["token"],
        "aws_skip_signature": "true" if storage.anonymous else None,
        "aws_allow_http": "true" if (found["endpoint"] or "").startswith("http://") else None,
        # A commit is an object that may not be there yet: two writers cannot both put it.
        "aws_conditional_put": "etag",
        "connect_timeout": f"{storage.connect_seconds:g}s",
        "timeout": f"{storage.read_seconds:g}s",
        "max_retries": str(storage.attempts),
    }
    return {name: value for name, value in told.items() if value}


def pyiceberg_options(storage: StorageOptions) -> dict[str, str]:
    """For pyiceberg's way to S3, as properties of a catalog."""
    found = _found(storage)
    told = {
        "s3.endpoint": found["endpoint"],
        "s3.region": found["region"],
        "s3.access-key-id": found["key"],
        "s3.secret-access-key": found["secret"],
        "s3.session-token": found["token"],
        "s3.anonymous": "true" if storage.anonymous else None,
        "s3.connect-timeout": f"{storage.connect_seconds:g}",
        "s3.request-timeout": f"{storage.read_seconds:g}",
    }
    return {name: value for name, value in told.items() if value}


def _found(storage: StorageOptions) -> dict[str, str | None]:
    """What the usual AWS chain comes to in this process."""
    region, keys = _chain(tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))
    if storage.anonymous:
        keys = None
    frozen = keys.get_frozen_credentials() if keys is not None else None
    endpoint = (
        storage.endpoint_url
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or None
    )
    return {
        "endpoint": endpoint,
        # Stores other than AWS's have none, and clients ask for one all the same.
        "region": storage.region or region or ("us-east-1" if endpoint else None),
        "key": frozen.access_key if frozen else None,
        "secret": frozen.secret_key if frozen else None,
        "token": frozen.token if frozen else None,
    }


@lru_cache(maxsize=8)
def _chain(variables: tuple[tuple[str, str], ...]) -> tuple[str | None, Any]:
    """The region, and credentials that renew themselves. Once for each environment: a session takes 7 ms to
    make, tables are opened again and again, and a machine's role is asked for over the network.

    Args:
        variables: what the chain begins with; read by boto3 itself.
    """
    import boto3

    session = boto3.session.Session()
    return session.region_name, session.get_credentials()
