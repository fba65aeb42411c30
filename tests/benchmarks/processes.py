"""What the processes of one side take: CPU seconds by what they do, and memory that is counted once."""

from __future__ import annotations

from collections import Counter

import psutil

VLLM, HOST, DRIVER = "vLLM", "engine's host", "driver"
KINDS = (
    ("VLLM::", VLLM),
    ("MapBatches(Infer)", HOST),
    ("vLLMEngineStage", HOST),
    ("MapBatches(Expand)", "expand"),
    ("ray::", "Ray's workers"),
    ("raylet", "Ray's own"),
    ("gcs_server", "Ray's own"),
    ("ray/", "Ray's own"),
)
"""Part of a process's title -> what it is. The first that fits; of no title, what its parent is."""
MIB = 1024 * 1024


def family(root: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    return [root, *root.children(recursive=True)]


def _kind(process: psutil.Process, known: dict[int, str]) -> str:
    title = " ".join(process.cmdline())
    found = next((kind for part, kind in KINDS if part in title), None)
    return found or known.get(process.ppid(), DRIVER)


def cpu(root: psutil.Process) -> Counter[str]:
    """CPU seconds so far, by kind. Those of a process that has ended are in its parent, which waited for it."""
    seconds: Counter[str] = Counter()
    known: dict[int, str] = {}
    for process in family(root):
        try:
            with process.oneshot():
                kind = known[process.pid] = DRIVER if process == root else _kind(process, known)
                seconds[kind] += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue  # it ended between two lines of ours
    return seconds


def memory(root: psutil.Process) -> Counter[str]:
    """MiB by kind. What several processes share, Ray's object store above all, is divided among them (PSS)."""
    mib: Counter[str] = Counter()
    known: dict[int, str] = {}
    for process in family(root):
        try:
            kind = known[process.pid] = DRIVER if process == root else _kind(process, known)
            mib[kind] += process.memory_full_info().pss / MIB
        except psutil.NoSuchProcess:
            continue
    return mib
