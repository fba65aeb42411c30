"""A question that is asked in a process of its own: importing what answers it may crash, or never come back.

Not multiprocessing's spawn: it imports the parent's main module again, and waits at exit for a child that the
kernel cannot end (a process that hangs in a GPU's driver).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

BOOT = """
import importlib, json, os, signal, sys
sys.path[:] = json.loads(sys.argv[1])
# Whatever becomes of the parent, and of the interpreter in here.
signal.alarm(int(sys.argv[4]))
answer = os.dup(1)
os.dup2(2, 1)
module, _, name = sys.argv[2].partition(":")
said = getattr(importlib.import_module(module), name)(*json.loads(sys.argv[3]))
with os.fdopen(answer, "w") as pipe:
    json.dump(said, pipe)
sys.stdout.flush()
sys.stderr.flush()
# Threads that libraries have started are nobody's to wait for.
os._exit(0)
"""
DEATH_SECONDS = 1.0
"""For a child that is killed to be dead."""
LAST_LINES = 3
"""Of what a child wrote before it ended without an answer."""


class NoAnswer(Exception):
    """The child ended, or was ended, without one; the message says how."""


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    status: int
    output: str
    errors: str


def ask(question: str, arguments: list[Any], seconds: float, environment: dict[str, str]) -> Any:
    """What a function answers in a fresh interpreter.

    Args:
        question: "module:function"; it takes and gives JSON values.
        arguments: of the function.
        seconds: wall seconds to wait.
        environment: variables on top of this process's.

    Raises:
        NoAnswer: it raised, crashed, or did not come back.
    """
    command = [sys.executable, "-c", BOOT, json.dumps(sys.path), question]
    command += [json.dumps(arguments), str(int(seconds) + 5)]
    done = call(command, seconds, {**os.environ, **environment})
    if done.status < 0:
        raise NoAnswer(f"it ended the interpreter ({_signal(-done.status)})")
    try:
        return json.loads(done.output)
    except ValueError:
        last = " ".join(done.errors.strip().splitlines()[-LAST_LINES:])[-600:]
        raise NoAnswer(last or f"it ended with status {done.status} and said nothing") from None


def call(command: list[str], seconds: float, environment: dict[str, str] | None = None) -> Done:
    """Run a program to its end, or to the end of its time.

    Raises:
        NoAnswer: its time was up.
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {seconds:g} s") from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # One that hangs in the kernel does not end, and is not waited for.
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=DEATH_SECONDS)
    return Done(process.returncode, output, errors)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
