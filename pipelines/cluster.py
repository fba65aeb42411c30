"""Ray: somebody's cluster, or one of our own on this machine that leaves nothing behind."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from schemas.errors import GemstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

LOGICAL_CPUS = 8
"""On a laptop actors hold a logical CPU each while they wait, so there must be more of those than
cores, or the last stage never starts."""
END_SECONDS = 10.0
"""vLLM's processes end themselves within 5 s of their actor; what is still there then is killed."""

log = logging.getLogger("gemstream")


@contextmanager
def cluster() -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or start one that ends with this block."""
    import ray

    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": log.isEnabledFor(logging.DEBUG), "logging_level": logging.ERROR}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**quiet)
        try:
            yield
        finally:
            ray.shutdown()
        return
    with _own(quiet):
        yield


@contextmanager
def _own(quiet: dict[str, Any]) -> Iterator[None]:
    import psutil
    import ray

    # Ray's core prints advice about its own actors as errors; what is fatal still shows.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    myself = psutil.Process()
    others = set(myself.children())
    ray.init(num_cpus=max(LOGICAL_CPUS, os.cpu_count() or 1), include_dashboard=False, **quiet)
    roots = [child for child in myself.children() if child not in others]
    try:
        yield
    finally:
        family = [member for root in roots for member in _tree(root)]
        ray.shutdown()
        _, left = psutil.wait_procs(family, timeout=END_SECONDS)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=END_SECONDS)


def unwrapped(error: BaseException) -> GemstreamError:
    """What went wrong, out of what Ray wraps around it on the way from another process.

    An error of ours is that error. Anything else is a defect: it keeps Ray's text, which has the
    trace of the process it happened in.
    """
    inner: BaseException | None = error
    while inner is not None:
        cause = getattr(inner, "cause", None)  # Ray's wrapper is of the wrapped error's class, too
        if isinstance(inner, GemstreamError) and cause is None:
            return inner
        inner = cause or inner.__cause__
    return GemstreamError(f"a stage failed, which is a defect; please report it with this:\n{error}")


def _tree(root: psutil.Process) -> list[psutil.Process]:
    import psutil

    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
