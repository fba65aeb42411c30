"""What a run tells of itself: every line of the registry, with its own labels and no others."""

from __future__ import annotations

from collections import Counter

import pytest

from pipelines.feed import Listed
from pipelines.metrics import METRICS, counters, gauges
from pipelines.plan import Plan, make_plan
from pipelines.tally import Tally
from schemas.errors import JobError
from schemas.job import make_job
from tests.fixtures.runs import GEMMA3

LISTED = Listed(documents=10, skipped=3, ended=False, passed=6)
COUNTS = {
    ("vision", "expand", "parts"): 9,
    ("vision", "asked", "parts"): 4,
    ("vision", "asked", "done"): 8,
    ("vision", "infer", "done"): 5,
    ("vision", "infer", "failed"): 1,
}
TIMES = {
    ("vision", "infer", "empty"): 2.0,
    ("vision", "infer", "open"): 8.0,
    ("vision", "infer", "full"): 3.0,
}


def plan_of(**settings: object) -> Plan:
    values = {"input": "in", "output": "out", "tasks": ["ocr"], "models": {"vision": str(GEMMA3)}}
    job = make_job({**values, "engine": {"kind": "fault"}, **settings})
    return make_plan(job, None, 0.0)


def test_every_metric_is_told_with_its_labels() -> None:
    tally = Tally()
    tally.faults["error", "expand", "corrupt"] = 2
    tally.counts["failed"] = 1
    plan = plan_of(prices={"engine_hour": 3600, "budget": 5})
    told = [*gauges(plan, tally, LISTED, COUNTS), *counters(plan, tally, LISTED, COUNTS, TIMES, (7, 70))]
    registry = {metric.name: metric.labels for metric in METRICS}
    for name, labels, value in told:
        assert tuple(labels) == registry[name]
        assert value >= 0
    keys = Counter((name, tuple(labels.values())) for name, labels, _ in told)
    assert set(keys.values()) == {1}
    # The two that RunMetrics tells by itself.
    own = {"gemstream_start_timestamp_seconds", "gemstream_last_progress_timestamp_seconds"}
    assert {name for name, _, _ in told} == set(registry) - own
    values = {(name, *labels.values()): value for name, labels, value in told}
    assert values["gemstream_parts_waiting", "vision"] == 5
    assert values["gemstream_requests_in_flight", "vision"] == 2
    assert values["gemstream_documents_total", "skipped"] == 3
    assert values["gemstream_failed_documents_ratio",] == 0.1, "1, with 3 skipped and 6 passed over"
    assert values["gemstream_engine_place_seconds_total", "vision"] == 8
    assert values["gemstream_stage_seconds_total", "vision", "infer", "empty"] == 2
    assert values["gemstream_cost_total", "USD"] == 5, "three seconds full, two empty"


def test_without_prices_nothing_is_said_of_money() -> None:
    plan = plan_of()
    told = [*gauges(plan, Tally(), LISTED, {}), *counters(plan, Tally(), LISTED, {}, {}, (0, 0))]
    assert not [name for name, _, _ in told if "cost" in name]


def test_a_budget_needs_a_price() -> None:
    with pytest.raises(JobError, match="name at least one"):
        plan_of(prices={"budget": 5})


def test_names_are_prometheus_own() -> None:
    for metric in METRICS:
        assert metric.name.startswith("gemstream_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
