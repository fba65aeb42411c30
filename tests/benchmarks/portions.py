"""Our side of a contest: one run of the real pipeline, whose list of documents grows portion by portion.

Everything else is as in any run: the listing, the graph, the engine, the part files. A portion is answered
when its last part file is there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from pipelines import runner, stream
from pipelines.progress import Progress
from pipelines.publish import Publisher
from pipelines.sources import open_source
from schemas.job import JobSpec, make_job
from schemas.storage import StorageOptions
from tests.benchmarks.contest import Turns
from tests.benchmarks.processes import MIB

PUSH_BYTES = 1_200_000
"""Ray Data hands a read task's rows on by the mebibyte or at its end. A real list is as long as that; a
portion of a few hundred documents is not, so the first of them carries what is missing, as a manifest's
column."""
ATTRIBUTES = pa.struct([pa.field("push", pa.string())])


class Portions:
    """A `Source` of the folders that are named in a pipe, each listed when it is named.

    Args:
        pipe: a FIFO; the list ends when its writer closes it.
    """

    attributes = ATTRIBUTES
    duplicates = 0

    def __init__(self, pipe: Path) -> None:
        self._pipe = pipe

    def check(self) -> None:
        """There is nothing to list yet."""

    def documents(self) -> Iterator[pa.Table]:
        """See `Source.documents`."""
        with self._pipe.open() as names:
            for name in names:
                listed = pa.concat_tables(open_source([name.strip()], StorageOptions()).documents())
                push = pa.array([{"push": "." * PUSH_BYTES}] + [None] * (len(listed) - 1), ATTRIBUTES)
                yield listed.append_column("attributes", push)


class Handing(Progress):
    """Hands the run its next portion when the last one is written, and says how long that took.

    The run tells it every half second how far it is. The next portion is waited for in the driver's own
    thread, which has nothing to do meanwhile.
    """

    def __init__(self, console: Console, turns: Turns, pipe: Path, output: Path) -> None:
        super().__init__(console)
        self._turns, self._portions = turns, iter(turns)
        self._path, self._pipe, self._output = pipe, None, output
        self._due = self._size = 0
        self._handed = self._stored = 0.0

    def update(self, counts: dict[tuple[str, str], int], **said: Any) -> None:
        """See `Progress.update`."""
        super().update(counts, **said)
        self._stored = max(self._stored, stored())
        if said["ended"] or said["written"] < self._due:
            return
        if self._pipe is None:
            self._pipe = self._path.open("w")
        else:
            self._answered()
        portion = next(self._portions, None)
        if portion is None:
            self._pipe.close()
            return
        self._size = len(list(portion.iterdir()))
        self._due += self._size
        self._handed = time.time()
        self._pipe.write(f"{portion}\n")
        self._pipe.flush()

    def complete(self, publisher: Publisher) -> bool:
        """Whether all of the portion has left the engine: then it is published, as at the end of any run."""
        return publisher._rows >= self._size

    def _answered(self) -> None:
        files = {path: path.stat().st_mtime for path in self._output.rglob("part-*.parquet")}
        new = [path for path, written in files.items() if written >= self._handed]
        if any("errors" in path.parts for path in new):
            raise RuntimeError(f"not all were answered: see {self._output}/errors")
        tokens = sum(
            sum(pq.read_table(path, columns=["output_tokens"], partitioning=None)[0].to_pylist())
            for path in new
        )
        seconds = max(files.values()) - self._handed
        self._turns.answered(self._size, seconds, tokens, stored=self._stored)
        self._stored = 0.0


def stored() -> float:
    """MiB in Ray's object store."""
    import ray

    name = "object_store_memory"
    return float(ray.cluster_resources()[name] - ray.available_resources().get(name, 0.0)) / MIB


def run_portions(job: JobSpec, folder: Path, turns: Turns) -> runner.RunReport:
    """Run a job over the portions that it is handed."""
    pipe = folder / "portions.pipe"
    os.mkfifo(pipe)
    handing: list[Handing] = []

    def shown(console: Console) -> Handing:
        handing.append(Handing(console, turns, pipe, Path(job.output)))
        return handing[0]

    with (
        patch.object(runner, "source_of", lambda job: Portions(pipe)),
        patch.object(stream, "Progress", shown),
        patch.object(Publisher, "_due", lambda publisher: handing[0].complete(publisher)),
    ):
        report = runner.run(job, Console(stderr=True))
    (folder / "report.json").write_text(report.model_dump_json(indent=1))
    return report


def job_for(folder: Path, tasks: list[Any], **settings: Any) -> JobSpec:
    """A job of these tasks, which writes below a folder."""
    return make_job({"input": str(folder), "output": str(folder / "output"), "tasks": tasks, **settings})


def said(name: str, characters: int) -> dict[str, Any]:
    """A task whose answer can be of one length only: the schema that holds the model to it has one value."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "enum": ["7" * characters]}},
        "required": ["a"],
        "additionalProperties": False,
    }
    tokens = 2 * characters + 16
    return {"task": "extract", "name": name, "schema": schema, "max_tokens": tokens, "prompt": "Say it."}
