"""The terminal, as commands print tables to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def terminal(**options: Any) -> Console:
    """A console that shows what documents, stores and models say as they said it.

    Rich's own takes a word in brackets for a style, leaves it out, and fails at one that closes none; and one
    between colons for a picture.

    Args:
        **options: rich's own.
    """
    from rich.console import Console

    return Console(markup=False, emoji=False, **options)
