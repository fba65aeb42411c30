"""response -> answer, or the error that says why it does not hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from schemas.errors import LoopingAnswer, OffSchemaAnswer, TruncatedAnswer, UnparsableAnswer
from schemas.ids import canonical
from schemas.json_schema import arrow_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.tasks.base import Task
    from workers.engines import Response

LOOP = re.compile(r"(.{1,80}?)\1{7,}.{0,80}\Z", re.DOTALL)
"""Up to 80 characters, eight times over, at the end of the answer."""
LOOP_TAIL = 1_600


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of a response that holds."""

    text: str
    data: dict[str, Any] | None = None


def validate(task: Task, response: Response) -> Answer:
    """Hold a response against its task.

    Raises:
        LoopingAnswer: cut off while repeating itself.
        TruncatedAnswer: cut off; more tokens may help.
        UnparsableAnswer, OffSchemaAnswer: not what the task's schema asks for.
    """
    text = response.text.strip()
    if response.finish_reason == "length":
        if LOOP.search(text[-LOOP_TAIL:]):
            raise LoopingAnswer(
                f"cut at {response.output_tokens} tokens while repeating itself; raise tasks.temperature",
                text=text,
            )
        raise TruncatedAnswer(
            f"cut at {response.output_tokens} tokens; raise its max_tokens or limits.answer_tokens",
            text=text,
        )
    choices = task.choices()
    if choices and text not in choices:
        raise OffSchemaAnswer(f"{text[:200]!r} is none of {', '.join(choices)}", text=text)
    if task.json_schema() is None:
        return Answer(text)
    return Answer(text, _typed(task, text))


def _typed(task: Task, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except ValueError as error:
        raise UnparsableAnswer(f"no JSON: {error}", text=text) from error
    # Held against the bounded schema: the very one the decoder was given.
    for fault in _checker(canonical(task.json_schema() or {}))(value):
        where = "/".join(str(step) for step in fault.absolute_path) or "the answer"
        raise OffSchemaAnswer(f"{where}: {fault.message[:200]}", text=text) from fault
    try:
        data: dict[str, Any] = arrow_value(value, task.data_type())
    except (ValueError, TypeError) as error:
        raise OffSchemaAnswer(f"a value is not of its column's type: {error}", text=text) from error
    return data


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


@lru_cache(maxsize=64)
def _checker(schema: str) -> Callable[[Any], Any]:
    from jsonschema import Draft202012Validator

    validator: Callable[[Any], Any] = Draft202012Validator(json.loads(schema)).iter_errors
    return validator
