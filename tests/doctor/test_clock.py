"""The clock, beside that of a store: a real one, and servers whose Date is off."""

from __future__ import annotations

import pytest

from deploy.demo.objectstore import ObjectStore
from deploy.demo.ports import LOOPBACK, free_ports
from pipelines.doctor.clock import clock
from tests.doctor.patients import patient, told
from tests.doctor.stores import standing_in


@pytest.mark.parametrize(
    ("ahead", "status", "words"),
    [
        (0, "ok", "the store's"),
        (-30, "warning", "s behind the store's; beyond 20 s"),
        (90, "failed", "another run may take the output"),
        (1_000, "failed", "15 minutes"),
    ],
)
def test_a_clock_that_is_off(store: ObjectStore, ahead: float, status: str, words: str) -> None:
    # A store that refuses tells the time all the same.
    with standing_in("AccessDenied", 403, ahead) as options:
        (line,) = told(clock(patient(output="s3://lake/out", storage=options))).values()
    assert line.startswith(f"{status}: ")
    assert words in line, line


def test_the_clock_of_a_real_store_and_of_one_that_is_away(store: ObjectStore) -> None:
    assert told(clock(patient(input=store.url("doctor/in/"))))["clock"].startswith("ok: it is")
    options = {"endpoint_url": f"http://{LOOPBACK}:{free_ports(1)[0]}", "attempts": 1}
    assert told(clock(patient(output="s3://lake/out", storage=options)))["clock"].startswith("warning")
    assert "no store was named" in told(clock(patient()))["clock"]
