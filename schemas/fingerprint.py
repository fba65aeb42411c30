"""What an answer depends on, as one hash: ask anything differently and it is another answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.ids import canonical, digest

if TYPE_CHECKING:
    from schemas.models import Model
    from schemas.tasks.base import Task


def fingerprint(task: Task, model: Model, shown: dict[str, Any], seed: int) -> str:
    """Hash of task, its version, prompt, schema, model and revision, sampling and expand options.

    Args:
        task: what is asked.
        model: who is asked.
        shown: the expand options that change what the model sees or hears.
        seed: of sampling; it counts only where the ladder can leave temperature 0, which is always.
    """
    return digest(
        "fingerprint",
        task.kind,
        str(task.version),
        task.question(),
        canonical(task.json_schema() or {"choices": task.choices()}),
        model.identity,
        canonical({"max_tokens": task.max_tokens, "temperature": task.temperature, "seed": seed}),
        canonical(shown),
    )
