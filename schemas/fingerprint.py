"""What an answer depends on, as one hash: ask anything differently and it is another answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.ids import canonical, digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from schemas.models import Model
    from schemas.models.adapter import Adapter
    from schemas.tasks.base import Task


def ingredients(
    task: Task,
    questions: Iterable[str],
    model: Model,
    shown: dict[str, Any],
    seed: int,
    adapter: Adapter | None = None,
    privacy: str | None = None,
) -> dict[str, str]:
    """What an answer depends on, by the name a person has for it; part files keep it in their footers.

    Args:
        task: what is asked.
        questions: in which words, by how a part is shown.
        model: who is asked.
        shown: the expand options that change what the model sees or hears.
        seed: of sampling; it counts only where the ladder can leave temperature 0, which is always.
        privacy: what is taken out of it; an answer that is whole does not mention it.
        adapter: through which LoRA adapter, if any; an answer without one does not mention it.
    """
    sampling = {"max_tokens": task.max_tokens, "temperature": task.temperature, "seed": seed}
    made_of = {
        "task": f"{task.kind}/{task.version}",
        "prompt": digest(*questions),
        "schema": digest(canonical(task.json_schema() or {"choices": task.choices()})),
        "model": model.identity,
        "options": digest(canonical(sampling), canonical(shown)),
    }
    reading = task.reading()
    if reading:
        made_of["reading"] = digest(canonical(reading))
    if adapter is not None:
        made_of["adapter"] = adapter.identity
    if privacy is not None:
        made_of["privacy"] = digest(privacy)
    return made_of


def fingerprint(made_of: Mapping[str, str]) -> str:
    """Hash of task and its version, prompt, schema, model and revision, sampling and expand options."""
    return digest("fingerprint", canonical(made_of))


def changes(before: Mapping[str, str] | None, now: Mapping[str, str]) -> str:
    """The names of what differs, as in "prompt, model"; "asked otherwise" where it is not known."""
    if before is None:
        return "asked otherwise"
    return ", ".join(name for name in {**now, **before} if before.get(name) != now.get(name))
