"""The exact words of every question, pinned: another word is another answer.

Where one is meant to change: raise the task's `version`, so that records tell the two apart, then
`pytest tests/schemas/test_prompts.py --goldens`, and look at what has changed in `prompts.yaml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.names import NAMES
from schemas.rows import PartKind, Shown
from schemas.tasks import TASKS, make_task
from tests.schemas.test_tasks import OPTIONS

PINNED = Path(__file__).with_name("prompts.yaml")
SHOWN = {
    PartKind.PAGE: {Shown.IMAGE, Shown.TEXT},
    PartKind.IMAGE: {Shown.IMAGE},
    PartKind.AUDIO: {Shown.AUDIO},
}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "caption": [{"style": "detailed"}, {"style": "alt_text"}, {"language": "German"}],
    "summarize": [{"sentences": 1}, {"language": "German"}],
}


def asked(kind: str, options: dict[str, Any]) -> dict[str, Any]:
    task = make_task({"task": kind, **OPTIONS.get(kind, {}), **options})
    shown = sorted(set().union(*(SHOWN[part] for part in task.parts)))
    questions = {how.value: task.question(how) for how in shown}
    whole = task.whole_question()
    pinned: dict[str, Any] = {"version": task.version, "options": options, "questions": questions}
    return pinned | ({"whole": whole} if whole else {})


def test_every_question_is_asked_in_the_words_that_are_pinned(request: pytest.FixtureRequest) -> None:
    found = {kind: [asked(kind, options) for options in ({}, *VARIANTS.get(kind, []))] for kind in TASKS}
    names = {"version": NAMES.version, "options": {}, "questions": {"text": NAMES.question(Shown.TEXT)}}
    found[NAMES.kind] = [names]
    if request.config.getoption("--goldens"):
        PINNED.write_text(yaml.safe_dump(found, sort_keys=True, width=100, allow_unicode=True))
    assert found == yaml.safe_load(PINNED.read_text())
