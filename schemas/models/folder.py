"""A model that lies in a folder: a `config.json`, weights, and a sidecar where it differs from its family."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from schemas.errors import JobError
from schemas.models.base import (
    GEMMA4_CLIP,
    Model,
    gemma3,
    gemma3n,
    gemma4,
    gemma4_budget,
    shieldgemma2,
)

if TYPE_CHECKING:
    from pathlib import Path

SIDECAR = "gemstream.json"
"""In a checkpoint's folder: fields of `Model` in which it differs from its family."""

HASHED_BYTES = 64 * 1024 * 1024
SAMPLES, SAMPLE_BYTES = 256, 64 * 1024
"""Of what comes after: the first tensors of a model that is one file are embeddings, which an adapter that is
merged into it leaves as they are."""


def from_folder(folder: Path) -> Model:
    """The model in a folder.

    Raises:
        JobError: its architecture is none of ours.
    """
    config = json.loads((folder / "config.json").read_text())
    builders = {"gemma3": gemma3, "gemma3n": gemma3n, "gemma4": gemma4, "shieldgemma2": shieldgemma2}
    family = config.get("model_type")
    if family not in builders:
        raise JobError(f"{folder} holds a {family!r} model, not one of {', '.join(builders)}", key="models")
    sidecar = folder / SIDECAR
    facts: dict[str, Any] = json.loads(sidecar.read_text()) if sidecar.is_file() else {}
    text, vision = config.get("text_config", {}), config.get("vision_config") or {}
    if "max_position_embeddings" in text:
        facts.setdefault("context_tokens", text["max_position_embeddings"])
    if family == "gemma3n":
        facts.setdefault("media_tokens", config["audio_soft_tokens_per_image"])
    elif family == "gemma4":
        heard = {"clip_tokens": GEMMA4_CLIP} if config.get("audio_config") else {}
        facts = gemma4_budget(vision.get("default_output_length", 280)) | heard | facts
    else:
        facts.setdefault("media_tokens", config["mm_tokens_per_image"])
        facts.setdefault("image_size", vision["image_size"])
    return builders[family](str(folder), revision=folder_revision(folder), **facts)


def folder_revision(folder: Path) -> str:
    """Hash of the folder's files: names, sizes, the first 64 MiB of each and samples of the rest, 34 MB apart
    where it is 8.6 GB (hashing 54 GB would cost minutes at every start)."""
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        if path.suffix in {".json", ".safetensors", ".jinja", ".model"}:
            size = path.stat().st_size
            state.update(f"{path.name}:{size}\n".encode())
            with path.open("rb") as file:
                state.update(file.read(HASHED_BYTES))
                rest = max(0, size - HASHED_BYTES)
                for at in range(0, rest, max(SAMPLE_BYTES, rest // SAMPLES)):
                    file.seek(HASHED_BYTES + at)
                    state.update(file.read(SAMPLE_BYTES))
    return state.hexdigest()
