"""`gemstream evaluate`: the answers of an output beside what they should be, and how far off they are."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.holdings import settled_down
from pipelines.naming import fault, placed
from pipelines.quality import DocumentQuality, Quality, TaskQuality
from pipelines.references import read_references
from pipelines.textlayer import read_text_layer
from schemas.errors import JobError
from schemas.tasks import task_class
from workers.metrics import METRICS, library
from workers.metrics.fields import meant
from workers.registry import resolve
from workers.sinks.reading import part_files, read_columns, read_part
from workers.storage.factory import join, normalise, open_storage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pipelines.naming import Key
    from pipelines.references import Reference
    from schemas.job import JobSpec
    from workers.metrics import Metric
    from workers.storage import ObjectInfo, Storage, StorageOptions

TEXT_LAYER = "text-layer"


@dataclass(frozen=True)
class Judged:
    """A task of the output: what kind it is of, how it is scored."""

    name: str
    kind: str
    metric: Metric


def evaluate(
    output: str,
    references: str,
    job: JobSpec,
    *,
    tasks: Collection[str] = (),
    sample: int | None = None,
    fold: bool = False,
) -> Quality:
    """Hold what an output says against what it should say.

    A reference without an answer counts as an answer that says nothing, and is counted as missing.
    Memory: the references and the answers to them; all else streams by.

    Args:
        output: of a job.
        references: a .csv, .jsonl or .parquet (see `read_references`), or "text-layer": pages of the
            output's PDFs are opened again, and what they carry as text is what `ocr` should have read.
        job: how to reach the stores, and what documents may cost to open; nothing else of it is asked.
        tasks: names of the tasks to look at; all if none is given.
        sample: documents to open for "text-layer", the same ones each time.
        fold: compare without case, and texts without punctuation.

    Raises:
        JobError: references that make no sense, or none of them is about a document of the output.
        GemstreamError: the output or the references cannot be read.
    """
    if sample is not None and references != TEXT_LAYER:
        raise JobError(
            f"--sample goes with --references {TEXT_LAYER}: a file is compared whole", key="sample"
        )
    return settled_down()(_evaluate, normalise(output), references, job, tasks, sample, fold)


def _evaluate(
    output: str, references: str, job: JobSpec, names: Collection[str], sample: int | None, fold: bool
) -> Quality:
    judged = _judged(output, job.storage, fold)
    asked = {name: _asked(name, judged).metric for name in sorted(names or judged)}
    unused: tuple[str, ...] = ()
    left_out: Mapping[str, int] = {}
    rows: Sequence[Reference]
    if references == TEXT_LAYER:
        ocr = {name: metric for name, metric in asked.items() if task_class(judged[name].kind).copies}
        rows, left_out = read_text_layer(output, ocr, job, sample)
    else:
        metrics = {name: task.metric for name, task in judged.items()}
        read = read_references(references, job.storage, metrics, asked)
        rows, unused = read.rows, read.unused
    named, unknown = placed(rows, output, judged, job.storage)
    tasks, documents = {}, []
    for name, wanted in sorted(named.items()):
        answers, besides = _answers(output, job.storage, judged[name], wanted)
        tasks[name], found = _score(judged[name], wanted, answers, besides)
        documents += found
    return Quality(
        output=output,
        references=references,
        tasks=tasks,
        documents=tuple(documents),
        unknown=unknown,
        unused=unused,
        left_out=dict(left_out),
    )


def _judged(output: str, options: StorageOptions, fold: bool) -> dict[str, Judged]:
    """The tasks of the output.

    Raises:
        JobError: there is none.
    """
    files: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
    storage = open_storage(output, options)
    for info in part_files(storage, join(output, "records")):
        files[info.uri.rpartition("/task=")[2].partition("/")[0]].append(info)
    if not files:
        raise JobError(f"{output} holds no records: no run of Gemstream has written to it", key="output")
    return {name: _task(name, files[name], storage, fold) for name in sorted(files)}


def _asked(name: str, judged: Mapping[str, Judged]) -> Judged:
    """The task of that name, once what scores it is known to be installed.

    Raises:
        JobError: there is no such task, or it is not.
    """
    if name not in judged:
        raise JobError(f"--task {name!r}: no answers to it in this output{meant(name, judged)}", key="task")
    if judged[name].metric.library:
        library(judged[name].metric.library)
    return judged[name]


def _task(name: str, files: list[ObjectInfo], storage: Storage, fold: bool) -> Judged:
    """What the latest part file says of a task: its name is the job's choice, its kind is in the footer."""
    file = max(files, key=lambda info: (info.modified is not None, info.modified))
    part = read_part(storage, file, ["fingerprint"])
    made_of = json.loads(part.facts.get(part.rows["fingerprint"][0].as_py(), "{}"))
    kind = made_of.get("task", name).partition("/")[0]
    metric: type[Metric] = resolve(METRICS, kind, "metric")
    data_type = None
    if metric.expects == "data":
        data_type = read_part(storage, file, ["data"]).rows.schema.field("data").type
    return Judged(name, kind, metric(data_type, fold))


