"""The tasks. To add one: a file here, a line in `TASKS`."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from schemas.errors import JobError
from schemas.tasks.base import Task

TASKS = {
    "ask": "schemas.tasks.ask:Ask",
    "call": "schemas.tasks.call:Call",
    "caption": "schemas.tasks.caption:Caption",
    "classify": "schemas.tasks.classify:Classify",
    "extract": "schemas.tasks.extract:Extract",
    "moderate": "schemas.tasks.moderate:Moderate",
    "ocr": "schemas.tasks.ocr:Ocr",
    "summarize": "schemas.tasks.summarize:Summarize",
    "transcribe": "schemas.tasks.transcribe:Transcribe",
    "translate": "schemas.tasks.translate:Translate",
}

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""A task's name becomes a folder and a column."""


def task_class(kind: str) -> type[Task]:
    """The class behind a task's name.

    Raises:
        JobError: no such task; the message lists the known and guesses what was meant.
    """
    if kind not in TASKS:
        guess = get_close_matches(kind, TASKS, 1)
        hint = f", did you mean {guess[0]!r}?" if guess else ""
        raise JobError(f"unknown task {kind!r}{hint} (known: {', '.join(TASKS)})", key="tasks")
    module, _, name = TASKS[kind].partition(":")
    found: type[Task] = getattr(import_module(module), name)
    return found


def make_task(entry: Any) -> Task:
    """A task from a job: its bare name, or a mapping with `task` and its options.

    Raises:
        JobError: unknown task, or a name that cannot be a folder.
        pydantic.ValidationError: an option does not hold.
    """
    if isinstance(entry, Task):
        return entry
    options = {"task": entry} if isinstance(entry, str) else dict(entry)
    if "task" not in options:
        raise JobError(
            f"a task needs its name: {{task: one of {', '.join(TASKS)}}}, got {entry!r}", key="tasks"
        )
    made = task_class(str(options.pop("task"))).model_validate(options)
    if not NAME.fullmatch(made.name):
        raise JobError(
            f"task name {made.name!r} must match {NAME.pattern}: it becomes a folder", key="tasks.name"
        )
    return made


def spread(entry: Any) -> list[Any]:
    """An entry that asks several things at once, as an entry for each: `policies` of moderate."""
    if not isinstance(entry, dict) or "policies" not in entry:
        return [entry]
    rest = {key: value for key, value in entry.items() if key != "policies"}
    name = rest.pop("name", None) or rest.get("task")
    policies = entry["policies"]
    if not isinstance(policies, list | tuple) or not all(isinstance(policy, str) for policy in policies):
        raise JobError("tasks.policies: a list of policies", key="tasks.policies")
    return [
        {**rest, "policy": policy, "name": f"{name}-{policy if NAME.fullmatch(policy) else place}"}
        for place, policy in enumerate(policies, 1)
    ]
