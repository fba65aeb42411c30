"""The driver: `JobSpec` in, `RunReport` out.

from pipelines import JobSpec, run
report = run(JobSpec(input="s3://bucket/prefix", output="s3://bucket/table", tasks=["ocr"]))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.report import RunReport
    from pipelines.runner import run
    from schemas.job import JobSpec

__all__ = ["JobSpec", "RunReport", "run"]

_HOMES = {"JobSpec": "schemas.job", "RunReport": "pipelines.report", "run": "pipelines.runner"}


def __getattr__(name: str) -> Any:
    """Load on first use: `gemstream --help` imports this package and none of these."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
