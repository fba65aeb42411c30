"""Which parts a page shows: some of every kind and outcome, drawn by a hash, so that each is as likely."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from workers.storage import ObjectInfo

PartKey = tuple[str, str, int]
"""document_id, version, part_index."""
FACTS = (
    *("document_id", "version", "uri", "part_index", "parts_total", "part_kind", "media_type"),
    *("start_seconds", "end_seconds"),
)
OUTCOMES = ("answered", "failed", "invalid", "borrowed", "silent")
"""In the order in which they take their turns."""
SPREAD, STIR = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
"""splitmix64's constants."""


class Stratum(NamedTuple):
    """What some of is shown."""

    part_kind: str
    outcome: str
    media_type: str


@dataclass(frozen=True)
class Place:
    """Where an answer lies: the row of a file."""

    info: ObjectInfo
    row: int
    task: str


@dataclass
class Drawn:
    """A part, and where what was said of it lies: in records; what is in errors is here."""

    lot: int
    facts: dict[str, Any]
    places: list[Place] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)

    @property
    def key(self) -> PartKey:
        """Its name."""
        return self.facts["document_id"], self.facts["version"], self.facts["part_index"]


class Sample:
    """Of each stratum the parts with the smallest hashes, so far: a few dozen, whatever comes.

    A part has one hash, whatever is asked of it, so those of several tasks are of the same parts.

    Args:
        size: parts of each.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._drawn: defaultdict[Stratum, dict[PartKey, Drawn]] = defaultdict(dict)

    def add(self, info: ObjectInfo, task: str, rows: pa.Table, places: npt.NDArray[np.int64]) -> None:
        """Take in records of one file.

        Args:
            info: the file.
            task: of which task.
            rows: with `FACTS`, `valid` and `text_source`.
            places: of each its row in the file.
        """
        source = rows["text_source"]
        outcomes = pc.if_else(
            pc.equal(source, "silence"),
            "silent",
            pc.if_else(pc.equal(source, "text_layer"), "borrowed", "answered"),
        )
        off = pc.fill_null(pc.invert(rows["valid"]), False)
        outcomes = pc.fill_null(pc.if_else(off, "invalid", outcomes), "answered")
        whole = pc.is_null(rows["part_index"])
        for row, drawn in self._taken(rows, outcomes, pc.invert(whole)):
            drawn.places.append(Place(info, int(places[row]), task))

    def add_errors(self, rows: pa.Table) -> None:
        """Take in errors, which have `FACTS` besides; of parts that never were there is nothing to see."""
        shown = pc.and_(pc.is_valid(rows["part_index"]), pc.is_valid(rows["task"]))
        outcomes = pa.chunked_array([pa.repeat(pa.scalar("failed"), len(rows))])
        for row, drawn in self._taken(rows, outcomes, shown):
            drawn.errors += rows.slice(row, 1).to_pylist()

    def chosen(self) -> list[Drawn]:
        """As many parts as there is room for: of each kind in turn, of each outcome and media type in turn,
        and of as many documents as there are."""
        kinds: defaultdict[str, list[list[Drawn]]] = defaultdict(list)
        for stratum in sorted(self._drawn, key=lambda at: (OUTCOMES.index(at.outcome), at.media_type)):
            parts = sorted(self._drawn[stratum].values(), key=lambda drawn: drawn.lot)
            kinds[stratum.part_kind].append(parts)
        found: dict[PartKey, Drawn] = {}
        for drawn in _in_turn([list(_in_turn(strata)) for strata in kinds.values()]):
            first = found.setdefault(drawn.key, drawn)
            if first is not drawn:
                first.places += drawn.places
                first.errors += drawn.errors
        documents: set[str] = set()
        fresh: list[Drawn] = []
        later: list[Drawn] = []
        for key, drawn in found.items():
            (later if key[0] in documents else fresh).append(drawn)
            documents.add(key[0])
        return [*fresh, *later][: self._size]

    def _taken(
        self, rows: pa.Table, outcomes: pa.ChunkedArray, shown: pa.ChunkedArray
    ) -> Iterator[tuple[int, Drawn]]:
        """Of these rows, those that are among the first of their stratum, and the parts they are of."""
        media, kinds = (
            pc.fill_null(rows[name].cast(pa.string()), "unknown") for name in ("media_type", "part_kind")
        )
        names = pc.binary_join_element_wise(kinds, outcomes, media, "\n")
        lots = _lots(rows)
        for name in pc.unique(names.filter(shown)).to_pylist():
            stratum = Stratum(*name.split("\n"))
            mine = np.flatnonzero(pc.and_(shown, pc.equal(names, name)).to_numpy())
            first = mine[np.argsort(lots[mine], kind="stable")[: self._size]]
            for row, facts in zip(first, rows.select(FACTS).take(pa.array(first)).to_pylist(), strict=True):
                drawn = self._kept(self._drawn[stratum], Drawn(int(lots[row]), facts))
                if drawn is not None:
                    yield int(row), drawn

    def _kept(self, parts: dict[PartKey, Drawn], drawn: Drawn) -> Drawn | None:
        """The part as it is kept; None if others go before it."""
        if drawn.key not in parts:
            parts[drawn.key] = drawn
            if len(parts) > self._size:
                del parts[max(parts, key=lambda key: parts[key].lot)]
        return parts.get(drawn.key)


def _lots(rows: pa.Table) -> npt.NDArray[np.uint64]:
    """A hash of each row's part: of its document's id, which is one already, and its index."""
    heads = pc.utf8_slice_codeunits(rows["document_id"].cast(pa.string()), 0, 16)
    ids = np.frombuffer(bytes.fromhex("".join(heads.to_pylist())), ">u8").astype(np.uint64)
    index = pc.fill_null(rows["part_index"], 0).to_numpy().astype(np.uint64)
    mixed = (ids + (index + np.uint64(1)) * np.uint64(SPREAD)) * np.uint64(STIR)
    lots: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return lots


def _in_turn(lists: Sequence[Sequence[Drawn]]) -> Iterable[Drawn]:
    """The first of each, the second of each, and so on."""
    return filter(None, chain.from_iterable(zip_longest(*lists)))
