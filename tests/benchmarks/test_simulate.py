"""The simulation is held against what is known without it: queueing theory, sums by hand, conservation."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import simpy

from tests.benchmarks import traffic
from tests.benchmarks.costs import MEASURED, Costs
from tests.benchmarks.costs_of_files import feed, settle
from tests.benchmarks.costs_of_ray import actors
from tests.benchmarks.lake import BEFORE, Cluster, Graph, Lake
from tests.benchmarks.simulate import HARDWARE, MODEL, Scale, cluster_of, demands, full_rate, verdict
from tests.benchmarks.stations import Block, Document, Engine, Pace, Station
from tests.benchmarks.traffic import Run

CUSTOMERS = 100_000
PACE = Pace(places=4, prefill_seconds=0.5, full_step=0.08, fixed_share=0.25, start_seconds=10)
FREE = replace(MEASURED, **{name: 0.0 for name, value in vars(MEASURED).items() if isinstance(value, float)})
LAKE = Lake(pages_mean=6, answer_tokens=50)


def cluster(engines: int = 2, **settings: Any) -> Cluster:
    known = {"pace": PACE, "expand_seconds": 0.02, "cpus": 1, "list_keys_per_second": 5_000.0}
    known |= {"losses_per_hour": 0.0, "graph": BEFORE}
    return Cluster(engines=engines, **{**known, **settings})


def run(documents: int = 160, costs: Costs = FREE, lake: Lake = LAKE, seed: int = 0, **settings: Any) -> Run:
    return Run(lake, cluster(**settings), costs, documents, seed).to_the_end()


def erlang_c(servers: int, load: float) -> float:
    """The chance of having to wait in an M/M/c queue; `load` is in servers."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(("servers", "used"), [(1, 0.4), (1, 0.7), (3, 0.7)])
def test_a_station_is_an_m_m_c_queue(servers: int, used: float) -> None:
    env, rng = simpy.Environment(), random.Random(servers)
    station, waited = Station(env, servers), 0.0

    def arrivals() -> Any:
        nonlocal waited
        for _ in range(CUSTOMERS):
            yield env.timeout(rng.expovariate(used * servers))
            seconds = rng.expovariate(1)
            waited += station.note(seconds) - env.now - seconds

    env.run(until=env.process(arrivals()))
    expected = erlang_c(servers, used * servers) / (servers * (1 - used))
    # Of the mean of so many waits, two deviations are 5% at a load of 0.7.
    assert waited / CUSTOMERS == pytest.approx(expected, rel=0.05)
    assert station.used() == pytest.approx(used, rel=0.01)


def test_who_takes_a_station_waits_for_its_turn() -> None:
    env, left = simpy.Environment(), []
    station = Station(env, servers=2)

    def customer(came: float) -> Any:
        yield env.timeout(came)
        yield station.take(3.0)
        left.append(env.now)

    for came in (0.0, 1.0, 2.0, 2.5):
        env.process(customer(came))
    env.run()
    assert left == [3.0, 4.0, 6.0, 7.0]


def answered(blocks: list[list[int]], at_once: int = 8, lost_at: float | None = None) -> list[float]:
    """When an engine is done with each of some blocks, which it has from the start."""
    env, times = simpy.Environment(), []
    engine = Engine(env, PACE, at_once, lambda _, block: times.append(env.now))
    for tokens in blocks:
        engine.submit(Block([(Document(1), count) for count in tokens]))
    if lost_at is not None:
        env.run(until=lost_at)
        for block in engine.lose(back=5):
            engine.submit(block)
    env.run(until=1_000)
    return times


def test_an_engine_takes_the_time_that_a_sum_says() -> None:
    assert PACE.step(4) == pytest.approx(0.08)
    assert PACE.step(1) == pytest.approx(0.08 * (0.25 + 0.75 / 4))
    assert answered([[100]]) == pytest.approx([0.5 + 100 * PACE.step(1)])
    # Four at once: four prefills, then steps for all of them.
    assert answered([[100] * 4]) == pytest.approx([4 * 0.5 + 100 * 0.08])
    # A block ends with its longest answer, alone at the end.
    assert answered([[10, 100]]) == pytest.approx([2 * 0.5 + 10 * PACE.step(2) + 90 * PACE.step(1)])
    # One block at a time: the second is only begun then.
    assert answered([[100], [100]], at_once=1) == pytest.approx(
        [0.5 + 100 * PACE.step(1), 2 * (0.5 + 100 * PACE.step(1))]
    )
    # More than there are places: the fifth waits for one of them.
    assert answered([[100] * 5]) == pytest.approx([5 * 0.5 + 100 * 0.08 + 100 * PACE.step(1)])


def test_what_was_in_work_at_a_loss_is_asked_anew() -> None:
    back = 3.0 + 5 + PACE.start_seconds
    assert answered([[100] * 3], lost_at=3.0) == pytest.approx([back + 3 * 0.5 + 100 * PACE.step(3)])


def test_full_engines_give_what_their_pace_allows() -> None:
    lake = replace(LAKE, tail_share=0.0, corrupt=0.0, stuck=0.0)
    found = run(400, lake=lake)
    assert found.rate() == pytest.approx(2 * full_rate(PACE, lake), rel=0.05)
    assert found.used["places"] > 0.6  # the rest of the time it prefills


