"""Texts as they are compared: without Markdown's marks and the ways a line is broken."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from workers.metrics import Scores

BULLETS = re.compile(r"^[ \t]*[•◦▪‣●○■□–·][ \t]+", re.MULTILINE)
"""What a PDF's text layer has where Markdown has `-`."""
TAGS = re.compile(r"<[^<>]*>")


class Texts:
    """What the metrics of texts have in common."""

    expects: ClassVar[str] = "text"

    def __init__(self, data_type: pa.DataType | None, fold: bool) -> None:
        self._fold = fold

    def expected(self, value: Any) -> str:
        """Any text; an empty one says that there is nothing to read or to hear."""
        if not isinstance(value, str):
            raise ValueError(f"text is {value!r}, no text")
        return self.read(value)

    def whole(self, answers: Sequence[Any]) -> Any:
        """Never asked: `documents/` has the texts of documents."""
        raise TypeError("a document's text is in documents/")

    def details(self, counts: Counter[Any]) -> dict[str, Scores]:
        """None."""
        return {}

    def read(self, text: str | None) -> str:
        """A text as it is compared; None is an empty one."""
        return plain(text or "", self._fold)


def plain(text: str, fold: bool = False) -> str:
    """What a text says, on one line. References and answers go through it alike.

    It is read as CommonMark with tables, and what is left are the words: no `#`, `*`, `|`, bullets, links'
    targets or HTML tags. The numbers of an ordered list and the code of a block stay, and formulas stay as
    they are written. Unicode is brought to NFKC (a PDF's ligatures are letters again), and any white space
    is one space.

    Args:
        text: Markdown, or plain.
        fold: also without case and punctuation, as speech is often scored.
    """
    said = " ".join(_pieces(_reader().parse(BULLETS.sub("", text))))
    said = unicodedata.normalize("NFKC", said)
    if fold:
        said = "".join(
            character for character in said.casefold() if not unicodedata.category(character).startswith("P")
        )
    return " ".join(said.split())


@cache
def _reader() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _pieces(tokens: list[Any]) -> Iterator[str]:
    for token in tokens:
        if token.type == "inline":
            yield "".join(_inline(token.children))
        elif token.type in ("fence", "code_block"):
            yield token.content
        elif token.type == "html_block":
            yield TAGS.sub(" ", token.content)
        elif token.type == "list_item_open" and token.info:
            yield token.info + token.markup


def _inline(tokens: list[Any]) -> Iterator[str]:
    for token in tokens:
        if token.type in ("softbreak", "hardbreak", "html_inline"):
            yield " "
        elif token.type in ("text", "text_special", "code_inline", "image"):
            yield token.content
