"""Documents that are there more than once."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DuplicateOptions(BaseModel):
    """What becomes of documents with the same content, and of those that are nearly the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attach: bool = Field(
        True,
        description="Answer documents with the same bytes once, and give each of them the answers. "
        "Not so where a prompt names what tells them apart, such as $file_name.",
    )
    images: int | None = Field(
        None,
        ge=0,
        le=10,
        description="Group pictures whose perceptual hashes (64 bits) differ by at most so many bits. "
        "Such as have nothing in common differ by some 32.",
    )
    text: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Group documents whose texts share at least this much of their words (MinHash).",
    )
