"""How a job reaches object stores."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class StorageOptions(BaseModel):
    """Settings of the clients. Credentials come from the usual AWS chain, never from here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str | None = Field(None, description="S3 endpoint; AWS_ENDPOINT_URL is honoured too.")
    region: str | None = Field(None, description="S3 region, if the credentials' own will not do.")
    anonymous: bool = Field(False, description="Read public buckets without credentials.")
    attempts: int = Field(6, ge=1, le=20, description="Tries per call, with backoff and jitter.")
    outage_seconds: float = Field(
        45, ge=0, description="Seconds to wait for a store that does not answer; a lease lasts 60."
    )
    connect_seconds: float = Field(10, gt=0, description="Seconds to wait for a connection.")
    read_seconds: float = Field(60, gt=0, description="Seconds to wait for the next bytes.")
    allow_local: bool = Field(
        True, description="Let a manifest name local files. Set it to false for manifests you did not write."
    )
