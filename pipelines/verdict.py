"""What held a run up: where its stages' time went, how full its engines were, and what to add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from schemas.job import PartPool

POINTS = 60
"""Of the engines' occupancy over time that a report keeps at most."""
SHORT_SECONDS = 5.0
"""Of engines that had a model: of less nobody can say anything."""
FULL = 0.85
"""Share of its places from which on an engine is what the others wait for: at the end of every run it
empties, and a request's way in and out is in it."""
CROWDED = 0.6
"""Requests, over its places, that a full engine has begun to answer: with fewer, its places are not what the
others wait for. One on CPU that was as fast as it gets had begun 1.1 times its 16 places."""
BUSY = 0.7
"""Share of its workers' time from which on a stage is what the others wait for."""


Times = Mapping[tuple[str, str, str], float]
"""Worker-seconds by (lane, stage, state)."""


class Bottleneck(BaseModel):
    """One lane's worker-seconds by state, all workers of a stage together (`workers.clock`).

    Of expand: `working`, `fetching` (nothing to do until bytes come), `handing` (waiting for room behind it)
    and `waiting` (for documents). Of infer: `full` (every place of its engine taken), `partly`, `empty`,
    `loading`, `unstarted`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    expand: dict[str, float] = Field(default_factory=dict)
    infer: dict[str, float] = Field(default_factory=dict)
    occupancy: float | None = Field(
        None, description="Requests in the engines, over their places, while there was a model."
    )
    queued: float | None = Field(
        None, description="Of these, the requests that the engines had not begun, over their places."
    )
    over_time: tuple[tuple[float, float, float], ...] = Field(
        (), description="Seconds since the start; occupancy and queued from the point before to this one."
    )
    sentence: str = Field("", description="What to add, with the numbers behind it.")


class Timeline:
    """One lane's engines while the run goes on. Every second point goes when there are too many."""

    def __init__(self, lane: str) -> None:
        self._lane = lane
        self._points: list[tuple[float, ...]] = [(0.0, 0.0, 0.0, 0.0)]
        self._apart = 0.0

    def add(self, seconds: float, times: Times) -> None:
        """Take in what the stages' workers have spent so far."""
        if seconds - self._points[-1][0] < self._apart:
            return
        held = (times.get((self._lane, "infer", name), 0.0) for name in ("requests", "queued", "open"))
        self._points.append((seconds, *held))
        if len(self._points) > 2 * POINTS:
            self._points = self._points[::2]
            self._apart = (self._points[-1][0] - self._points[0][0]) / len(self._points)

    def points(self) -> tuple[tuple[float, float, float], ...]:
        """See `Bottleneck.over_time`; without the time in which no engine had a model."""
        points = self._points[:: max(1, len(self._points) // POINTS)]
        found = []
        for before, after in zip(points, points[1:], strict=False):
            requests, queued, places = (
                later - sooner for later, sooner in zip(after[1:], before[1:], strict=True)
            )
            if places > 0:
                found.append((round(after[0], 1), round(requests / places, 3), round(queued / places, 3)))
        return tuple(found)


def judge(
    times: Times, timelines: Mapping[PartPool, Timeline], expand_workers: int, engines: int
) -> dict[str, Bottleneck]:
    """Say what held each lane up.

    Args:
        times: what its workers did with their time.
        timelines: of each lane's engines.
        expand_workers: parser processes that a lane had at most.
        engines: engines that it had at most.
    """
    return {
        lane: _judge(times, lane, timeline, expand_workers, engines) for lane, timeline in timelines.items()
    }


def _judge(times: Times, lane: str, timeline: Timeline, expand_workers: int, engines: int) -> Bottleneck:
    stages = {
        stage: {
            state: round(seconds, 3)
            for (whose, name, state), seconds in times.items()
            if (whose, name) == (lane, stage)
        }
        for stage in ("expand", "infer")
    }
    requests, queued, places = (stages["infer"].pop(name, 0.0) for name in ("requests", "queued", "open"))
    found = Bottleneck(
        **stages,
        occupancy=round(requests / places, 3) if places else None,
        queued=round(queued / places, 3) if places else None,
        over_time=timeline.points(),
    )
    return found.model_copy(update={"sentence": _sentence(found, expand_workers, engines)})


TOO_LITTLE = "too little was asked to say what held it up"


def _sentence(found: Bottleneck, expand_workers: int, engines: int) -> str:
    alive = sum(found.infer.get(state, 0.0) for state in ("full", "partly", "empty"))
    if found.occupancy is None or alive < SHORT_SECONDS or not found.expand:
        return TOO_LITTLE
    taken = f"{min(found.occupancy, 1.0):.0%} of the engines' places were taken"
    # Of the time in which there was a model: what was expanded before it came is no proof of anything.
    whole = expand_workers * alive / engines
    working, fetching, handing = (
        min(1.0, found.expand.get(state, 0.0) / whole) for state in ("working", "fetching", "handing")
    )
    waiting = max(0.0, 1.0 - working - fetching - handing)
    if found.occupancy >= FULL and found.occupancy - (found.queued or 0.0) < CROWDED:
        begun = max(0.0, found.occupancy - (found.queued or 0.0))
        return (
            f"the engines' batches: {taken}, but requests for {begun:.0%} only were begun, and the others "
            "waited inside; raise engine.options.max_num_batched_tokens, or give their caches more memory "
            "(engine.options.gpu_memory_utilization, a smaller engine.max_model_len)"
        )
    if found.occupancy >= FULL:
        used = working + fetching
        feeds = max(engines, round(engines / max(used, 0.01)))
        return (
            f"the engines: {taken}; add engines (engine.replicas, now {engines}). Expand worked {used:.0%}"
            f" of its time: it can feed {feeds}"
        )
    if working >= BUSY:
        needed = max(expand_workers + 1, round(expand_workers / max(found.occupancy, 0.05)))
        return (
            f"expand: its workers worked {working:.0%} of their time, and {taken}; give it some {needed} "
            f"CPUs, {needed / engines:.0f} an engine (expand.workers, now {expand_workers})"
        )
    if working + fetching >= BUSY:
        return (
            f"the object store: expand waited {fetching:.0%} of its time for bytes, and {taken}; add "
            f"workers, since they wait side by side (expand.workers, now {expand_workers})"
        )
    if waiting >= BUSY:
        return f"the list: expand waited {waiting:.0%} of its time for documents, and {taken}; add nothing"
    return f"nothing for long: {taken}, and expand worked {working:.0%} and waited for room {handing:.0%}"
