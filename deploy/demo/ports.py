"""Ports of loopback that nobody else has."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOOPBACK = "127.0.0.1"
_HIGH = 55_000
"""From here on a port's partner is looked for below it: there is none beyond 65,535."""


def free_ports(count: int) -> list[int]:
    """Picks TCP ports that are free on loopback now, all different."""
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            probe = held.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def free_pair(offset: int) -> int:
    """Picks a free port whose partner at an offset is free too."""
    while True:
        with socket.socket() as low, socket.socket() as high:
            low.bind((LOOPBACK, 0))
            port = int(low.getsockname()[1])
            other = port + offset if port < _HIGH else port - offset
            try:
                high.bind((LOOPBACK, other))
            except OSError:
                continue
            return min(port, other)


@contextmanager
def kept(ports: Iterable[int]) -> Iterator[None]:
    """While their server is away, ports are given to nobody else, and nobody answers there."""
    with ExitStack() as held:
        for port in ports:
            place = held.enter_context(socket.socket())
            # Connections that the server had wait there for their end.
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind((LOOPBACK, port))
        yield
