"""Where a stage's time goes: all of it is somewhere, and nowhere twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pytest import approx

from workers.clock import Clock, Places


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(0, 100), st.booleans()), max_size=40))
def test_every_second_is_in_one_state(turns: list[tuple[str, float, bool]]) -> None:
    hands = Hands()
    clock, seconds = Clock(hands), 0.0
    for state, passed, taken in turns:
        clock.turn(state)
        hands.at += passed
        if taken:
            seconds += sum(clock.take().values())
    seconds += sum(clock.take().values())
    assert seconds == approx(sum(passed for _, passed, _ in turns), abs=1e-6)


def test_an_engine_is_full_partly_or_empty_once_it_is_loaded() -> None:
    hands = Hands()
    places = Places(2, hands)

    def after(seconds: float) -> None:
        hands.at += seconds

    after(1)
    places.loading()
    after(10)
    places.ready()
    after(2)
    places.enter()
    after(3)
    places.enter()
    places.enter()
    after(4)
    places.leave(queued=2.5)
    places.leave(queued=0.5)
    places.leave()
    after(5)
    assert places.take() == {
        "unstarted": 1.0,
        "loading": 10.0,
        "empty": 7.0,
        "partly": 3.0,
        "full": 4.0,
        "requests": 3.0 + 3 * 4.0,
        "queued": 3.0,
        "open": 2 * 14.0,
    }
    after(1)
    assert places.take() == {"empty": 1.0, "requests": 0.0, "queued": 0.0, "open": 2.0}


def test_what_waits_for_an_engine_to_load_does_not_fill_it() -> None:
    hands = Hands()
    places = Places(1, hands)
    places.ready()
    places.enter()
    places.loading()
    hands.at += 60
    places.ready()
    taken = places.take()
    assert (taken["loading"], taken["requests"], taken["open"]) == (60.0, 0.0, 0.0)
