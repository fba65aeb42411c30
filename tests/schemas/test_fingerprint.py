"""Ask anything differently and it is another answer; ask the same and it is not asked again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fingerprint import changes, fingerprint, ingredients
from schemas.models import find_model
from schemas.rows import Shown
from schemas.tasks import make_task

MODELS = ("google/gemma-3-4b-it", "google/gemma-3-12b-it")
SETTINGS = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from([None, "What is it?", "What is it? "]),
        "max_tokens": st.sampled_from([64, 65]),
        "temperature": st.sampled_from([0.0, 0.1]),
        "labels": st.sampled_from([("a", "b"), ("b", "a"), ("a", "b", "c")]),
        "model": st.sampled_from(MODELS),
        "image_size": st.sampled_from([896, 448]),
        "seed": st.sampled_from([0, 1]),
    }
)
NAMES = {
    "prompt": {"prompt"},
    # A classifier's labels are in its question, and hold its answer.
    "labels": {"prompt", "schema"},
    "model": {"model"},
    "max_tokens": {"options"},
    "temperature": {"options"},
    "image_size": {"options"},
    "seed": {"options"},
}


def made_of(settings: dict[str, Any], name: str = "classify") -> dict[str, str]:
    values = {key: settings[key] for key in ("prompt", "max_tokens", "temperature", "labels")}
    task = make_task({"task": "classify", "name": name, **values})
    shown = {"image_size": settings["image_size"]}
    questions = [task.question(Shown.IMAGE)]
    return ingredients(task, questions, find_model(settings["model"]), shown, settings["seed"])


@given(SETTINGS, SETTINGS)
def test_it_differs_exactly_where_something_was_changed(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = made_of(one), made_of(other)
    assert (fingerprint(first) == fingerprint(second)) is (one == other)
    named = set(filter(None, changes(first, second).split(", ")))
    allowed = set().union(*(NAMES[key] for key in one if one[key] != other[key]))
    assert named <= allowed and bool(named) is (one != other)


@given(SETTINGS)
def test_it_is_the_same_in_whatever_order_and_under_whatever_name(settings: dict[str, Any]) -> None:
    made = made_of(settings)
    assert fingerprint(dict(reversed(made.items()))) == fingerprint(made)
    assert made_of(settings, "another") == made, "a task's name is where its answers lie, not what they are"


@pytest.mark.parametrize(
    ("task", "one", "other"),
    [
        ({"task": "moderate", "policy": "violence"}, {}, {"threshold": 0.9}),
        ({"task": "moderate", "prompt": "Is it bad?"}, {"policy": "violence"}, {"policy": "dangerous"}),
        ({"task": "translate", "prompt": "Put it into English."}, {"to": "English"}, {"to": "Englisch"}),
    ],
)
def test_it_differs_where_the_same_words_are_read_otherwise(
    task: dict[str, Any], one: dict[str, Any], other: dict[str, Any]
) -> None:
    made = [
        ingredients(made, [made.question(Shown.IMAGE)], find_model(MODELS[0]), {}, 0)
        for made in (make_task(task | one), make_task(task | other))
    ]
    assert changes(*made) == "reading"
