"""Engines that no node has room for yet: said while a run waits, an error when it has waited long enough."""

from __future__ import annotations

import math
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
    """A run until each of its lanes has an engine's worker on some node, and while there is no such node any
    more: Ray itself would wait for another without an end.

    It gives up only where no lane has one: of several, one may have nothing to do, or wait for another's GPU.

    Args:
        console: where it says what it waits for.
        lanes: by the names of their pools.
        gpus: that an engine takes.
        seconds: it waits at most, `limits.node_seconds`.
        now: seconds on a clock that never goes back.
        room: what the nodes have, in words.
        largest: GPUs of the node that has most, free or not.
    """

    def __init__(
        self,
        console: Console,
        lanes: Sequence[str],
        gpus: float,
        seconds: float,
        now: Callable[[], float] = time.monotonic,
        room: Callable[[], str] | None = None,
        largest: Callable[[], float] | None = None,
    ) -> None:
        self._console, self._gpus, self._seconds = console, gpus, seconds
        self._lanes = tuple(lanes)
        self._now, self._room, self._largest = now, room or room_of_nodes, largest or gpus_of_nodes
        self._since = now()
        self._mention = FIRST_SECONDS
        self._counted, self._had = -math.inf, now()

    def begin(self) -> None:
        """A pass begins: nobody has looked for some time, and an idle node may have gone meanwhile."""
        self._counted, self._had = -math.inf, self._now()

    def look(self, counts: Mapping[tuple[str, str, str], int]) -> None:
        """Take in the counts of the meter.

        Raises:
            ClusterUnavailable: it has waited for as long as it may.
        """
        without = [lane for lane in self._lanes if not counts.get((lane, "infer", "placed"))]
        since = self._since
        if len(without) < len(self._lanes) and self._gpus:
            gone = self._gone_since()
            without, since = (without, since) if gone is None else (list(self._lanes), gone)
        if not without:
            return
        waited = self._now() - since
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

    def _gone_since(self) -> float | None:
        """When there was last a node with as many GPUs as an engine takes; None if there is one."""
        if self._now() - self._counted >= FIRST_SECONDS:
            self._counted = self._now()
            if self._largest() >= self._gpus:
                self._had = self._counted
            elif self._had > self._since:
                # It is another wait, and mentioned from its own beginning on.
                self._since, self._mention = self._had, FIRST_SECONDS
        return None if self._had == self._counted else self._had

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


def gpus_of_nodes() -> float:
    """Of the nodes that are there, the GPUs of the one that has most."""
    return max((node.get("GPU", 0.0) for node in _nodes()), default=0.0)


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def room_of_nodes() -> str:
    """What the nodes that are there have, in words."""
    nodes = _nodes()
    gpus, cpus = (max((node.get(kind, 0) for node in nodes), default=0) for kind in ("GPU", "CPU"))
    return f"the nodes, {len(nodes)} now, have at most {gpus:g} GPU and {cpus:g} CPU each, not all of it free"
