"""Limits, on by default. Reaching one is an error row that names the limit and this setting."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MIB = 1024 * 1024


class Limits(BaseModel):
    """What one document, answer and run may cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    object_bytes: int = Field(
        512 * MIB, gt=0, description="Bytes of one object; larger ones are not fetched."
    )
    pages: int = Field(5_000, gt=0, description="Pages of one PDF, frames of one image file.")
    # Pillow's own bomb limit is 179 million; a 14000 x 20000 photo decoded whole took 1.6 GB.
    pixels: int = Field(180_000_000, gt=0, description="Pixels of one image or one page's bitmap.")
    audio_seconds: float = Field(6 * 3600, gt=0, description="Seconds of one recording.")
    # Slowest of 5,188 surveyed PDFs that finished: 3.6 CPU-seconds for its first 40 pages.
    expand_seconds: float = Field(
        120, gt=0, description="Wall seconds one document may take in the parser, per chunk of its parts."
    )
    expand_bytes: int = Field(
        3_072 * MIB, gt=0, description="Address space of the parser's process, in bytes."
    )
    answer_tokens: int = Field(4_096, gt=0, description="Tokens of one answer, whatever its task asks for.")
    request_seconds: float = Field(
        600, gt=0, description="Wall seconds of one request, its queueing excluded."
    )
    # A step of 8,192 prompt tokens through a 4B model takes two cores some minutes, and a GPU under a second.
    heartbeat_seconds: float = Field(
        300,
        gt=0,
        description="Wall seconds an engine may take no step while requests wait, or its worker not stir.",
    )
    # A server waits an hour for a slow disk to give it 54 GB; more is a disk that does not answer.
    load_seconds: float = Field(
        3_600, gt=0, description="Wall seconds an engine may take to come up, its model's download included."
    )
    drain_seconds: float = Field(
        20,
        ge=0,
        allow_inf_nan=False,
        description="Wall seconds a run that is told to end waits for what is in flight.",
    )
    # A GPU node of the large clouds is there in two to eight minutes where there are any to be had.
    node_seconds: float = Field(
        1_800,
        gt=0,
        description="Wall seconds a run waits for a node with room for an engine, before it gives up; so too "
        "when the last one with a GPU has gone.",
    )
    failed_share: float = Field(
        0.1, ge=0, le=1, description="Share of documents that may fail; beyond it the run stops, exit code 3."
    )
