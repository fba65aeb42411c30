"""Which runs have data files beside a table that are in no snapshot yet: so that those of dead ones go.

Before a run writes such a file it says so in a small object, `_runs/<run_id>/staged-<table>.json`, and takes
that back once they are in. What a run that died has left is removed by the next, or by `gemstream gc`.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipelines.lease import live_runs
from schemas.errors import JobError, ObjectMissing
from schemas.ids import digest
from schemas.tables import Place
from workers.storage.factory import join, list_if_there, open_storage
from workers.tables import open_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.storage import StorageOptions
    from workers.storage import Storage


@contextmanager
def marked(output: str, options: StorageOptions, run_id: str, place: Place) -> Iterator[None]:
    """While files of a run may lie beside a table. An error leaves the mark: they still do."""
    uri = join(output, "_runs", run_id, f"staged-{digest(place.model_dump_json())}.json")
    storage = open_storage(uri, options)
    storage.publish(uri, place.model_dump_json().encode())
    yield
    storage.delete(uri)


def discard_dead(output: str, options: StorageOptions) -> int:
    """Remove what runs that are not alive any more staged and never committed. To be called under the lease.

    A run whose lease ran out counts as dead, and looks at its lease again before it commits.

    Returns:
        How many files there were.

    Raises:
        JobError: a format whose library is not installed.
        GemstreamError: the output, a store or a catalog does not answer.
    """
    runs = join(output, "_runs", "")
    storage = open_storage(output, options)
    marks = [(uri, uri.removeprefix(runs).split("/")[0]) for uri in _marks(storage, runs)]
    # Looked at after the marks: a run that has begun since has none among them.
    alive = live_runs(output, options) if marks else set()
    removed = 0
    for uri, run_id in marks:
        if run_id not in alive and (place := _place(storage, uri)) is not None:
            removed += open_table(place, options).discard(run_id)
            storage.delete(uri)
    return removed


def _marks(storage: Storage, runs: str) -> list[str]:
    found = [info.uri for info in list_if_there(storage, runs)]
    return [uri for uri in found if uri.rpartition("/")[2].startswith("staged-") and uri.endswith(".json")]


def _place(storage: Storage, uri: str) -> Place | None:
    """Where a mark says that files lie; None if its run, which has ended since, took it back."""
    with suppress(ObjectMissing):
        content = storage.read(uri)
        try:
            return Place.model_validate_json(content)
        except ValidationError as error:
            raise JobError(f"{uri} is none that this version reads; delete it", key="output") from error
    return None
