"""Engines that no node has room for yet: said while a run waits, an error when it has waited long enough."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from schemas.errors import ClusterUnavailable
from workers.registry import ENGINES, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from schemas.job import EngineOptions

FIRST_SECONDS = 20.0
"""Before it is mentioned, and then after twice as long each time: on two busy cores Ray takes up to 15 s to
bring an actor up on a node that has room."""


class Waiting:
    """A run until each of its lanes has an engine's worker on some node.

    It gives up only where no lane has one: of several, one may have nothing to do, or wait for another's GPU.

    Args:
        console: where it says what it waits for.
        lanes: by the names of their pools.
        gpus: that an engine takes.
        seconds: it waits at most, `limits.node_seconds`.
        now: seconds on a clock that never goes back.
        room: what the nodes have, in words.
    """

    def __init__(
        self,
        console: Console,
        lanes: Sequence[str],
        gpus: float,
        seconds: float,
        now: Callable[[], float] = time.monotonic,
        room: Callable[[], str] | None = None,
    ) -> None:
        self._console, self._gpus, self._seconds = console, gpus, seconds
        self._lanes = tuple(lanes)
        self._now, self._room = now, room or room_of_nodes
        self._since = now()
        self._mention = FIRST_SECONDS

    def look(self, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Take in the counts of the meter.

        Raises:
            ClusterUnavailable: it has waited for as long as it may.
        """
        without = [lane for lane in self._lanes if not counts.get((lane, "infer", "placed"))]
        if not without:
            return
        waited = self._now() - self._since
        if len(without) == len(self._lanes) and waited >= self._seconds:
            raise ClusterUnavailable(
                f"no node had {self._wanted(without)} within {self._seconds:g} s (limits.node_seconds): "
                f"{self._room()}; look at the autoscaler's limits and quota, and run the same command again"
            )
        if waited >= self._mention:
            self._mention = 2 * waited
            self._console.print(
                f"waiting for {self._wanted(without)}: {self._room()}; {waited:.0f} s so far "
                f"(limits.node_seconds: {self._seconds:g})",
                highlight=False,
            )

    def _wanted(self, lanes: Sequence[str]) -> str:
        gpu = f"{self._gpus:g} GPU and " if self._gpus else ""
        return f"{gpu}1 CPU for an engine of {' and for one of '.join(lanes)}"


def mention_cpus(console: Console, options: EngineOptions, gpus: float) -> None:
    """On a cluster that may yet get GPUs, say that the engines are put on what is there now."""
    hosts_model = resolve(ENGINES, options.kind, "engine").hosts_model
    if "RAY_ADDRESS" in os.environ and options.gpus is None and not gpus and hosts_model:
        console.print(
            "no node has a GPU now, so engines are put on CPUs; engine.gpus: 1 waits for GPU nodes",
            highlight=False,
        )


def room_of_nodes() -> str:
    """What the nodes that are there have, in words."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = (max((node.get(kind, 0) for node in nodes), default=0) for kind in ("GPU", "CPU"))
    return f"the nodes, {len(nodes)} now, have at most {gpus:g} GPU and {cpus:g} CPU each, not all of it free"