@pytest.mark.parametrize("losses", [0.0, 5.0])
def test_every_document_and_page_is_accounted_for_once(losses: float) -> None:
    lake = replace(LAKE, corrupt=0.1, stuck=0.01, stuck_seconds=5)
    found = run(600, MEASURED, lake, engines=3, losses_per_hour=losses, back_seconds=10.0).counts
    assert found["listed"] == found["ok"] + found["failed"] == 600
    assert found["failed"] > 0
    assert found["written pages"] == found["made pages"] > 600
    assert bool(found["losses"]) == bool(losses)


def test_the_slowest_single_place_is_the_rate_whatever_there_is_of_the_others() -> None:
    slow = replace(FREE, driver_block=3.0, driver_look=1.0)
    page, _ = demands(slow, cluster(), LAKE)["driver"]
    for engines in (4, 8):
        # The last block of a table is not full, so a block has somewhat fewer pages than it could.
        assert 0.85 / page < run(2_500, slow, engines=engines).rate() < 1 / page


def test_a_meter_that_is_asked_too_often_holds_up_the_driver_that_asks_it_too() -> None:
    slow = replace(FREE, meter_call=1 / (8 * BEFORE.at_once * traffic.LISTEN_CALLS))
    roomy = replace(PACE, places=64, full_step=1.0)
    calm, held = (run(300 * 32, costs, engines=32, pace=roomy).rate() for costs in (FREE, slow))
    few = run(300 * 4, slow, engines=4, pace=roomy)
    assert few.used["meter"] < 0.6 and few.rate() > 0.9 * calm / 8
    assert held < 0.7 * calm
    by_worker = replace(BEFORE, listens_by_block=False)
    assert run(300 * 32, slow, engines=32, pace=roomy, graph=by_worker).rate() > 0.9 * calm


def test_more_blocks_in_work_fill_an_engine_that_has_the_places() -> None:
    hardware, lake = HARDWARE["H100"], Lake()
    rates = []
    for graph in (BEFORE, Graph()):
        made = cluster_of(hardware, MODEL, lake, 1, graph)
        rates.append(Run(lake, made, FREE, 1_500).to_the_end().rate() / full_rate(made.pace, lake))
    few, many = rates
    assert 0.3 < few < 0.7 < 0.8 < many < 1.05


def test_a_run_is_its_seed() -> None:
    one, same, other = (run(120, MEASURED, seed=seed).env.now for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.thorough
def test_costs_are_measured_on_the_real_parts(ray_cluster: None, tmp_path: Path) -> None:
    found = feed(tmp_path, documents=2_000) | actors(calls=2_000) | settle(tmp_path, scale=0.08)
    assert set(found) < set(vars(MEASURED))
    # The difference of two sizes that are both as small as here is noise; the others are not.
    apart = {"settle_square", "settle_bytes", "ledger_bytes"}
    assert not {name: value for name, value in found.items() if value <= 0 and name not in apart}


def test_its_figures_are_the_programs_own() -> None:
    from ray.data import DataContext

    from pipelines import graph, publish, sources, stream
    from pipelines.plan import make_plan
    from schemas.job import SinkOptions, make_job
    from workers import expander, fetch, infer

    plan = make_plan(make_job({"input": "/in", "output": "/out", "tasks": ["ocr"]}), None, gpus=1.0)
    assert graph.blocks_in_flight(plan.lanes[0]) == Graph.at_once
    assert (graph.FEWEST_BLOCKS, graph.DOCUMENTS_PER_TASK) == (Graph.queued, traffic.TASK_DOCUMENTS)
    assert Lake().block_pages == graph.ROWS_A_BLOCK["vision"]
    assert traffic.TABLE_BLOCKS * graph.BLOCK_BYTES == expander.TABLE_BYTES
    assert (SinkOptions().rows, SinkOptions().seconds) == (traffic.SINK_ROWS, traffic.SINK_SECONDS)
    assert (publish.WRITERS, stream.TICK_SECONDS) == (traffic.WRITERS, traffic.TICK_SECONDS)
    assert (fetch.AHEAD, sources.ROWS) == (traffic.AHEAD_FETCHED, traffic.KEYS)
    assert infer.LISTEN_SECONDS == traffic.LISTEN_SECONDS
    assert DataContext().downstream_capacity_backpressure_ratio == traffic.AHEAD


def test_what_breaks_first_is_named() -> None:
    used = {"driver": 0.3, "meter": 0.1, "expand": 0.99, "places": 0.9}
    good = Scale(64, 640.0, 0.98, used, 0, 0)
    bad = replace(good, engines=128, efficiency=0.6, used={**used, "driver": 0.97})
    assert verdict([good, bad]) == (
        "breaks first: the driver, 97% of its time at 128 engines, where 60% of the linear rate is left"
    )
    assert verdict([good]).startswith("nothing breaks up to 64 engines")


def test_a_cluster_has_the_cpus_that_its_engines_need() -> None:
    slow, fast = (cluster_of(HARDWARE[name], MODEL, Lake(), 1, Graph()) for name in ("L4", "H100"))
    for made in (slow, fast):
        assert made.cpus >= full_rate(made.pace, Lake()) * made.expand_seconds
    assert full_rate(fast.pace, Lake()) > 10 * full_rate(slow.pace, Lake())
