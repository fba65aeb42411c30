"""What commands print of what others said, as they said it."""

from __future__ import annotations

from io import StringIO

from pipelines.failures import Failures, Group
from pipelines.terminal import line, terminal


def test_words_in_brackets_are_no_styles_and_colons_no_pictures() -> None:
    said = "[red] of [/b]: list[int] :x: date32[day]"
    group = Group(category="corrupt", stage="expand", rows=1, documents=1, setting=None, example=said)
    written = StringIO()
    terminal(file=written, width=200).print(Failures(output="o", groups=(group,), rows=()).table())
    assert said in written.getvalue()


def test_no_name_moves_the_cursor_or_makes_a_line_of_its_own() -> None:
    hostile = "a\x1b]52;c;eA==\x07\n\x9b2J.pdf"
    assert line(hostile) == "a\ufffd]52;c;eA==\ufffd \ufffd2J.pdf"
    group = Group(category="corrupt", stage="expand", rows=1, documents=1, setting=None, example=hostile)
    written = StringIO()
    terminal(file=written, width=200).print(Failures(output="o", groups=(group,), rows=()).table())
    assert not {"\x1b", "\x07", "\x9b"} & set(written.getvalue()) and "2J.pdf" in written.getvalue()
