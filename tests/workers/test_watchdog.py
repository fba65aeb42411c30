"""A worker that no longer stirs ends itself; one that does, or has nothing to do, is left alone."""

from __future__ import annotations

import subprocess
import sys

PRELUDE = """
import ctypes, time
from workers.watchdog import Watchdog
dog = Watchdog(0.5)
"""


def ran(code: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a process that does this."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_native_call_that_holds_the_interpreter() -> None:
    done = ran("with dog.working():\n    ctypes.PyDLL(None).sleep(600)\n")
    assert done.returncode == 1
    assert "Timeout" in done.stderr and "<string>" in done.stderr, "it says where it stood"


def test_slow_work_that_stirs() -> None:
    done = ran("with dog.working():\n    for _ in range(10):\n        time.sleep(0.1)\n        dog.feed()\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_to_do() -> None:
    done = ran("with dog.working():\n    pass\ntime.sleep(1)\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_one_of_two_is_done() -> None:
    done = ran("with dog.working():\n    with dog.working():\n        pass\n    time.sleep(600)\n")
    assert done.returncode == 1
