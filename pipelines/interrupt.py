"""Being told to end: the first signal asks for it, the second does not ask."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C; and what Kubernetes, Slurm, `ray job stop` and a spot notice send."""


@dataclass
class Interrupt:
    """`by` is the signal that came, if any has."""

    by: signal.Signals | None = None


@contextmanager
def interrupts() -> Iterator[Interrupt]:
    """Within it the first signal is noted, so that what is under way can be brought to an end, and the
    second raises KeyboardInterrupt where it finds the program.

    Only the main thread can take signals; in any other, as in a notebook's, nothing is noted.
    """
    interrupt = Interrupt()

    def note(number: int, frame: Any) -> None:
        if interrupt.by is not None:
            raise KeyboardInterrupt
        interrupt.by = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupted_anywhere() -> Iterator[None]:
    """Within it a signal that finds no `interrupts` around it, or is the second, ends the run as the first
    one does: by an error that says how to go on.

    SIGTERM raises SystemExit with its number as the code, which is Ray's own way while Ray starts.

    Raises:
        Interrupted: instead of KeyboardInterrupt and of that SystemExit.
    """

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(number)

    message = "a signal ended the run at once; what is written stays, run the same command to go on"
    before: Any = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(message) from error
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        raise Interrupted(message) from error
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
