"""A signal is answered wherever it finds the program, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pipelines.cluster import _sigterm_kept
from pipelines.interrupt import interrupted_anywhere, interrupts
from schemas.errors import Interrupted

IN_A_FORK = """
import os, signal
from pipelines.cluster import _sigterm_kept
from pipelines.interrupt import interrupted_anywhere
from schemas.errors import Interrupted

def ray_starts():
    signal.signal(signal.SIGTERM, lambda number, frame: exit(number))
    os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGTERM))
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    print("started")

try:
    with interrupted_anywhere(), _sigterm_kept():
        ray_starts()
except Interrupted as error:
    print(error.message)
"""


def test_sigterm_before_anything_is_under_way() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="run the same command to go on"), interrupted_anywhere():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_in_a_fork_hook_of_rays_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FORK], capture_output=True, text=True, timeout=60, check=True
    )
    started, message = done.stdout.splitlines()
    assert started == "started", "the hook's exception was dropped"
    assert "run the same command to go on" in message
    assert "Traceback" not in done.stderr


def test_nothing_came_while_ray_started() -> None:
    with interrupted_anywhere():
        before = signal.getsignal(signal.SIGTERM)
        with _sigterm_kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is before


def test_the_first_is_noted_and_the_second_does_not_ask() -> None:
    with pytest.raises(Interrupted), interrupted_anywhere(), interrupts() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.by is signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
