"""Where stages hear that the run is to end, and that nobody says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError

from pipelines.meter import MeterHandle


def handle() -> MeterHandle:
    actor: Any = SimpleNamespace(draining=SimpleNamespace(remote=lambda: "asked"))
    return MeterHandle(actor)


@pytest.mark.parametrize(
    "fault", [ActorDiedError(), ActorUnavailableError("its node is away", None), GetTimeoutError()]
)
def test_a_meter_that_is_gone_ends_no_worker(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def get(reference: object, *, timeout: float) -> bool:
        raise fault

    monkeypatch.setattr(ray, "get", get)
    assert handle().draining() is False


def test_what_it_says_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda reference, *, timeout: reference == "asked")
    assert handle().draining() is True
