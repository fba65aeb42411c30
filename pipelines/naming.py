"""Which document a reference means: by its address, or by the end of it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import JobError
from workers.sinks.reading import read_columns
from workers.storage.factory import has_scheme, normalise

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pipelines.references import Reference
    from workers.storage import StorageOptions

Key = tuple[str, int | None]
"""A document's address and a part of it, or None for the whole."""


def placed(
    references: Sequence[Reference], output: str, tasks: Iterable[str], options: StorageOptions
) -> tuple[dict[str, dict[Key, Reference]], tuple[str, ...]]:
    """The references by task and by the document's address, and the names that no document has.

    Raises:
        JobError: a name that fits several documents, two references to one answer, or none to any.
    """
    names = Names({reference.name for reference in references}, _addresses(output, tasks, options))
    found: defaultdict[str, dict[Key, Reference]] = defaultdict(dict)
    shapes: dict[tuple[str, str], Reference] = {}
    unknown: dict[str, None] = {}
    for reference in references:
        uri = names.address(reference.name)
        if uri is None:
            unknown[reference.name] = None
            uri = reference.name
        about = f"{reference.task} of {reference.name}"
        other = found[reference.task].setdefault((uri, reference.part_index), reference)
        if other is not reference:
            raise fault(f"rows {other.row} and {reference.row} are both about {about}: keep one")
        first = shapes.setdefault((reference.task, uri), reference)
        if (first.part_index is None) != (reference.part_index is None):
            raise fault(
                f"rows {first.row} and {reference.row}: {about} is there as a whole and in parts: keep either"
            )
    if not references:
        raise fault("no row is about a task that was asked for")
    if len(unknown) == len({reference.name for reference in references}):
        raise fault(
            f"none is about a document of {output}: they name {next(iter(unknown))!r}, for example, and the "
            f"output has {names.example!r}"
        )
    return dict(found), tuple(unknown)


def _addresses(output: str, tasks: Iterable[str], options: StorageOptions) -> Iterator[pa.Array]:
    """The addresses of all documents, a part file at a time: those that failed are in `errors/` alone."""
    for folder in ("documents", "errors", *(f"records/task={task}" for task in tasks)):
        for rows in read_columns(output, options, folder, ["uri"]):
            yield pc.unique(rows["uri"])


class Names:
    """From what a reference calls a document to its address.

    A full address, or an absolute path, is taken as it is. Any other name is the end of one, whole steps of
    the path: `2024/a.pdf` fits `s3://lake/inbox/2024/a.pdf`, and `a.pdf` does so too. Nothing is decoded,
    and a space is a space.

    Args:
        names: all that will be asked for.
        addresses: of all documents.
    """

    def __init__(self, names: Collection[str], addresses: Iterable[pa.Array]) -> None:
        ends = pa.array({_end(name) for name in names}, pa.string())
        self._by_end: defaultdict[str, set[str]] = defaultdict(set)
        self.example = ""
        for uris in addresses:
            self.example = self.example or (uris[0].as_py() if len(uris) else "")
            last = pc.replace_substring_regex(uris, "(?s)^.*/", "")
            for uri in uris.filter(pc.is_in(last, ends)).to_pylist():
                self._by_end[_end(uri)].add(uri)

    def address(self, name: str) -> str | None:
        """The document's, or None if there is none.

        Raises:
            JobError: there are several.
        """
        candidates = self._by_end[_end(name)]
        if has_scheme(name) or name.startswith(("/", "~/")):
            uri = normalise(name)
            return uri if uri in candidates else None
        below = "/" + name.removeprefix("./")
        fitting = sorted(uri for uri in candidates if uri.endswith(below))
        if len(fitting) > 1:
            raise fault(
                f"{name!r} fits {len(fitting)} documents, {fitting[0]} and {fitting[1]}: write more of it"
            )
        return fitting[0] if fitting else None


def _end(name: str) -> str:
    return name.rpartition("/")[2]


def fault(message: str) -> JobError:
    """References that make no sense."""
    return JobError(f"references: {message}", key="references")
