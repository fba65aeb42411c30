"""What commands print of what others said, as they said it."""

from __future__ import annotations

from io import StringIO

from pipelines.failures import Failures, Group
from pipelines.terminal import terminal


def test_words_in_brackets_are_no_styles_and_colons_no_pictures() -> None:
    said = "[red] of [/b]: list[int] :x: date32[day]"
    group = Group(category="corrupt", stage="expand", rows=1, documents=1, setting=None, example=said)
    written = StringIO()
    terminal(file=written, width=200).print(Failures(output="o", groups=(group,), rows=()).table())
    assert said in written.getvalue()
