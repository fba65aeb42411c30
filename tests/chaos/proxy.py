"""A way to an object store on which requests and answers can get lost: bytes pass through unchanged but
for those."""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from urllib.parse import unquote, urlsplit

from deploy.demo.objectstore import ObjectStore
from deploy.demo.ports import LOOPBACK

PIECE = 1 << 16
REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
CONTINUE = b"HTTP/1.1 100 "
"""An answer before the answer: the store is ready for the body."""


class Fate(Enum):
    """What becomes of one request."""

    PASSED = "it is answered"
    HELD = "the store never hears of it"
    UNANSWERED = "the store does it, and the client is not told"
    CUT = "the store has done it, and the client is told that the connection broke"


Decide = Callable[[str, str], Fate]
"""From a request's method and path; called by one thread at a time."""


class Proxy:
    """Passes requests on to a store, but for those that are decided otherwise.

    Args:
        store: what it stands before.
        decide: what becomes of each.
    """

    def __init__(self, store: ObjectStore, decide: Decide) -> None:
        target = urlsplit(store.endpoint)
        self._target = target.hostname or LOOPBACK, target.port or 80
        self._decide = decide
        self._deciding = threading.Lock()
        self._listener = socket.create_server((LOOPBACK, 0))
        self.endpoint = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        """Take connections until `close`."""
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def close(self) -> None:
        """Take no more connections; those there are end with their clients."""
        # A thread that waits in accept is not woken by closing alone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _connect(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(self._target) as store:
            deaf, cut, held = threading.Event(), threading.Event(), False
            back = threading.Thread(target=self._answer, args=(store, client, deaf, cut), daemon=True)
            back.start()
            # To its end: a client that waits for an answer in vain gives up and closes.
            while piece := client.recv(PIECE):
                fate = self._fate(piece)
                if fate is Fate.UNANSWERED:
                    deaf.set()
                if fate is Fate.CUT:
                    cut.set()
                held = held or fate is Fate.HELD
                if not held:
                    store.sendall(piece)
            store.shutdown(socket.SHUT_RDWR)
            back.join()

    def _answer(
        self, store: socket.socket, client: socket.socket, deaf: threading.Event, cut: threading.Event
    ) -> None:
        with suppress(OSError):
            while piece := store.recv(PIECE):
                if cut.is_set() and not piece.startswith(CONTINUE):
                    break
                if not deaf.is_set() or piece.startswith(CONTINUE):
                    client.sendall(piece)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _fate(self, piece: bytes) -> Fate:
        """Of the request that begins here; a piece of a body passes."""
        head = REQUEST.match(piece)
        if head is None:
            return Fate.PASSED
        with self._deciding:
            return self._decide(head[1].decode(), unquote(head[2].decode()))


def lose_each(nth: int, lost: list[str]) -> Decide:
    """Of each object keep the answer to the first PUT back, and to each `nth` behind it; the paths of those
    objects, which are there, go to `lost`."""
    puts: Counter[str] = Counter()

    def decide(method: str, path: str) -> Fate:
        if method != "PUT":
            return Fate.PASSED
        puts[path] += 1
        if puts[path] % nth != 1:
            return Fate.PASSED
        lost.append(path)
        return Fate.UNANSWERED

    return decide


@contextmanager
def proxied(store: ObjectStore, decide: Decide) -> Iterator[dict[str, str]]:
    """A proxy at work; what a process needs in its environment to go through it."""
    proxy = Proxy(store, decide)
    serving = threading.Thread(target=proxy.serve, daemon=True)
    serving.start()
    try:
        yield {
            **store.environment(),
            "AWS_ENDPOINT_URL": proxy.endpoint,
            "AWS_ENDPOINT_URL_S3": proxy.endpoint,
        }
    finally:
        proxy.close()
        serving.join()
