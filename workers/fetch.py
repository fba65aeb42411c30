"""Documents to bytes on this machine's disk: looked up, measured, sniffed, and fetched a little ahead."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from schemas.errors import GemstreamError, LimitExceeded, StorageUnavailable
from schemas.ids import content_state
from workers.scratch import Scratch
from workers.sniff import HEAD_BYTES, Sniffed, sniff
from workers.storage.factory import look_up, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import pyarrow as pa

    from schemas.limits import Limits
    from schemas.storage import StorageOptions
    from workers.originals import Originals

HIDDEN = "hmac:"
"""What the hash that goes in place of a name begins with."""
AHEAD = 2
"""Documents fetched while one is parsed, so that the parser does not wait for the network."""
PIECE_BYTES = 8 * 1024 * 1024
"""Bytes per read: nearly all documents take one, and no large one is ever held whole."""
DOCUMENT = "document"
"""Its name in scratch, and so what parsers' messages call it."""
IN_DOUBT = "?"
"""In place of what is kept of a document that could not be looked up when it was listed: there are answers
about it, and nobody knows whether they are about the version that is there."""


@dataclass(frozen=True, slots=True)
class Document:
    """One row of the input; `source` is its place there.

    `kept` names, per part, the tasks whose answer the output holds already; `address` is where its bytes are,
    if that is not its `uri`; `in_doubt` is whether it may have been answered, see IN_DOUBT.
    """

    source: int
    document_id: str
    uri: str
    version: str
    size: int | None
    kept: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    address: str | None = None
    in_doubt: bool = False

    @property
    def place(self) -> str:
        """Where its bytes are."""
        return self.address or self.uri

    @property
    def hidden(self) -> bool:
        """Whether its `uri` stands in for an address that nobody is to read."""
        return self.address is not None and self.uri.startswith(HIDDEN)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document as it came: sniffed, with its bytes in `folder` if somebody wants them and `digest` of them,
    or with the fault that it came to. A `duplicate` has the bytes of another, which is asked about."""

    document: Document
    sniffed: Sniffed | None = None
    folder: Path | None = None
    fault: GemstreamError | None = None
    digest: str | None = None
    duplicate: bool = False


def documents_of(table: pa.Table) -> Iterator[Document]:
    """The rows of a DOCUMENTS table, with or without its columns `kept` and `address`."""
    names = ("document_id", "uri", "version", "size", "kept", "address")
    columns = [
        table[name].to_pylist() if name in table.column_names else [None] * len(table) for name in names
    ]
    for source, row in enumerate(zip(*columns, strict=True)):
        document_id, uri, version, size, answers, address = row
        told = [answer for answer in answers or () if answer != IN_DOUBT]
        in_doubt = len(told) < len(answers or ())
        yield Document(source, document_id, uri, version, size, _kept(told), address, in_doubt)


def _kept(answers: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """`part_index/task` -> tasks by part; what is `/task`, about the document as a whole, is of none."""
    tasks: dict[int, tuple[str, ...]] = {}
    for answer in answers:
        index, _, task = answer.partition("/")
        if not index:
            continue
        tasks[int(index)] = (*tasks.get(int(index), ()), task)
    return tasks


class Fetcher:
    """Threads that fetch, and the scratch folder they fetch into.

    Args:
        storage: how to reach the object stores.
        limits: `object_bytes` is checked against the listing, before anything is read.
        wanted: which documents to fetch whole; of the others, the first piece is read and dropped.
        originals: who knows whether a document's bytes are another's. It is asked ahead, like the store: an
            answer takes a millisecond, and a small picture no more than five to parse.
    """

    def __init__(
        self,
        storage: StorageOptions,
        limits: Limits,
        wanted: Callable[[Sniffed], bool],
        originals: Originals | None = None,
    ) -> None:
        self._storage = storage
        self._limits = limits
        self._wanted = wanted
        self._originals = originals
        self._scratch = Scratch()
        self._threads = ThreadPoolExecutor(AHEAD, thread_name_prefix="fetch")

    def stream(self, documents: Iterable[Document]) -> Iterator[Fetched]:
        """Each document in order. Its folder is gone when the next one is asked for."""
        ahead: deque[Future[Fetched]] = deque()
        try:
            for document in documents:
                ahead.append(self._threads.submit(self._fetch, document))
                if len(ahead) > AHEAD:
                    yield from self._held(ahead.popleft().result())
            while ahead:
                yield from self._held(ahead.popleft().result())
        finally:
            for future in ahead:
                if not future.cancel():
                    self._release(future.result())

    def close(self) -> None:
        """End the threads, remove the scratch folder. Closing twice is fine."""
        self._threads.shutdown(cancel_futures=True)
        self._scratch.close()

    def _fetch(self, document: Document) -> Fetched:
        try:
            return self._fetched(document)
        except GemstreamError as fault:
            return Fetched(document, fault=fault)

    def _fetched(self, document: Document) -> Fetched:
        if not document.version or document.size is None:
            # A manifest's entry that could not be looked up when it was listed.
            info = look_up(document.place, self._storage)
            if document.in_doubt:
                # What was answered about this very version would all be asked, and paid for, again.
                raise StorageUnavailable(
                    "it has answers, and could not be looked up when it was listed; the next run tries again",
                    stage="fetch",
                )
            uri = document.uri if document.address else info.uri
            document = replace(document, uri=uri, version=info.version, size=info.size)
        if document.size is not None and document.size > self._limits.object_bytes:
            raise LimitExceeded(
                f"{document.size:,} bytes: more than limits.object_bytes = {self._limits.object_bytes:,}; "
                "raise it to try again",
                limit="limits.object_bytes",
                stage="fetch",
            )
        pieces = self._pieces(document)
        first = next(pieces, b"")
        sniffed = sniff(first[:HEAD_BYTES], document.place)
        if not self._wanted(sniffed):
            return Fetched(document, sniffed)
        state = content_state()
        folder = self._written(first, pieces, state)
        duplicate = self._is_duplicate(document, state.hexdigest())
        return Fetched(document, sniffed, folder, digest=state.hexdigest(), duplicate=duplicate)

    def _is_duplicate(self, document: Document, digest: str) -> bool:
        """Whether another document with the same bytes is asked about, or was: one that has some answers is
        given the others."""
        if self._originals is None:
            return False
        return not self._originals.is_original(digest, document.document_id)

    def _pieces(self, document: Document) -> Iterator[bytes]:
        storage = open_storage(document.place, self._storage)
        at, size = 0, document.size or 0
        while at < size:
            piece = storage.read(
                document.place, version=document.version, start=at, length=min(PIECE_BYTES, size - at)
            )
            if not piece:
                return
            at += len(piece)
            yield piece

    def _written(self, first: bytes, rest: Iterator[bytes], state: Any) -> Path:
        try:
            folder = self._scratch.folder()
            try:
                with (folder / DOCUMENT).open("wb", buffering=0) as file:
                    for piece in chain((first,), rest):
                        state.update(piece)
                        view = memoryview(piece)
                        while view:
                            # A disk that fills up takes what there is room for, and complains the next time.
                            view = view[file.write(view) :]
            except BaseException:
                self._scratch.release(folder)
                raise
        except OSError as error:
            raise StorageUnavailable(
                f"the scratch folder of this worker (TMPDIR) cannot be written: {error.strerror}",
                stage="fetch",
            ) from error
        return folder

    def _held(self, fetched: Fetched) -> Iterator[Fetched]:
        try:
            yield fetched
        finally:
            self._release(fetched)

    def _release(self, fetched: Fetched) -> None:
        if fetched.folder is not None:
            self._scratch.release(fetched.folder)
