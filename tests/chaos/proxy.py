"""A way to an object store on which some answers get lost: bytes pass through unchanged but for those."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from deploy.demo.objectstore import LOOPBACK, ObjectStore

PIECE = 1 << 16
CONTINUE = b"HTTP/1.1 100 "
"""An answer before the answer: the store is ready for the body."""


class LossyProxy:
    """Lets every PUT through, and keeps the answer to each `every`-th of them to itself.

    Args:
        store: what it stands before.
        every: how many PUTs there are to one whose answer is lost.
    """

    def __init__(self, store: ObjectStore, every: int) -> None:
        target = urlsplit(store.endpoint)
        self._target = target.hostname or LOOPBACK, target.port or 80
        self._every = every
        self._counting = threading.Lock()
        self._puts = 0
        self.lost: list[str] = []
        """The paths of the objects that are there, and of which the client was not told so."""
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
            deaf = threading.Event()
            back = threading.Thread(target=self._answer, args=(store, client, deaf), daemon=True)
            back.start()
            # To its end: a client that waits for an answer in vain gives up and closes.
            while piece := client.recv(PIECE):
                if piece.startswith(b"PUT ") and self._is_due():
                    deaf.set()
                    self.lost.append(piece.split(b" ", 2)[1].decode())
                store.sendall(piece)
            store.shutdown(socket.SHUT_RDWR)
            back.join()

    def _answer(self, store: socket.socket, client: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while piece := store.recv(PIECE):
                if not deaf.is_set() or piece.startswith(CONTINUE):
                    client.sendall(piece)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _is_due(self) -> bool:
        with self._counting:
            self._puts += 1
            return self._puts % self._every == 0


@contextmanager
def lossy_proxy(store: ObjectStore, every: int) -> Iterator[LossyProxy]:
    """A proxy at work."""
    proxy = LossyProxy(store, every)
    serving = threading.Thread(target=proxy.serve, daemon=True)
    serving.start()
    try:
        yield proxy
    finally:
        proxy.close()
        serving.join()
