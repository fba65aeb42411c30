"""What held a run up: where its stages' time went, how full its engines were, and what to add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

POINTS = 60
"""Of the engines' occupancy over time that a report keeps at most."""
SHORT_SECONDS = 5.0
"""Of engines that had a model: of less nobody can say anything."""
FULL = 0.85
"""Share of its places from which on an engine is what the others wait for: at the end of every run it
empties, and a request's way in and out is in it."""
BUSY = 0.7
"""Share of its workers' time from which on a stage is what the others wait for."""


class Bottleneck(BaseModel):
    """Worker-seconds by state, all workers of a stage together (`workers.clock`).

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
    over_time: tuple[tuple[float, float], ...] = Field(
        (), description="Seconds since the start, and the occupancy from the point before to this one."
    )
    sentence: str = Field("", description="What to add, with the numbers behind it.")


class Timeline:
    """The engines' occupancy while the run goes on. Every second point goes when there are too many."""

    def __init__(self) -> None:
        self._points: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)]
        self._apart = 0.0

    def add(self, seconds: float, times: Mapping[tuple[str, str], float]) -> None:
        """Take in what the stages' workers have spent so far."""
        if seconds - self._points[-1][0] < self._apart:
            return
        self._points.append(
            (seconds, times.get(("infer", "requests"), 0.0), times.get(("infer", "open"), 0.0))
        )
        if len(self._points) > 2 * POINTS:
            self._points = self._points[::2]
            self._apart = (self._points[-1][0] - self._points[0][0]) / len(self._points)

    def points(self) -> tuple[tuple[float, float], ...]:
        """See `Bottleneck.over_time`; without the time in which no engine had a model."""
        points = self._points[:: max(1, len(self._points) // POINTS)]
        pairs = zip(points, points[1:], strict=False)
        return tuple(
            (round(after[0], 1), round((after[1] - before[1]) / (after[2] - before[2]), 3))
            for before, after in pairs
            if after[2] > before[2]
        )


def judge(
    times: Mapping[tuple[str, str], float], timeline: Timeline, expand_workers: int, engines: int
) -> Bottleneck:
    """Say what held the run up.

    Args:
        times: seconds by stage and state.
        timeline: of the engines' occupancy.
        expand_workers: parser processes that there were at most.
        engines: engines that there were at most.
    """
    stages = {
        stage: {state: round(seconds, 3) for (name, state), seconds in times.items() if name == stage}
        for stage in ("expand", "infer")
    }
    requests, places = stages["infer"].pop("requests", 0.0), stages["infer"].pop("open", 0.0)
    occupancy = round(requests / places, 3) if places else None
    found = Bottleneck(**stages, occupancy=occupancy, over_time=timeline.points())
    return found.model_copy(update={"sentence": _sentence(found, expand_workers, engines)})


def _sentence(found: Bottleneck, expand_workers: int, engines: int) -> str:
    alive = sum(found.infer.get(state, 0.0) for state in ("full", "partly", "empty"))
    if found.occupancy is None or alive < SHORT_SECONDS or not found.expand:
        return "too little was asked to say what held it up"
    taken = f"{min(found.occupancy, 1.0):.0%} of the engines' places were taken"
    # Of the time in which there was a model: what was expanded before it came is no proof of anything.
    whole = expand_workers * alive / engines
    working, fetching, handing = (
        min(1.0, found.expand.get(state, 0.0) / whole) for state in ("working", "fetching", "handing")
    )
    waiting = max(0.0, 1.0 - working - fetching - handing)
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
