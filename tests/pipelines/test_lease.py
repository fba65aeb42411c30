"""Runs that would do the same documents do not write to one output at the same time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pipelines import lease as leases
from pipelines.lease import Holder, Lease
from schemas.errors import JobError
from schemas.shard import Shard
from tests.workers.places import Place, place
from workers.storage.factory import join

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["place"]

DEADLINE = 30.0
QUICK = 0.02
"""Seconds between renewals where a test waits for one."""


def shard(text: str) -> Shard | None:
    return None if text == "all" else Shard.parse(text)


def lease(place: Place, scope: str = "all", run_id: str = "ours", **options: float) -> Lease:
    return Lease(place.root, place.options, run_id, shard(scope), **options)


def held(place: Place) -> list[str]:
    return [name.removeprefix("_runs/_lease/") for name in place.names("_runs/_lease")]


def read(place: Place, name: str = "all") -> Holder:
    content = place.storage.read(join(place.root, f"_runs/_lease/{name}.json"))
    return Holder.model_validate_json(content)


def left_behind(place: Place, scope: str = "all", **facts: Any) -> Holder:
    """The lease of a run on another machine, or of whom the facts say."""
    named = scope if scope == "all" else f"shard-{scope.replace('/', '-of-')}"
    holder = Holder(
        **{
            "run_id": "theirs",
            "shard": shard(scope),
            "host": "host-a",
            "machine": "elsewhere",
            "pid": 123,
            "ticks": 1,
            "token": "token",
            "expires": datetime.now(UTC) + timedelta(seconds=60),
            **facts,
        }
    )
    place.put(f"_runs/_lease/{named}.json", holder.model_dump_json().encode())
    return holder


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(QUICK)


def acquired_at_once(place: Place, scopes: list[str]) -> list[str]:
    """The scopes of those that acquire, of threads that start together and hold until all have tried."""
    together = threading.Barrier(len(scopes), timeout=DEADLINE)

    def acquire(scope: str) -> bool:
        with ExitStack() as holding:
            together.wait()
            try:
                holding.enter_context(lease(place, scope))
            except JobError as error:
                assert error.fields["key"] == "output"
                return False
            finally:
                together.wait()
            return True

    with ThreadPoolExecutor(len(scopes)) as pool:
        return [scope for scope, acquired in zip(scopes, pool.map(acquire, scopes), strict=True) if acquired]


@pytest.mark.parametrize("scope", ["all", "3/16"])
def test_one_of_many_acquires(place: Place, scope: str) -> None:
    assert acquired_at_once(place, [scope] * 8) == [scope]
    assert held(place) == []


def test_one_of_many_takes_over(place: Place) -> None:
    left_behind(place, expires=datetime.now(UTC))
    assert acquired_at_once(place, ["all"] * 8) == ["all"]


def test_shards_of_one_count_acquire_together(place: Place) -> None:
    scopes = ["1/4", "2/4", "3/4", "4/4"]
    assert acquired_at_once(place, scopes) == scopes


def test_no_two_that_conflict_acquire_together(place: Place) -> None:
    for _ in range(3):
        assert len(acquired_at_once(place, ["all", "1/2", "1/3", "all", "1/2", "1/3"])) <= 1
    assert held(place) == []


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ("all", "all", True),
        ("all", "1/2", True),
        ("1/2", "all", True),
        ("1/1", "all", True),
        ("1/2", "1/2", True),
        ("1/2", "2/2", False),
        ("1/2", "2/3", True),
        ("1/2", "1/4", True),
    ],
)
def test_who_may_write_beside_whom(place: Place, first: str, second: str, conflict: bool) -> None:
    with lease(place, first, "first"):
        before = held(place)
        if conflict:
            with pytest.raises(JobError, match="run first on"), lease(place, second, "second"):
                pass
            assert held(place) == before, "it withdraws its own"
        else:
            with lease(place, second, "second"):
                assert len(held(place)) == 2
    assert held(place) == []
    with lease(place, second, "second"):
        pass


def test_the_refusal_says_who_writes_and_what_to_do(place: Place) -> None:
    holder = left_behind(place, "3/16")
    with pytest.raises(JobError) as caught, lease(place):
        pass
    assert caught.value.message == (
        "run theirs on host-a (process 123, shard 3/16) writes to this output until "
        f"{holder.expires:%H:%M:%S} UTC; wait for it, stop it, or give the runs shards of "
        "their own (--shard 1/4)"
    )
    assert caught.value.fields == {"key": "output"}


@pytest.mark.parametrize("scope", ["all", "1/2"])
def test_a_lease_that_ran_out_is_taken_over_or_removed(place: Place, scope: str) -> None:
    left_behind(place, scope, expires=datetime.now(UTC))
    with lease(place) as ours:
        assert held(place) == ["all.json"]
        assert read(place).run_id == ours.run_id
    assert held(place) == []


def test_a_dead_lease_that_excludes_nobody_stays_for_its_successor(place: Place) -> None:
    left_behind(place, "1/2", expires=datetime.now(UTC))
    with lease(place, "2/2"):
        assert len(held(place)) == 2
    with lease(place, "1/2"):
        pass
    assert held(place) == []


def holder_process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_process_holds_nothing(place: Place, reaped: bool) -> None:
    with lease(place):
        here = read(place)
    with holder_process() as process:
        facts: dict[str, Any] = {"host": here.host, "machine": here.machine, "pid": process.pid}
        left_behind(place, **facts, ticks=leases._ticks(process.pid))
        with pytest.raises(JobError, match=f"process {process.pid}"), lease(place):
            pass
        process.kill()
        if reaped:
            process.wait()
        else:
            until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        with lease(place):
            assert read(place).pid == os.getpid()


def test_a_pid_that_another_process_has_now_holds_nothing(place: Place) -> None:
    with lease(place):
        here = read(place)
    assert here.ticks is not None
    left_behind(place, host=here.host, machine=here.machine, pid=os.getpid(), ticks=here.ticks - 1)
    with lease(place):
        pass


def test_a_clock_that_is_set_ends_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a process began at is counted from the boot, whose time moves with the clock."""
    real = psutil.Process.create_time
    with lease(place):
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600)
        assert not read(place).is_dead()


def test_a_lease_that_does_not_say_when_its_process_began_runs_out(place: Place) -> None:
    """As those of earlier versions, which told it by the clock."""
    with lease(place):
        told = json.loads(read(place).model_dump_json(exclude={"ticks"})) | {"started": 0.0}
    assert not Holder.model_validate(told).is_dead()
    assert Holder.model_validate({**told, "expires": datetime.now(UTC)}).is_dead()


@pytest.mark.parametrize("name", ["python3", "a) R 1 (b"])
def test_when_a_process_began_is_read_behind_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    numbers = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 ({name}) S {numbers}\n")
    monkeypatch.setattr(leases, "PROCESSES", tmp_path)
    assert leases._ticks(7) == 22
    assert leases._ticks(8) is None, "it has ended, or the system does not say"


def test_a_pid_means_nothing_on_another_machine_of_that_name(place: Place) -> None:
    left_behind(place, host=platform.node(), machine="another container's", pid=2**22 - 1)
    with pytest.raises(JobError, match="writes to this output"), lease(place):
        pass


def test_what_is_no_lease_is_not_written_over(place: Place) -> None:
    place.put("_runs/_lease/all.json", b"{}")
    with pytest.raises(JobError, match="no lease this version reads"), lease(place):
        pass
    assert place.storage.read(join(place.root, "_runs/_lease/all.json")) == b"{}"
