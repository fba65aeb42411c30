"""A run whose document, answers and errors are as hostile as they can be, and what its page is made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from deploy.demo.documents import EXAMPLES
from pipelines.plan import Plan, make_plan
from pipelines.report import Counts, FaultCounts, RunReport, TaskCounts
from schemas.job import make_job
from schemas.rows import Status
from schemas.storage import StorageOptions
from tests.fixtures.runs import GEMMA3
from tests.pipelines.outputs import RUN, answer, write
from workers.storage.factory import join, normalise, open_storage

SCRIPT = "<script>document.title='owned'</script>"
HOSTILE = (
    f"</style></pre></svg>{SCRIPT}<img src=x onerror=\"document.title='owned'\">'\"&amp;"
    "\u202egnp.\x00\x1b[31m"
)
LONG = 100_000
AT = datetime(2026, 1, 1, tzinfo=UTC)
SECRETS = {
    "expand": {"passwords": ["hunter2"]},
    "engine": {"kind": "vllm", "options": {"hf_token": "hf_hunter2"}},
    "storage": {"endpoint_url": "http://me:hunter2@127.0.0.1:1"},
}


@dataclass(frozen=True)
class Ended:
    """A run that has come to its end."""

    plan: Plan
    report: RunReport
    document: Path

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.report.output.removeprefix("file://")) / "_runs" / RUN


def ended(folder: Path) -> Ended:
    """One picture, whose name and answers are hostile, asked three things: answered, held not, failed."""
    document = folder / "in" / "<script>alert(1)<" / "style>\u202e\"'&.png"
    document.parent.mkdir(parents=True)
    document.write_bytes((EXAMPLES / "shapes" / "circle.png").read_bytes())
    uri = normalise(str(document))
    info = open_storage(uri, StorageOptions()).info(uri)
    facts = {
        **{"version": info.version, "media_type": "image/png", "part_kind": "image", "shown": "image"},
        **{"output_tokens": 9, "seconds": 0.5, "confidence": 0.75, "answered_at": AT},
    }
    error = {"stage": "validate", "category": "looping", "message": HOSTILE, "transient": False}
    rows = [
        answer(uri, "ocr", HOSTILE + "x" * LONG, **facts),
        answer(uri, "translate", HOSTILE, **facts, valid=False, invalid_fields=[HOSTILE]),
        answer(uri, "classify", HOSTILE, **facts) | {"status": Status.ERROR.value, "error": error},
        # Of another run, and none of this one's.
        answer("other.pdf", "ocr", "something else", run_id="20250101T000000-fedcba"),
    ]
    output = write(normalise(str(folder / "out")), rows)
    job = make_job(
        {
            "input": str(folder / "in"),
            "output": output,
            "tasks": [
                "ocr",
                {"task": "caption", "name": "translate"},
                {"task": "classify", "labels": ["a", "b"]},
            ],
            "models": {"vision": str(GEMMA3)},
            "engine": {"kind": "fault"},
        }
    )
    report = RunReport(
        run_id=RUN,
        output=output,
        started=AT,
        seconds=10.0,
        counts=Counts(listed=1, partial=1),
        tasks={
            name: TaskCounts(answers=1, prompt_tokens=9, output_tokens=9, seconds=0.5) for name in ("ocr",)
        },
        faults=(FaultCounts(status="error", stage="validate", category="looping", rows=1),),
    )
    storage = open_storage(output, job.storage)
    storage.publish(join(output, "_runs", RUN, "report.json"), report.model_dump_json().encode())
    return Ended(replace(make_plan(job, None, 0.0), run_id=RUN), report, document)
