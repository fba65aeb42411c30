"""A lease is renewed, lost and given back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pipelines import lease as leases
from schemas.errors import LeaseLost, StorageUnavailable
from tests.pipelines.test_lease import DEADLINE, QUICK, held, lease, left_behind, read, until
from tests.workers.places import Place, place

if TYPE_CHECKING:
    from schemas.storage import StorageOptions

__all__ = ["place"]


def test_renewing_extends(place: Place) -> None:
    with lease(place, renew_seconds=QUICK) as ours:
        first = read(place)
        until(lambda: read(place).expires > first.expires)
        again = read(place)
        until(lambda: read(place).expires > again.expires)
        ours.check()
        assert read(place).token == first.token
    assert held(place) == []


@pytest.mark.parametrize("how", ["taken", "removed"])
def test_a_lost_lease_is_noticed(place: Place, how: str) -> None:
    with lease(place, renew_seconds=QUICK) as ours:
        ours.check()

        def lose_it() -> bool:
            """A renewal at the same moment does not wait for a publish, and may replace it."""
            if how == "taken":
                left_behind(place)
            else:
                place.storage.delete(ours.uri)
            return ours.lost

        until(lose_it)
        with pytest.raises(LeaseLost, match="another run may write") as caught:
            ours.check()
        assert caught.value.stage == "run"
    assert held(place) == (["all.json"] if how == "taken" else []), "what is another's stays"


class Clock:
    """The time, which moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leases, "_now", lambda: clock.now)
    return clock


def test_a_lease_that_is_not_renewed_is_lost_when_it_runs_out(place: Place, clock: Clock) -> None:
    with lease(place, renew_seconds=DEADLINE) as ours:
        clock.go_on(leases.TTL_SECONDS - 1)
        ours.check()
        clock.go_on(1)
        with pytest.raises(LeaseLost):
            ours.check()
        clock.go_on(-1)
        with pytest.raises(LeaseLost):
            ours.check()


class Away:
    """A storage that can be away, or answer no more once it has written."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.away = False
        self.deaf = False
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise StorageUnavailable("the store is away")
        return getattr(self._storage, name)

    def claim(self, *request: Any) -> Any:
        if self.away:
            self.refused += 1
            raise StorageUnavailable("the store is away")
        written = self._storage.claim(*request)
        if self.deaf:
            self.refused += 1
            raise StorageUnavailable("the answer got lost")
        return written


@pytest.fixture
def store(place: Place, monkeypatch: pytest.MonkeyPatch) -> Away:
    storage = Away(place.storage)
    monkeypatch.setattr(leases, "open_storage", lambda uri, options: storage)
    return storage


@pytest.mark.parametrize("how", ["away", "deaf"])
def test_a_store_that_comes_back_in_time_costs_nothing(place: Place, store: Away, how: str) -> None:
    with lease(place, renew_seconds=QUICK) as ours:
        setattr(store, how, True)
        until(lambda: store.refused >= 2)
        ours.check()
        setattr(store, how, False)
        before = read(place).expires
        until(lambda: read(place).expires > before)
        ours.check()
    assert held(place) == []


def test_a_store_that_stays_away_costs_the_lease(
    place: Place, store: Away, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with lease(place, renew_seconds=QUICK) as ours:
        store.away = True
        until(lambda: store.refused >= 2)
        ours.check()
        clock.go_on(leases.TTL_SECONDS)
        until(lambda: "lost its lease" in caplog.text)
        with pytest.raises(LeaseLost):
            ours.check()
    assert "not given back: the store is away" in caplog.text
    store.away = False
    with lease(place, run_id="next"):
        assert read(place).run_id == "next"


def test_a_renewal_that_took_too_long_does_not_bring_a_lease_back(
    place: Place, store: Away, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had run out in between, and another run may have found it so."""
    claim, takes = store.claim, iter([leases.TTL_SECONDS * 0.7, leases.TTL_SECONDS * 0.5])

    def slow(*request: Any) -> Any:
        written = claim(*request)
        clock.go_on(next(takes, 0))
        return written

    monkeypatch.setattr(store, "claim", slow)
    with lease(place, renew_seconds=QUICK) as ours:
        until(lambda: ours.lost)
        assert read(place).expires > clock.now


def test_a_lease_that_ran_out_is_left_to_whoever_takes_it(place: Place, clock: Clock) -> None:
    """It may be another's by the time that a slow store deletes it."""
    with lease(place, renew_seconds=DEADLINE):
        clock.go_on(leases.TTL_SECONDS)
    assert read(place).is_dead()
    with lease(place, run_id="next"):
        assert read(place).run_id == "next"
    assert held(place) == []


def test_giving_back_waits_for_no_store(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time it is back another run may have the lease."""
    deleted: list[StorageOptions] = []

    class Noting(Away):
        def __init__(self, uri: str, options: StorageOptions) -> None:
            super().__init__(place.storage)
            self.options = options

        def delete(self, uri: str) -> None:
            deleted.append(self.options)
            self._storage.delete(uri)

    monkeypatch.setattr(leases, "open_storage", Noting)
    with lease(place):
        pass
    assert [(options.outage_seconds, options.attempts) for options in deleted] == [(0, 1)]
    assert held(place) == []
