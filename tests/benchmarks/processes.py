"""What the processes of one side take: CPU seconds by what they do, and memory that is counted once."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress

import psutil

VLLM, HOST, DRIVER, EXPAND = "vLLM", "engine's host", "driver", "expand"
KINDS = (
    ("VLLM::", VLLM),
    ("MapBatches(Infer)", HOST),
    ("vLLMEngineStage", HOST),
    ("MapBatches(Expand)", EXPAND),
    ("ray::", "Ray's workers"),
    ("raylet", "Ray's own"),
    ("gcs_server", "Ray's own"),
    ("ray/_private/", "Ray's own"),
    ("ray/dashboard/", "Ray's own"),
)
"""Part of a process's title -> what it is. The first that fits; of no title, what its parent is."""
MIB = 1024 * 1024
LOOK_SECONDS = 1.0


def family(root: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    return [root, *root.children(recursive=True)]


def _kind(process: psutil.Process, known: dict[int, str]) -> str:
    if known.get(process.ppid()) == EXPAND:  # a parser, in whose title is all that it may import
        return EXPAND
    title = " ".join(process.cmdline())
    found = next((kind for part, kind in KINDS if part in title), None)
    return found or known.get(process.ppid(), DRIVER)


class Spent:
    """CPU seconds of a family, by kind, as far as they were seen.

    Processes come and go (parsers are replaced, actors scaled down), and what one has taken is gone with it:
    it is looked at every second, and what was seen last counts.

    Args:
        root: of the family.
    """

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._seen: dict[tuple[int, float], tuple[str, float]] = {}
        self._kinds: dict[int, str] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look_on, daemon=True)
        self._looking.start()

    def now(self) -> Counter[str]:
        """So far."""
        with self._lock:
            self._look()
            seconds: Counter[str] = Counter()
            for kind, spent in self._seen.values():
                seconds[kind] += spent
            return seconds

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._looking.join()

    def _look_on(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            with self._lock, suppress(psutil.NoSuchProcess):
                self._look()

    def _look(self) -> None:
        for process in family(self._root):
            with suppress(psutil.NoSuchProcess), process.oneshot():  # it ended between two lines of ours
                kind = self._kinds[process.pid] = (
                    DRIVER if process == self._root else _kind(process, self._kinds)
                )
                self._seen[process.pid, process.create_time()] = (kind, sum(process.cpu_times()[:2]))


def memory(root: psutil.Process) -> Counter[str]:
    """MiB by kind. What several processes share, Ray's object store above all, is divided among them."""
    mib: Counter[str] = Counter()
    known: dict[int, str] = {}
    for process in family(root):
        try:
            kind = known[process.pid] = DRIVER if process == root else _kind(process, known)
            mib[kind] += process.memory_full_info().pss / MIB
        except psutil.NoSuchProcess:
            continue
    return mib
