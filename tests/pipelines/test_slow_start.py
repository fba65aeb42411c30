"""A machine on which Ray is slow to come up gets its run all the same, or a word of what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOWLY = """
import subprocess, sys
import psutil, ray
import pipelines.cluster
from pipelines.cluster import SLOW, cluster

init, left = ray.init, []
slow, pipelines.cluster.STARTS = map(int, sys.argv[1:])

def slowly(*args, **kwargs):
    # As Ray's node does: what it has started is still there when it gives up.
    if len(left) < slow:
        left.append(subprocess.Popen(["sleep", "600"]))
        raise Exception(f"{SLOW}. This could happen because")
    return init(*args, **kwargs)

ray.init = slowly
try:
    # What is printed while a run is connected goes to standard error: say it after.
    with cluster():
        answer = ray.get(ray.remote(num_cpus=0)(lambda: 7).remote())
    print("answered", answer)
except Exception as error:
    print(type(error).__name__, error)
print("left", sum(child.poll() is None for child in left), "of", len(left))
print("children", len(psutil.Process().children()))
"""


@pytest.mark.parametrize(
    ("slow", "tries", "said"),
    [
        # More tries than are made slow: the real one may be slow as well.
        (2, 5, ["answered 7", "left 0 of 2", "children 0"]),
        (3, 3, ["EngineUnavailable Ray did not come up", "left 0 of 3", "children 0"]),
    ],
)
def test_a_slow_start_is_tried_again(slow: int, tries: int, said: list[str]) -> None:
    command = [sys.executable, "-c", SLOWLY, str(slow), str(tries)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    for line, words in zip(done.stdout.splitlines(), said, strict=True):
        assert line.startswith(words), done.stdout
