"""What goes between a guard and its child: messages that are whole and within their time, and say nothing but
what they may, whoever is at the other end."""

from __future__ import annotations

import io
import pickle
import struct
import time
from typing import TYPE_CHECKING, Any

from schemas import errors
from schemas.errors import GemstreamError, ParserCrashed

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    Known = Mapping[tuple[str, str], type]

HEADER = struct.Struct("!Q")
"""How many bytes follow."""
LARGEST = 256 * 1024 * 1024
"""Bytes of a message, for which room is made before any of it has come. A part is a picture at the model's
size or half a minute of sound: 2 MB."""
MEANT: dict[str, type] = {"ready": object, "value": object, "error": GemstreamError, "end": int}
"""What comes with each kind of message. "end" is followed by the bytes that the child has kept."""


class Wire:
    """One end of a connected pair. `multiprocessing`'s waits for the rest of a message without an end.

    Args:
        end: whoever is at the other end has a `Wire` as well.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: bytes) -> None:
        """Hand over one message. Raises OSError where nobody is there any more."""
        self._end.settimeout(None)
        self._end.sendall(HEADER.pack(len(message)))
        self._end.sendall(message)

    def receive(self, seconds: float | None = None) -> bytes | bytearray:
        """The next message, when all of it is there.

        Args:
            seconds: wall seconds for the whole of it; None is for ever.

        Raises:
            TimeoutError: it is not there.
            EOFError: the other end was closed.
            ValueError: no message is as long as this one says to be.
            OSError: anything else that sockets meet.
        """
        ends = None if seconds is None else time.monotonic() + seconds
        (size,) = HEADER.unpack(self._exactly(HEADER.size, ends))
        if size > LARGEST:
            raise ValueError(f"a message of {size:,} bytes")
        return self._exactly(size, ends)

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _exactly(self, size: int, ends: float | None) -> bytearray:
        message = bytearray(size)
        rest = memoryview(message)
        while rest:
            left = None if ends is None else ends - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError
            self._end.settimeout(left)
            came = self._end.recv_into(rest)
            if not came:
                raise EOFError
            rest = rest[came:]
        return message


def answer(message: bytes | bytearray, known: Known) -> tuple[str, Any]:
    """What a child's message says, as a kind of `MEANT` and its value.

    Args:
        message: as it came.
        known: module and name -> class, of those that it may send beside plain values and our errors.

    Raises:
        ParserCrashed: it says nothing of the kind. So does a child whose memory a file has written to.
    """
    try:
        kind, value = _Answers(message, known).load()
        meant = isinstance(value, MEANT[kind]) and isinstance(getattr(value, "message", ""), str)
    except ParserCrashed:
        raise
    except Exception as error:
        # Bytes that are no pickle raise whatever they happen to mean.
        raise nonsense(error) from error
    if not meant:
        raise ParserCrashed(f"the parser's process answered {kind!r} with a {type(value).__name__}")
    return kind, value


def nonsense(error: Exception) -> ParserCrashed:
    """What a message is that cannot be read."""
    return ParserCrashed(f"the parser's process answered with what is no message ({type(error).__name__})")


class _Answers(pickle.Unpickler):
    """Loads plain values, our errors, and the classes that were named; nothing else."""

    def __init__(self, message: bytes | bytearray, known: Known) -> None:
        super().__init__(io.BytesIO(message))
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        """The class or function that a message names, if it may."""
        if (module, name) in self._known:
            return self._known[module, name]
        found = getattr(errors, name, None) if module == errors.__name__ else None
        if found is not None and (name == "_rebuild" or issubclass(found, GemstreamError)):
            return found
        raise ParserCrashed(f"the parser's process answered with {module}.{name}, which it may not send")
