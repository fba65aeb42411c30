"""What runs that died left behind below an output: nothing reads it, and it costs room."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.lake.staged import discard_dead
from pipelines.lease import Lease
from pipelines.occupancy import refuse_no_output
from schemas.storage import StorageOptions
from workers.sinks.parquet import FILTERED_FOLDER
from workers.storage.factory import join, list_if_there, normalise, open_storage

if TYPE_CHECKING:
    from workers.storage import Storage


def remove_leftovers(output: str, options: StorageOptions | None = None) -> int:
    """Remove half-written files and uploads, what was staged for a table and never committed, and the lists
    of runs that never ended. Takes the lease.

    Returns:
        How many there were.

    Raises:
        JobError: a run writes to the output, or none ever has.
        GemstreamError: the output cannot be read or written.
    """
    root, options = normalise(output), options or StorageOptions()
    storage = open_storage(root, options)
    refuse_no_output(root, options, "what lies there is nothing of ours to remove")
    with Lease(root, options, "gc", None):
        unfinished = storage.remove_unfinished(root) + discard_dead(root, options)
        return unfinished + _remove_lists(storage, root)


def _remove_lists(storage: Storage, root: str) -> int:
    """A run's list is one file once it has ended, and what it filtered is read by nobody if it never has.
    Its job.yaml stays: answers and errors name the run."""
    runs = join(root, "_runs")
    found = [info.uri for info in list_if_there(storage, runs)]
    # Below the runs alone: the output's own address may have folders of these names.
    within = {uri: tuple(uri.removeprefix(join(runs, "")).split("/")) for uri in found}
    ended = {run for run, *rest in within.values() if rest == ["counts.json"]}
    left = [
        uri
        for uri, (run, *rest) in within.items()
        if rest[:-1] == ["listed"] or (rest[:-1] == [FILTERED_FOLDER] and run not in ended)
    ]
    for uri in left:
        storage.delete(uri)
    return len(left)
