"""The models: rows of a table (`cards.py`), or folders. Nothing here loads anything."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import JobError
from schemas.models.base import Model
from schemas.models.cards import BY_ID, CARDS, MODELS, Card, Pool
from schemas.models.choice import AUTO, Precision, choose
from schemas.models.folder import SIDECAR, from_folder
from schemas.models.nearest import nearest

__all__ = ["AUTO", "CARDS", "MODELS", "SIDECAR", "Card", "Model", "Pool", "Precision", "choose", "find_model"]


def find_model(source: str) -> Model:
    """The model a job names: an id of the table, or a folder with a `config.json`.

    Raises:
        JobError: neither, or one that no pool hosts, or a folder of another architecture.
    """
    if source in MODELS:
        return MODELS[source]
    folder = Path(source).expanduser()
    if (folder / "config.json").is_file():
        return from_folder(folder.resolve())
    if source in BY_ID:
        card = BY_ID[source]
        raise JobError(
            f"no pool of this version hosts {card.name} ({source}): {card.why_not}; `gemstream models` "
            "lists those that run",
            key="models",
        )
    meant = " or ".join(nearest(source))
    hint = f", did you mean {meant}?" if meant else ""
    raise JobError(
        f"model {source!r} is neither a folder with a config.json nor an id that is known here{hint} "
        "(`gemstream models` lists them)",
        key="models",
    )
