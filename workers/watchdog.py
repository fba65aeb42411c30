"""Ends its own process when that no longer stirs, so that another can take its place.

A loop that a native call holds cannot notice it, nor can a thread that waits for the interpreter's lock.
faulthandler's timer runs outside of both. It writes every thread's stack to the log and leaves; Ray starts
the worker anew, and the journal remembers what it had in hand.
"""

from __future__ import annotations

import faulthandler
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STDERR = 2
"""By its number: sys.stderr may be something else, or nothing."""


class Watchdog:
    """One per process: the timer is the process's.

    Args:
        seconds: wall seconds without `feed` while there is work, until the process ends with status 1.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._works = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Within it, and within others of its kind at the same time, the process is to stir."""
        self._works += 1
        self.feed()
        try:
            yield
        finally:
            self._works -= 1
            if not self._works:
                faulthandler.cancel_dump_traceback_later()

    def feed(self) -> None:
        """Say that the process stirs."""
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=STDERR)
