"""One model as the engines need to know it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.rows import PartKind

VISUAL = frozenset({PartKind.PAGE, PartKind.IMAGE})
AUDITORY = frozenset({PartKind.AUDIO})


class Model(BaseModel):
    """One model as the engines need to know it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="Hugging Face id, or a folder.")
    family: Literal["gemma3", "gemma3n", "gemma4", "shieldgemma2"]
    revision: str = Field("main", description="Commit of the weights; of a folder, a hash of its files.")
    parts: frozenset[PartKind] = Field(description="What it is shown.")
    context_tokens: int = Field(description="Prompt and answer together.")
    media_tokens: int = Field(description="Tokens of one image or one clip in the prompt.")
    image_size: int = Field(
        896,
        description="Side of the square it sees, in pixels; the longest of a page where it sees no square.",
    )
    clip_tokens: int | None = Field(
        None, description="Of one that sees: tokens of a clip, where it can hear in place of that."
    )
    clip_seconds: float = Field(30.0, description="It hears no more than this in one call.")
    media_first: bool = Field(
        True,
        description="The picture before the question, so that all questions about it share one prefix; "
        "Google's own audio prompts put the text first.",
    )
    lora: bool = Field(False, description="Whether vLLM can put LoRA adapters on it.")
    only: str | None = Field(
        None,
        description="The one kind of task that it answers: its chat template asks the question itself, of "
        "the task's subject.",
    )

    def hearing(self) -> Model:
        """One that can see or hear, as the audio pool hosts it."""
        told = {"parts": AUDITORY, "media_tokens": self.clip_tokens, "media_first": False}
        return self.model_copy(update=told)

    @property
    def is_folder(self) -> bool:
        """Weights on disk, rather than an id of the hub."""
        return Path(self.source).is_absolute()

    @property
    def identity(self) -> str:
        """What its answers depend on: a folder counts by its content, not by where it lies."""
        return f"{self.family if self.is_folder else self.source}@{self.revision}"


def gemma3(source: str, **facts: Any) -> Model:
    """A model that sees."""
    return Model(
        source=source,
        family="gemma3",
        parts=VISUAL,
        **{"context_tokens": 131_072, "media_tokens": 256, "lora": True, **facts},
    )


GEMMA4_BUDGETS = (70, 140, 280, 560, 1120)
"""Tokens of one image that Gemma 4 can be given, at most."""
GEMMA4_CELL = 48
"""Side of the square of pixels that is one token: 3 patches of 16."""
GEMMA4_CLIP = 750
"""Tokens of a clip of 30 s: 25 a second, and a shorter one has fewer."""


def gemma4(source: str, **facts: Any) -> Model:
    """A model that sees pictures in their own shape, in as many tokens as it is given; a small one hears."""
    known = {"context_tokens": 131_072, "lora": True, **gemma4_budget(280), **facts}
    return Model(source=source, family="gemma4", parts=VISUAL, **known)


def gemma4_budget(tokens: int) -> dict[str, int]:
    """What so many tokens an image mean: a page of A4 that fills them has this longest side. The model's own
    processor brings every picture to the size that does."""
    return {"media_tokens": tokens, "image_size": int(GEMMA4_CELL * math.sqrt(tokens * math.sqrt(2)))}


def shieldgemma2(source: str, **facts: Any) -> Model:
    """A model that says of a picture whether it breaks a policy, and nothing else."""
    return Model(
        source=source,
        family="shieldgemma2",
        parts=VISUAL,
        only="moderate",
        **{"context_tokens": 8_192, "media_tokens": 256, **facts},
    )


def gemma3n(source: str, **facts: Any) -> Model:
    """A model that hears."""
    return Model(
        source=source,
        family="gemma3n",
        parts=AUDITORY,
        media_first=False,
        **{"context_tokens": 32_768, "media_tokens": 188, **facts},
    )
