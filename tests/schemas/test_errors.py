"""Errors are values: they survive every process boundary with type, message and fields."""

from __future__ import annotations

import os
import pickle

import pytest

from schemas import errors
from schemas.errors import GemstreamError, TerminalError, TransientError
from schemas.limits import Limits
from schemas.rows import error_value


def leaves() -> list[type[GemstreamError]]:
    found: list[type[GemstreamError]] = []
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, GemstreamError) and not value.__subclasses__():
            found.append(value)
    return found


@pytest.mark.parametrize("kind", leaves())
def test_an_error_is_the_same_after_pickling(kind: type[GemstreamError]) -> None:
    error = kind("what happened", limit="pages", text="said")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.fields, str(again)) == ("what happened", error.fields, "what happened")


def test_every_category_is_one_error() -> None:
    categories = [kind.category for kind in leaves()]
    assert len(set(categories)) == len(categories)


def test_retry_is_decided_by_type() -> None:
    for kind in leaves():
        if issubclass(kind, errors.JobError):
            continue
        assert issubclass(kind, TransientError) != issubclass(kind, TerminalError), kind


def test_the_tree_in_the_docstring_names_every_error() -> None:
    assert errors.__doc__ is not None
    assert [kind.__name__ for kind in leaves() if kind.__name__ not in errors.__doc__] == []


def test_an_error_becomes_a_row_with_its_stage() -> None:
    error = errors.LimitExceeded("too long", stage="fetch", limit="limits.pages")
    row = error_value(error, Limits(pages=7))
    assert row.pop("worker").endswith(f"/{os.getpid()}")
    assert row == {
        "stage": "fetch",
        "category": "limit",
        "message": "too long",
        "transient": False,
        "setting": "limits.pages",
        "limit": "7",
    }
    assert error_value(errors.EmptyObject("nothing"), Limits())["limit"] is None
