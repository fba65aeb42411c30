"""What the sources share: globs, and documents as a table."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
from pathspec import GitIgnoreSpec

from schemas.errors import JobError
from schemas.ids import document_id
from schemas.rows import DOCUMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from workers.storage import ObjectInfo

T = TypeVar("T")

_BRACES = re.compile(r"(?<!\\)\{[^{}]*,[^{}]*\}")
"""A shell expands these, a .gitignore does not: taken word for word they match nothing."""


class Globs:
    """Which paths a job wants. The globs are written as in a .gitignore, by the library that reads those.

    `*.pdf` is a PDF at any depth, `/2024/**/*.tiff` starts at the prefix, `drafts/` is all below a
    folder of that name, and `!` takes back what an earlier glob matched. Capitals count.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Compiles the globs; without an `include` every path is wanted.

        Raises:
            JobError: a glob that is not one, or that is empty or a comment and would match nothing.
        """
        self._include = _compiled(include, "include")
        self._exclude = _compiled(exclude, "exclude")

    def wants(self, path: str) -> bool:
        """Whether a path, relative to its prefix, is included and not excluded. About 6 us."""
        # To a pattern's `**` a line break is no character of a folder's name.
        path = path.replace("\n", "\0")
        if self._include is not None and not self._include.match_file(path):
            return False
        return self._exclude is None or not self._exclude.match_file(path)


def _compiled(globs: Sequence[str], key: str) -> GitIgnoreSpec | None:
    if not globs:
        return None
    for glob in globs:
        if _BRACES.search(glob):
            raise JobError(f"{key}: {glob!r} has braces: give a glob for each instead", key=key)
        try:
            patterns = GitIgnoreSpec.from_lines([glob]).patterns
        except ValueError as error:
            raise JobError(f"{key}: {error}", key=key) from error
        if not any(pattern.include is not None for pattern in patterns):
            raise JobError(f"{key}: {glob!r} matches nothing; write a leading '#' as '\\#'", key=key)
    return GitIgnoreSpec.from_lines(globs)


def documents_table(infos: Sequence[ObjectInfo]) -> pa.Table:
    """The objects as rows of DOCUMENTS; a size below zero is one that is not known."""
    columns = {
        "document_id": [document_id(info.uri) for info in infos],
        "uri": [info.uri for info in infos],
        "version": [info.version for info in infos],
        "size": [info.size if info.size >= 0 else None for info in infos],
        "modified": [info.modified for info in infos],
        "lane": [None] * len(infos),
        "address": [None] * len(infos),
    }
    return pa.table(columns, schema=DOCUMENTS)


def in_chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items; holds one of them."""
    left = iter(items)
    while chunk := list(islice(left, size)):
        yield chunk
