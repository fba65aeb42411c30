"""What the main job read is what the documents say: by rates, over documents made for this run.

The bounds lie between what was measured over many more documents (the checkpoints' model cards) and
what a fault in the way of a picture or a recording would do, which is to get most of it wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deploy.demo.evaluate import Finding, digits, rates
from tests.fixtures.runs import MainRun


def chosen(run: MainRun, wanted: Callable[[Finding], bool]) -> list[Finding]:
    """The findings that a test is about, of which there have to be some."""
    found = [finding for finding in run.findings if wanted(finding)]
    assert found
    return found


def test_pages_are_read(main_run: MainRun) -> None:
    total = rates(main_run.findings)
    assert total.pages > 70
    assert total.character_errors is not None and total.character_errors < 0.01
    assert total.extract is not None and total.extract >= 0.95
    assert total.caption is not None and total.caption >= 0.98
    assert total.classify is not None and total.classify >= 0.98


def test_recordings_are_heard(main_run: MainRun) -> None:
    total = rates(main_run.findings)
    assert total.recordings >= 20
    assert total.digit_errors is not None and total.digit_errors < 0.06
    assert total.invented == 0


@pytest.mark.parametrize(
    "name",
    [
        "photos/on-its-left.jpg",
        "photos/on-its-right.jpg",
        "photos/on-its-head.png",
        "scans/sideways.pdf",
        "pdf/locked.pdf",
        "scans/fax.tiff",
    ],
)
def test_pages_are_turned_upright_and_unlocked(main_run: MainRun, name: str) -> None:
    found = chosen(main_run, lambda f: f.task == "ocr" and f.document.endswith(name))
    wrong = rates(found).character_errors
    assert wrong is not None and wrong < 0.05, found


def test_pages_are_in_their_order(main_run: MainRun) -> None:
    """A dozen pages with numbers of their own: the answer about each is about that one."""
    found = chosen(main_run, lambda f: f.task == "ocr" and f.document.endswith("pdf/year.pdf"))
    assert sum(finding.right for finding in found) >= 0.85 * len(found), found


def test_a_drawing_has_nothing_to_read(main_run: MainRun) -> None:
    found = chosen(main_run, lambda f: "shapes/" in f.document and f.task in ("ocr", "extract"))
    assert [finding for finding in found if not finding.right] == []


def test_what_is_heard_was_said_then(main_run: MainRun) -> None:
    """The digits of a segment are those whose times lie in it."""
    rows = main_run.table("records/task=transcribe").to_pylist()
    found = []
    for row in rows:
        spoken = [
            str(value)
            for value, start, end in main_run.truth[row["name"]]["digits"]
            if start >= row["start_seconds"] and end <= row["end_seconds"]
        ]
        found.append(Finding(row["name"], 0, "transcribe", digits(row["text"]), " ".join(spoken)))
    assert len(found) > len({row["name"] for row in rows}), "some recordings are longer than a segment"
    wrong = rates(found).digit_errors
    assert wrong is not None and wrong < 0.06, [finding for finding in found if not finding.right]
