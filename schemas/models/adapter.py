"""LoRA adapters: small weights on top of a model's own, which a task names."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import JobError
from schemas.models.folder import folder_revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.models.base import Model

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Adapter(BaseModel):
    """One adapter as the engines need to know it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="Hugging Face id, or a folder.")
    revision: str = Field("main", description="Commit of the weights; of a folder, a hash of its files.")

    @property
    def identity(self) -> str:
        """What an answer through it depends on: a folder counts by its content, not by where it lies."""
        return self.revision if Path(self.source).is_absolute() else f"{self.source}@{self.revision}"


def adapters_for(
    named: Iterable[str | None], declared: Mapping[str, str], model: Model
) -> dict[str, Adapter]:
    """The adapters that tasks name, by that name.

    Args:
        named: what each task says; None for the model as it is.
        declared: the job's `models.adapters`, name -> folder or Hugging Face id.
        model: what they are to be put on.

    Raises:
        JobError: a name that is not declared, a model that takes no adapters, or nothing there to load.
    """
    names = sorted({name for name in named if name is not None})
    for name in names:
        if name not in declared:
            raise JobError(f"adapter {name!r} is not in models.adapters{_meant(name, declared)}", key="tasks")
        if not model.lora:
            raise JobError(
                f"adapter {name!r}: vLLM puts no LoRA adapter on {model.source}; take it off the task, or "
                "name a model that can (`gemstream models` says which)",
                key="models.adapters",
            )
    return {name: find_adapter(name, declared[name]) for name in names}


def find_adapter(name: str, source: str) -> Adapter:
    """The adapter behind a name: a folder as PEFT saves it, or an id of the hub.

    Raises:
        JobError: neither, or weights that are not safetensors: unpickling them could run anything.
    """
    key = f"models.adapters.{name}"
    folder = Path(source).expanduser()
    if not folder.is_dir():
        if HUB_ID.fullmatch(source):
            return Adapter(source=source)
        raise JobError(f"{key}: {source!r} is neither a folder nor a Hugging Face id", key=key)
    missing = [part for part in (CONFIG, WEIGHTS) if not (folder / part).is_file()]
    if missing:
        raise JobError(
            f"{key}: {folder} has no {' and no '.join(missing)}; save the adapter with PEFT's "
            "save_pretrained(folder, safe_serialization=True)",
            key=key,
        )
    return Adapter(source=str(folder.resolve()), revision=folder_revision(folder))


def _meant(name: str, declared: Mapping[str, str]) -> str:
    guess = get_close_matches(name, declared, 1)
    if guess:
        return f", did you mean {guess[0]!r}?"
    return f" (there: {', '.join(declared)})" if declared else ", which names none"
