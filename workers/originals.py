"""Which document of several with the same content is the one that is asked about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from schemas.ids import ID_BYTES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

RECENT = 65_536
"""Entries that are held in a dict, before they go into a sorted run."""


class Originals(Protocol):
    """Where a stage asks, for each document, before it is parsed."""

    def is_original(self, digest: str, document_id: str) -> bool:
        """Whether a document is the first with this content; so it is however often it is asked for, and by
        whatever worker."""
        ...


class Firsts:
    """Content -> the first document with it. 32 bytes each, and twice that for a moment while runs merge: a
    hundred million documents are 3.2 GB, where a dict would take 20.

    Sorted runs, each at least twice the length of the next, behind a dict of the latest.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self._recent: dict[bytes, bytes] = {}
        self._runs: list[tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bytes_]]] = []

    def add(self, digest: str, document_id: str) -> str:
        """The first document with this content: this one, if there was none."""
        key = bytes.fromhex(digest)
        found = self._find(key)
        if found is not None:
            return found.hex()
        self._recent[key] = bytes.fromhex(document_id)
        if len(self._recent) >= RECENT:
            self._settle()
        return document_id

    def _find(self, key: bytes) -> bytes | None:
        import numpy as np

        if key in self._recent:
            return self._recent[key]
        for keys, values in self._runs:
            at = int(np.searchsorted(keys, key))
            # NumPy leaves out zeros at the end of such bytes.
            if at < len(keys) and keys[at] == key.rstrip(b"\0"):
                return bytes(values[at]).ljust(ID_BYTES, b"\0")
        return None

    def seed(self, digests: pa.ChunkedArray, ids: pa.ChunkedArray) -> None:
        """Documents of which the first ones are known already: a million of them take 4 s of a busy core."""
        import numpy as np

        keys, first = np.unique(_bytes(digests), return_index=True)
        fresh = np.ones(len(keys), bool)
        for known, _ in self._runs:
            at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
            fresh &= known[at] != keys
        if fresh.any():
            self._runs.append((keys[fresh], _bytes(ids)[first][fresh]))
            self._merge()

    def _settle(self) -> None:
        """What is recent becomes a run, and runs of about the same length one."""
        import numpy as np

        kind = f"S{ID_BYTES}"
        self._runs.append(
            _sorted(np.array(list(self._recent), kind), np.array(list(self._recent.values()), kind))
        )
        self._recent = {}
        self._merge()

    def _merge(self) -> None:
        import numpy as np

        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (more, their), (few, our) = self._runs[-2:]
            self._runs[-2:] = [_sorted(np.concatenate((more, few)), np.concatenate((their, our)))]


def _bytes(column: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    """A column of ids or digests in hexadecimal, none of them null."""
    import numpy as np

    joined = "".join(column.to_pylist())
    return np.frombuffer(bytes.fromhex(joined), f"S{ID_BYTES}")


def _sorted(
    keys: npt.NDArray[np.bytes_], values: npt.NDArray[np.bytes_]
) -> tuple[npt.NDArray[np.bytes_], npt.NDArray[np.bytes_]]:
    import numpy as np

    order = np.argsort(keys, kind="stable")
    return keys[order], values[order]
