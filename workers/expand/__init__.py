"""1 document -> n parts. One file per family of media; the registry is `EXPANDERS`.

An expander runs in a child process with limits (`workers.guard`), never in the stage's own: its
parsers are native code fed with hostile bytes. It is opened once per document, then asked for
ranges of parts, so that a 3,000-page PDF or a three-hour recording never lies in memory whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from schemas.rows import Pages, Tiling, Upright

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.errors import GemstreamError
    from schemas.limits import Limits
    from schemas.rows import PartKind


class ExpandOptions(BaseModel):
    """How documents become parts. All of it but what is `UNSEEN` is part of the fingerprint, and what is
    null is not: it says nothing about that lane."""

    UNSEEN: ClassVar[set[str]] = {"passwords", "checked_share", "document", "hashed", "text_characters"}
    """What changes nothing that an answer is made of. How much text of a page fits moves pages from text to
    drawn, and each record says by `shown` which it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passwords: tuple[SecretStr, ...] = Field((), description="Tried in turn on encrypted documents.")
    image_size: int = Field(
        896, ge=32, le=4096, description="Longest side of what the model sees, in pixels."
    )
    pages: Pages = Field(Pages.IMAGE, description="How the pages of a PDF are shown.")
    text_characters: int = Field(0, ge=0, description="Of a page shown as text; a longer one is drawn.")
    checked_share: float = Field(
        0, ge=0, le=1, description="Of the pages that auto shows as text, those drawn too; 0: none is judged."
    )
    document: str = Field("", description="Id and version of the one at hand, by which its pages draw lots.")
    hashed: bool = Field(False, description="Whether pictures get their perceptual hash.")
    tiling: Tiling | None = Field(None, description="auto, or null where nothing is shown in tiles.")
    upright: Upright | None = Field(
        None, description="By what pages are turned; null, as text, for recordings."
    )
    jpeg_quality: int = Field(90, ge=30, le=100, description="Quality of the JPEG that carries it.")
    segment_seconds: float = Field(30.0, ge=1.0, le=30.0, description="Longest audio segment.")
    segmentation: int | None = Field(None, description="Version of how recordings become segments.")
    sample_rate: int = Field(16_000, description="Samples a second of what the model hears.")


@dataclass(frozen=True, slots=True)
class Opened:
    """A document that opened: how many parts it has, and what the expander needs to make them.

    `plan` travels between calls (and processes), so it is plain data: where segments begin and
    end, the password that fits. `warnings` say what was repaired or left out.
    """

    parts_total: int
    plan: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One thing a model call sees; or, with `error`, why this one part cannot be shown; or, with neither
    that nor `content`, a recording in which nobody speaks. `trusted` and `checked` are what PARTS calls
    `text_trusted` and `checked_content`."""

    index: int
    content: bytes = b""
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    tiles: int | None = None
    picture_hash: int | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    text: str | None = None
    trusted: bool | None = None
    checked: bytes | None = None
    error: GemstreamError | None = None


class Expander(Protocol):
    """One family of media. Stateless: both calls may run in different processes.

    Both raise an error of `schemas.errors` for the whole document: `CorruptDocument`,
    `EncryptedDocument`, `LimitExceeded`. Anything else they raise is wrapped by the guard.
    """

    media_types: ClassVar[tuple[str, ...]]
    part_kind: ClassVar[PartKind]
    libraries: ClassVar[tuple[str, ...]]
    """Modules the child imports before it takes its first document, outside its limits."""
    chunk: ClassVar[int]
    """Parts made per call: small enough that a chunk of them is a few tens of megabytes."""

    def open(self, path: Path, scratch: Path, options: ExpandOptions, limits: Limits) -> Opened:
        """Look at the document; may leave files in `scratch`, which lives as long as the document."""
        ...

    def parts(
        self,
        path: Path,
        scratch: Path,
        opened: Opened,
        start: int,
        stop: int,
        options: ExpandOptions,
        limits: Limits,
    ) -> list[Part]:
        """Make parts `start` to `stop` (exclusive), in order, each with its index."""
        ...