def _answers(
    output: str, options: StorageOptions, task: Judged, wanted: Mapping[Key, Reference]
) -> tuple[dict[Key, Any], int]:
    """The answers to a task that references are about, and how many answers there are besides."""
    column = "data" if task.metric.expects == "data" else "text"
    uris = pa.array({uri for uri, _ in wanted}, pa.string())
    latest: dict[Key, tuple[Any, Any]] = {}
    besides = 0
    columns = ["uri", "part_index", "answered_at", column]
    for rows in read_columns(output, options, f"records/task={task.name}", columns):
        about = rows.filter(pc.is_in(rows["uri"], uris))
        besides += len(rows) - len(about)
        for uri, part, at, answer in _tuples(about, columns):
            if (uri, part) not in wanted and (uri, None) not in wanted:
                besides += 1
            # Until a run has swept, the later of two answers is the current one.
            elif (uri, part) not in latest or at > latest[uri, part][0]:
                latest[uri, part] = (at, answer)
    answers = {key: answer for key, (_, answer) in latest.items()}
    whole = {uri: reference for (uri, part), reference in wanted.items() if part is None}
    if whole and task.metric.expects == "text":
        return answers | _texts(output, options, task.name, whole), besides
    parts: defaultdict[str, list[Any]] = defaultdict(list)
    for (uri, _), answer in sorted(answers.items(), key=lambda item: item[0]):
        parts[uri].append(answer)
    for uri, reference in whole.items():
        if parts[uri]:
            try:
                answers[uri, None] = task.metric.whole(parts[uri])
            except ValueError as error:
                raise fault(f"row {reference.row}: {task.name} of {uri}: {error}") from error
    return answers, besides


def _texts(output: str, options: StorageOptions, task: str, wanted: Collection[str]) -> dict[Key, Any]:
    """The texts of whole documents, as `documents/` has them since the last run that ended."""
    uris, columns = pa.array(wanted, pa.string()), ["uri", "run_id", "texts"]
    latest: dict[Key, tuple[str, str]] = {}
    for rows in read_columns(output, options, "documents", columns):
        for uri, run_id, texts in _tuples(rows.filter(pc.is_in(rows["uri"], uris)), columns):
            text = dict(texts).get(task)
            # Run ids begin with their time.
            if text is not None and ((uri, None) not in latest or run_id > latest[uri, None][0]):
                latest[uri, None] = (run_id, text)
    return {key: text for key, (_, text) in latest.items()}


def _score(
    task: Judged, wanted: Mapping[Key, Reference], answers: Mapping[Key, Any], besides: int
) -> tuple[TaskQuality, list[DocumentQuality]]:
    """The task, and its documents, the worst first."""
    counts: defaultdict[str, Counter[Any]] = defaultdict(Counter)
    references = Counter(uri for uri, _ in wanted)
    missing: Counter[str] = Counter()
    for key, reference in wanted.items():
        counts[key[0]].update(task.metric.count(reference.expected, answers.get(key)))
        missing[key[0]] += key not in answers
    total: Counter[Any] = Counter()
    for counted in counts.values():
        total.update(counted)
    documents = [
        DocumentQuality(
            uri=uri,
            task=task.name,
            references=references[uri],
            missing=missing[uri],
            scores=task.metric.scores(counted),
        )
        for uri, counted in counts.items()
    ]
    sign = 1 if task.metric.rising else -1
    documents.sort(key=lambda document: (sign * document.scores[task.metric.leads], document.uri))
    quality = TaskQuality(
        kind=task.kind,
        documents=len(documents),
        references=len(wanted),
        missing=missing.total(),
        unreferenced=besides,
        scores=task.metric.scores(total),
        details=task.metric.details(total),
    )
    return quality, documents


def _tuples(rows: pa.Table, columns: Iterable[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in columns), strict=True)
