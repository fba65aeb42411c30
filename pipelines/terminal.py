"""The terminal, as commands print to it what documents, stores and models say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text without what a terminal would obey: a name may clear the screen, or write to the clipboard."""
    return _CONTROL.sub("\ufffd", text)


def line(text: str) -> str:
    """The same as one line, so that no name makes lines of its own."""
    return printable(text.replace("\r", " ").replace("\n", " "))


def terminal(**options: Any) -> Console:
    """A console that shows what others say as they said it.

    Rich's own takes a word in brackets for a style, leaves it out, and fails at one that closes none; and one
    between colons for a picture.

    Args:
        **options: rich's own.
    """
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, **how: Any) -> Any:
            """Of tables too: each of their cells comes by here."""
            return super().render_str(printable(text), **how)

    return Plain(markup=False, emoji=False, **options)
