"""A worker that no longer stirs ends itself; one that does, or has nothing to do, is left alone."""

from __future__ import annotations

import subprocess
import sys

PRELUDE = """
import ctypes, time
from workers.watchdog import Watchdog
dog = Watchdog({seconds})
"""


def ran(code: str, seconds: float = 0.5) -> subprocess.CompletedProcess[str]:
    """What becomes of a process that does this."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE.format(seconds=seconds) + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_native_call_that_holds_the_interpreter() -> None:
    done = ran("with dog.working():\n    ctypes.PyDLL(None).sleep(600)\n")
    assert done.returncode == 1
    assert "Timeout" in done.stderr and "<string>" in done.stderr, "it says where it stood"


def test_slow_work_that_stirs() -> None:
    # Longer than the dog waits, of which a machine that stands still for two seconds is no part.
    done = ran(
        "with dog.working():\n    for _ in range(35):\n        time.sleep(0.1)\n        dog.feed()\n", 3
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_to_do() -> None:
    done = ran("with dog.working():\n    pass\ntime.sleep(1)\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_one_of_two_is_done() -> None:
    done = ran("with dog.working():\n    with dog.working():\n        pass\n    time.sleep(600)\n")
    assert done.returncode == 1
