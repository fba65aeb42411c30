"""Reading a few columns back from what is already in the output, without moving the texts."""

from __future__ import annotations

import json
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from schemas.errors import JobError, ObjectChanged, ObjectMissing
from workers.sinks.parquet import METADATA_KEY
from workers.storage.factory import join, list_if_there, normalise, open_storage, scheme
from workers.storage.stream import open_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from workers.storage import ObjectInfo, Storage, StorageOptions

WHOLE_BYTES = 1024 * 1024
"""Files up to this size come in one request; a larger one takes about four (footer and columns)."""

FILES_AT_ONCE = 8
"""Of a store, which is waited for. Of this machine's own, one a core: 20,000 rows take 5 ms of CPU, and over
50 such files eight threads on two cores took 0.36 s where two took 0.27, for they woke each other."""
SWEEPING_SECONDS = 600.0
"""For so long others may sweep a file all the while that a run of one shard among many reads or sweeps it."""


@dataclass(frozen=True, slots=True)
class PartFile:
    """Some columns of one part file, and what its footer says: of the job that wrote it, how many rows there
    are (of a table without columns, Arrow does not know), and all of its columns."""

    info: ObjectInfo
    rows: pa.Table
    facts: dict[str, Any]
    count: int
    schema: pa.Schema


def read_columns(
    output: str, storage_options: StorageOptions, sub: str, columns: Sequence[str]
) -> Iterator[pa.Table]:
    """The rows of `read_parts`, a table per file."""
    for part in read_parts(output, storage_options, sub, columns):
        yield part.rows


def read_parts(
    output: str,
    storage_options: StorageOptions,
    sub: str,
    columns: Sequence[str],
    condense: Callable[[pa.Table], pa.Table] | None = None,
    encoded: Sequence[str] = (),
    *,
    unmoved: bool = False,
) -> Iterator[PartFile]:
    """Stream these columns of every part file under a folder of the output.

    Several files are read ahead at a time; their order is the listing's. Whatever is not named
    `part-*.parquet` is passed over. A folder that is not there yet yields nothing.

    Args:
        output: the job's output.
        storage_options: how to reach it.
        sub: the folder below it, such as "records/task=ocr".
        columns: names of top-level columns, in the order wanted.
        condense: what is to become of a file's rows. It is done where they are read, several files at a time.
        encoded: the columns of strings that come as dictionaries, as the files have them: 4 bytes a row.
        unmoved: that nobody else moves the rows which are wanted of it from file to file. A file that changes
            after it was listed is read as it is then, and one that goes is passed over; as a rule they raise.

    Raises:
        JobError: a part file that is no Parquet, or lacks one of the columns: another job's output.
        GemstreamError: what `Storage.list` and `Storage.read` raise.
    """

    def read(info: ObjectInfo) -> PartFile | None:
        part = reading(storage, info, list(columns), encoded)
        return part if part is None or condense is None else replace(part, rows=condense(part.rows))

    reading: Callable[..., PartFile | None] = read_latest if unmoved else read_part
    folder = join(normalise(output), sub)
    storage = open_storage(folder, storage_options)
    at_once = min(FILES_AT_ONCE, os.cpu_count() or 1) if scheme(folder) == "file" else FILES_AT_ONCE
    with ThreadPoolExecutor(at_once, thread_name_prefix="ledger") as threads:
        ahead: deque[Future[PartFile | None]] = deque()
        for info in part_files(storage, folder):
            ahead.append(threads.submit(read, info))
            if len(ahead) > at_once and (part := ahead.popleft().result()) is not None:
                yield part
        while ahead:
            if (part := ahead.popleft().result()) is not None:
                yield part


def part_files(storage: Storage, folder: str) -> Iterator[ObjectInfo]:
    """The part files below a folder; none if it is not there yet. Raises what `list_if_there` raises."""
    for info in list_if_there(storage, folder):
        name = info.uri.rpartition("/")[2]
        if name.startswith("part-") and name.endswith(".parquet"):
            yield info


@contextmanager
def readable(info: ObjectInfo) -> Iterator[None]:
    """While a part file is read: what is no Parquet, or damaged, is named.

    Raises:
        JobError: it is.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:  # of a damaged footer or page Arrow says OSError
        raise JobError(
            f"{info.uri} is no Parquet file, or a damaged one; move it out of the output", key="output"
        ) from error


def read_part(
    storage: Storage, info: ObjectInfo, columns: list[str], encoded: Sequence[str] = ()
) -> PartFile:
    """These columns of one part file, some as dictionaries. Raises what `read_parts` raises."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = info.size <= WHOLE_BYTES
    if whole:
        source = pa.BufferReader(storage.read(info.uri, version=info.version))
    else:
        source = open_object(storage, info, read_ahead=0)
    with readable(info):
        # What is in memory already would be copied, by a thread of Arrow's that has to be woken for it.
        file = pq.ParquetFile(source, pre_buffer=not whole, read_dictionary=list(encoded))
    schema = file.schema_arrow
    lacking = [name for name in columns if name not in schema.names]
    if lacking:
        raise JobError(
            f"{info.uri} has no column {lacking[0]!r}: another program wrote it; choose an output of its own",
            key="output",
        )
    with readable(info):
        rows = file.read(columns=columns, use_threads=False).select(columns).replace_schema_metadata()
    facts = json.loads((file.metadata.metadata or {}).get(METADATA_KEY, b"{}"))
    return PartFile(info, rows, facts, file.metadata.num_rows, schema.remove_metadata())


def read_latest(
    storage: Storage, info: ObjectInfo, columns: list[str], encoded: Sequence[str] = ()
) -> PartFile | None:
    """The same of a file as it is now, though others sweep it again and again; None if it is gone."""
    latest = info

    def read() -> PartFile:
        nonlocal latest
        try:
            return read_part(storage, latest, columns, encoded)
        except ObjectChanged:
            latest = storage.info(info.uri)
            raise

    try:
        # Whoever changed it was one of many, and came to an end with it.
        return Retrying(
            retry=retry_if_exception_type(ObjectChanged),
            stop=stop_after_delay(SWEEPING_SECONDS),
            wait=wait_random(0, 0.1),
            reraise=True,
        )(read)
    except ObjectMissing:
        return None
