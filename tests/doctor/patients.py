"""What the tests of the checks share: a patient, and how each of its findings came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.doctor import Finding, Patient
from schemas.job import make_job

if TYPE_CHECKING:
    from collections.abc import Iterable


def patient(address: str | None = None, **settings: Any) -> Patient:
    """A job of these settings and nothing else named, as the command makes it."""
    named = {"input": "nowhere", "output": "nowhere", "tasks": ["ocr"]} | settings
    if "manifest" in settings:
        del named["input"]
    job = make_job(named)
    return Patient(
        job=job,
        sources=(job.manifest,) if job.manifest else job.input if "input" in settings else (),
        output=job.output if "output" in settings else None,
        has_tasks="tasks" in settings,
        address=address,
    )


def told(findings: Iterable[Finding]) -> dict[str, str]:
    """First word of the subject -> status, and what is so, and what to do: one line each."""
    return {
        finding.subject.partition(" ")[0]: f"{finding.status}: {finding.told} -> {finding.todo}"
        for finding in findings
    }
