"""The memory that there is for whatever runs here."""

from __future__ import annotations

import math
from pathlib import Path

import psutil

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container is told its own, by the second and the first version of cgroups."""


def free() -> float:
    """Bytes that nobody uses: of the machine, or of what a container may have."""
    return min(float(psutil.virtual_memory().available), _limit())


def total() -> float:
    """Bytes of the machine, or of what a container may have."""
    return min(float(psutil.virtual_memory().total), _limit())


def _limit() -> float:
    for place in map(Path, LIMITS):
        if place.is_file() and (told := place.read_text().strip()).isdigit():
            return float(told)
    return math.inf
