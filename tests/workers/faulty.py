"""What a parser may do to its process. Runs in the guard's child, so it imports little."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from itertools import islice
from pathlib import Path

from schemas.errors import EncryptedDocument


class Unpicklable(Exception):
    """An error whose class cannot be rebuilt from its arguments, as dozens of libraries have."""

    def __init__(self, path, code):
        super().__init__(f"cannot read {path}")
        self.code = code

    def __reduce__(self):
        raise TypeError("not today")


class Exploit:
    """What a process that was taken over might send."""

    def __reduce__(self):
        return os.system, ("touch /tmp/gemstream-was-here",)


def numbers(count):
    yield from range(count)


def who():
    yield os.getpid()


def environment():
    yield Path("/proc/self/environ").read_bytes().decode(), dict(os.environ)


def segfault():
    yield "before"
    ctypes.string_at(0)


def hang():
    yield "before"
    time.sleep(600)


def hang_deaf():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Holds the interpreter's lock, as a native parser does.
    ctypes.PyDLL(None).sleep(600)
    yield


def bloat():
    held = []
    while True:
        held.append(bytearray(32 * 1024 * 1024))
        yield len(held)


def leave():
    os._exit(7)
    yield


def abort():
    os.write(2, b"free(): invalid pointer\n")
    os.abort()
    yield


def refuse(path: Path):
    raise Unpicklable(path, 3)
    yield


def refuse_ours():
    raise EncryptedDocument("it needs a password", tried=2)
    yield


def refuse_silently():
    raise ValueError
    yield


def broken_installation():
    raise ImportError("libfoo.so: no such file")
    yield


def full_disk():
    raise OSError(28, "No space left on device")
    yield


def send_lambda():
    yield lambda: None


def send_exploit():
    yield Exploit()


def send_big(size):
    yield bytes(size)


def say(message):
    """As a child that was taken over might."""
    end = _parent()
    end.sendall(len(message).to_bytes(8) + message)
    yield


def say_half(message):
    _parent().sendall(message)
    time.sleep(600)
    yield


def _parent():
    """The socket that the guard listens at."""
    return socket.socket(fileno=os.dup(int(sys.argv[2])))


def send_two(size):
    yield bytes(size)
    yield bytes(size)


def keep(size):
    """Leaks: the next document should not pay for it."""
    kept.append(bytearray(size))
    yield os.getpid()


kept: list[bytearray] = []


def grandparent():
    """Starts a guard of its own, and tells its child's process id."""
    from workers.guard import Guard

    guard = Guard(60, 1 << 30)
    stream = guard.stream((), hang)
    next(stream)
    yield guard.pid
    time.sleep(600)


def unlucky_expand(kind, path, scratch, options, limits, opened=None, start=0, stop=None, step=None):
    """The real `expand`, with a parser that dies on pages that say so, before it hands over their chunk."""
    from workers.expander import expand

    stream = expand(kind, path, scratch, options, limits, opened, start, stop, step)
    if opened is None:
        yield next(stream)
    while chunk := list(islice(stream, step or 8)):
        for part in chunk:
            if "CRASH" in (part.text or ""):
                ctypes.string_at(0)
            if "HANG" in (part.text or ""):
                time.sleep(600)
        yield from chunk
