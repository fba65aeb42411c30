"""response -> answer, or the error that says why it does not hold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import getitem
from typing import TYPE_CHECKING, Any

from schemas.errors import (
    AnswerError,
    EmptyAnswer,
    LoopingAnswer,
    OffSchemaAnswer,
    TruncatedAnswer,
    UnparsableAnswer,
)
from schemas.ids import canonical
from schemas.json_schema import arrow_value, below
from schemas.tasks.base import Said

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jsonschema import ValidationError

    from schemas.rows import Shown
    from schemas.tasks.base import Task
    from workers.engines import Response

LOOP_UNIT, LOOP_REPEATS = 80, 8
LOOP_LENGTH = 300
"""Characters that a loop covers at least, up to the very end of what was said. Of 20 tables of contents,
tables and forms, cut at 8,731 places, 200 took 312 for one: rows of `N/A` or zeros, 45 `&nbsp;` a line."""
LAYOUT_LENGTH = 1_000
"""Of one without a letter or digit: leaders, rules, empty cells and boxes. Of the same places 400 took 554
for one, this 21, far down in 40 empty rows of 12 cells. A model that loops on dots fills its 2,048 tokens."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of a response that holds; or, with `invalid`, what holds of one.

    Attributes:
        text: for people.
        data: for the typed column, null where nothing or nothing that holds was said; None for prose.
        invalid: JSON pointers of what does not hold.
    """

    text: str
    data: dict[str, Any] | None = None
    invalid: tuple[str, ...] = ()


def validate(task: Task, response: Response, shown: Shown) -> Answer:
    """Hold a response against its task, about a part that was shown that way.

    Raises:
        LoopingAnswer: cut off while repeating itself.
        TruncatedAnswer: cut off; more tokens may help.
        EmptyAnswer: no words, where the task wants some.
        UnparsableAnswer, OffSchemaAnswer: not what the task asks for.
    """
    text = response.text.strip()
    if response.finish_reason == "length":
        if _loops(response.text):
            raise LoopingAnswer(
                f"cut at {response.output_tokens} tokens while repeating itself; raise tasks.temperature",
                text=text,
            )
        raise TruncatedAnswer(
            f"cut at {response.output_tokens} tokens; raise its max_tokens or limits.answer_tokens",
            text=text,
        )
    choices, data_type = task.choices(), task.data_type()
    if choices and text not in choices:
        raise OffSchemaAnswer(f"{text[:200]!r} is none of {', '.join(choices)}", text=text)
    value, faults = (None, {}) if task.json_schema() is None else _parsed(task, text)
    if not text and not task.may_be_empty:
        raise EmptyAnswer("no words; ask otherwise (tasks.prompt)", text=text)
    if data_type is None:
        return Answer(text)
    try:
        said = task.data(Said(text, shown, value, response.likelihoods))
    except AnswerError as error:
        raise type(error)(error.message, **{**error.fields, "text": text}) from error
    data, odd = arrow_value(said, data_type)
    faults |= {pointer: "not of its column's type" for pointer in odd if pointer not in faults}
    answer = Answer(task.text(text, data), data, tuple(sorted(faults)))
    if faults:
        some = any(value is not None for value in data.values())
        where, why = next(iter(faults.items()))
        raise OffSchemaAnswer(
            f"{where}: {why[:200]}", text=text, invalid=list(faults), partial=answer if some else None
        )
    return answer


def _loops(text: str) -> bool:
    """Whether a text ends in the same few characters over and over, with a part of them at its end.

    0.2 ms at most, of 80 comparisons of strings: a pattern with a back-reference held the loop for 10 s.
    """
    text = text.rstrip("\ufffd")  # a character of which the cut left some bytes
    for period in range(1, LOOP_UNIT + 1):
        worded = any(map(str.isalnum, text[-period:]))
        length = max(LOOP_REPEATS * period, LOOP_LENGTH if worded else LAYOUT_LENGTH)
        if len(text) >= length and text[period - length :] == text[-length:-period]:
            return True
    return False


def _parsed(task: Task, text: str) -> tuple[Any, dict[str, str]]:
    """The JSON of an answer, with null for what does not hold; and why, by JSON pointer."""
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
        # Held against the bounded schema: the very one the decoder was given.
        faults = list(_checker(canonical(task.json_schema() or {}))(value))
    except ValueError as error:
        raise UnparsableAnswer(f"no JSON: {error}", text=text) from error
    except RecursionError as error:
        raise UnparsableAnswer("lists within lists without end", text=text) from error
    found: dict[str, str] = {}
    for fault in faults:
        where = list(fault.absolute_path)
        inner: list[Any] = _inner(fault)
        if not inner and not where:
            raise OffSchemaAnswer(f"the answer: {fault.message[:200]}", text=text)
        holder = reduce(getitem, where if inner else where[:-1], value)
        for step in inner or where[-1:]:
            found[_pointer([*(where if inner else where[:-1]), step])] = fault.message
            if isinstance(holder, list) or step in holder:
                holder[step] = None
    return value, found


def _inner(fault: ValidationError) -> list[str]:
    """The fields of an object that a fault of the object is about."""
    there: Any = fault.instance
    wanted: Any = fault.validator_value
    if fault.validator == "required":
        return [name for name in wanted if name not in there]
    if fault.validator == "additionalProperties":
        known: Any = fault.schema
        return [name for name in there if name not in known["properties"]]
    return []


def _pointer(path: list[str | int]) -> str:
    """What a model calls a field may have half a character in it, which no column holds."""
    pointer: str = reduce(below, path, "")
    return pointer.encode(errors="backslashreplace").decode()


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose fields are there once each. A decoder that is held to a schema writes no other, and of
    two values nobody can say which was meant."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:200]!r} is there twice")
    return made


@lru_cache(maxsize=64)
def _checker(schema: str) -> Callable[[Any], Any]:
    from jsonschema import Draft202012Validator, validators

    extend: Callable[..., Any] = validators.extend
    held = extend(Draft202012Validator, {"pattern": _whole})
    validator: Callable[[Any], Any] = held(json.loads(schema)).iter_errors
    return validator


def _whole(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    """A pattern as the decoder takes it, of a whole value. In Python a newline may follow $, a digit is of
    any script, and a search is content with one side of ^a|b$."""
    from jsonschema import ValidationError

    if isinstance(value, str) and not re.fullmatch(pattern[1:-1], value, re.ASCII):
        yield ValidationError(f"{value!r} does not match {pattern!r}")
