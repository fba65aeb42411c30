"""The models, as rows of a table. Adding one is one row; nothing here loads anything.

Figures: https://ai.google.dev/gemma/docs (context, tokens per image) and the transformers classes
(188 audio tokens a clip whatever its length, 30 s heard at most).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import JobError
from schemas.rows import PartKind

VISUAL = frozenset({PartKind.PAGE, PartKind.IMAGE})
AUDITORY = frozenset({PartKind.AUDIO})

SIDECAR = "gemstream.json"
"""In a checkpoint's folder: fields of `Model` in which it differs from its family."""

HASHED_BYTES = 64 * 1024 * 1024


class Model(BaseModel):
    """One model as the engines need to know it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="Hugging Face id, or a folder.")
    family: Literal["gemma3", "gemma3n"]
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

    @property
    def is_folder(self) -> bool:
        """Weights on disk, rather than an id of the hub."""
        return Path(self.source).is_absolute()

    @property
    def identity(self) -> str:
        """What its answers depend on: a folder counts by its content, not by where it lies."""
        return f"{self.family if self.is_folder else self.source}@{self.revision}"


def _gemma3(source: str, **facts: Any) -> Model:
    return Model(
        source=source,
        family="gemma3",
        parts=VISUAL,
        **{"context_tokens": 131_072, "media_tokens": 256, **facts},
    )


def _gemma3n(source: str, **facts: Any) -> Model:
    return Model(
        source=source,
        family="gemma3n",
        parts=AUDITORY,
        media_first=False,
        **{"context_tokens": 32_768, "media_tokens": 188, **facts},
    )


MODELS: dict[str, Model] = {
    model.source: model
    for model in (
        _gemma3("google/gemma-3-4b-it"),
        _gemma3("google/gemma-3-12b-it"),
        _gemma3("google/gemma-3-27b-it"),
        _gemma3("RedHatAI/gemma-3-4b-it-FP8-dynamic"),
        _gemma3("RedHatAI/gemma-3-12b-it-FP8-dynamic"),
        _gemma3("RedHatAI/gemma-3-27b-it-FP8-dynamic"),
        _gemma3n("google/gemma-3n-E2B-it"),
        _gemma3n("google/gemma-3n-E4B-it"),
        _gemma3n("RedHatAI/gemma-3n-E4B-it-FP8-dynamic"),
    )
}


def find_model(source: str) -> Model:
    """The model a job names: a row of `MODELS`, or a folder with a `config.json`.

    Raises:
        JobError: neither, or a folder of another architecture.
    """
    if source in MODELS:
        return MODELS[source]
    folder = Path(source).expanduser()
    if (folder / "config.json").is_file():
        return _from_folder(folder.resolve())
    known = ", ".join(MODELS)
    raise JobError(
        f"model {source!r} is neither a folder with a config.json nor one of: {known}", key="models"
    )


def _from_folder(folder: Path) -> Model:
    config = json.loads((folder / "config.json").read_text())
    builders = {"gemma3": _gemma3, "gemma3n": _gemma3n}
    family = config.get("model_type")
    if family not in builders:
        raise JobError(f"{folder} holds a {family!r} model, not one of {', '.join(builders)}", key="models")
    sidecar = folder / SIDECAR
    facts: dict[str, Any] = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
    text, vision = config.get("text_config", {}), config.get("vision_config", {})
    if "max_position_embeddings" in text:
        facts.setdefault("context_tokens", text["max_position_embeddings"])
    if family == "gemma3":
        facts.setdefault("media_tokens", config["mm_tokens_per_image"])
        facts.setdefault("image_size", vision["image_size"])
    else:
        facts.setdefault("media_tokens", config["audio_soft_tokens_per_image"])
    return builders[family](str(folder), revision=_folder_revision(folder), **facts)


def _folder_revision(folder: Path) -> str:
    """Hash of the folder's files: names, sizes, and up to 64 MiB of each (a shard's header and first
    tensors change with any retraining; hashing 54 GB would cost minutes at every start)."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.suffix in {".json", ".safetensors", ".jinja", ".model"}:
            state.update(f"{path.name}:{path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                state.update(file.read(HASHED_BYTES))
    return state.hexdigest()
