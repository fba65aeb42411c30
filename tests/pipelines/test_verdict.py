"""What a report says held a run up."""

from __future__ import annotations

import pytest

from pipelines.verdict import POINTS, Bottleneck, Timeline, judge

LIVE = {
    ("vision", "infer", "full"): 50.0,
    ("vision", "infer", "partly"): 30.0,
    ("vision", "infer", "empty"): 20.0,
    ("vision", "infer", "loading"): 40.0,
}


def times(occupancy: float, **expand: float) -> dict[tuple[str, str, str], float]:
    """Of 100 s of one engine, and of the time of two expand workers in per cent."""
    held = {("vision", "infer", "requests"): occupancy * 400, ("vision", "infer", "open"): 400.0}
    return LIVE | held | {("vision", "expand", state): 2.0 * share for state, share in expand.items()}


def judged(held: dict[tuple[str, str, str], float]) -> Bottleneck:
    """Two expand workers and one engine a lane; another lane has nothing to do with it."""
    idle = {("audio", "infer", "requests"): 0.0, ("audio", "infer", "open"): 400.0}
    timelines = {pool: Timeline(pool) for pool in ("vision", "audio")}
    found = judge(held | idle, timelines, expand_workers=2, engines=1)
    assert found["audio"].occupancy == 0.0 and not found["audio"].expand
    return found["vision"]


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (
            times(1.2, working=20, handing=80),
            "the engines: 100% of the engines' places were taken; add engines",
        ),
        (times(1.2, working=20, handing=80), "it can feed 5"),
        (
            times(1.5, working=20, handing=80) | {("vision", "infer", "queued"): 560.0},
            "but requests for 10% only were begun",
        ),
        (
            times(1.5, working=20, handing=80) | {("vision", "infer", "queued"): 200.0},
            "the engines: 100% of the engines' places were taken; add engines",
        ),
        (times(0.4, working=90, waiting=10), "expand: its workers worked 90% of their time, and 40% of the"),
        (times(0.4, working=90, waiting=10), "some 5 CPUs, 5 an engine (expand.workers, now 2)"),
        (times(0.3, working=10, fetching=80, waiting=10), "the object store: expand waited 80%"),
        (times(0.3, working=10, waiting=90), "the list: expand waited 90%"),
        (times(0.6, working=40, handing=50, waiting=10), "nothing for long: 60% of the"),
        ({}, "too little was asked"),
        (
            {
                ("vision", "infer", "full"): 1.0,
                ("vision", "infer", "requests"): 1.0,
                ("vision", "infer", "open"): 1.0,
            },
            "too little was asked",
        ),
    ],
)
def test_it_names_what_the_others_wait_for(held: dict[tuple[str, str, str], float], says: str) -> None:
    found = judged(held)
    assert says in found.sentence


def test_its_numbers_are_in_the_report() -> None:
    found = judged(times(0.4, working=90, waiting=10))
    assert found.occupancy == 0.4
    assert found.expand == {"working": 180.0, "waiting": 20.0}
    assert found.infer == {"full": 50.0, "partly": 30.0, "empty": 20.0, "loading": 40.0}


def test_occupancy_over_time_is_as_long_as_the_run_and_no_longer_than_it_may_be() -> None:
    timeline = Timeline("vision")
    for tick in range(1, 10_001):
        # Half full for the first half, full for the second.
        requests = tick * 2.0 if tick <= 5_000 else 10_000 + (tick - 5_000) * 4.0
        timeline.add(
            tick * 0.5, {("vision", "infer", "requests"): requests, ("vision", "infer", "open"): tick * 4.0}
        )
    points = timeline.points()
    assert POINTS / 2 <= len(points) <= 2 * POINTS + 1
    assert points[0][1] == 0.5 and points[-1][1] == 1.0 and points[-1][0] > 4_800
