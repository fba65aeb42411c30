"""One model as the engines need to know it."""

from __future__ import annotations

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
    family: Literal["gemma3", "gemma3n", "shieldgemma2"]
    revision: str = Field("main", description="Commit of the weights; of a folder, a hash of its files.")
    parts: frozenset[PartKind] = Field(description="What it is shown.")
    context_tokens: int = Field(description="Prompt and answer together.")
    media_tokens: int = Field(description="Tokens of one image or one clip in the prompt.")
    image_size: int = Field(896, description="Side of the square it sees, in pixels.")
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
