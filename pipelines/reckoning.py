"""What a run took, beside what was to be expected of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pipelines.sizing import HOUR, Load, Prediction, Work, duration, predict
from schemas.rows import PartKind
from workers.registry import ENGINES, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from pipelines.expectation import Key, Seen
    from pipelines.plan import Plan
    from pipelines.tally import Tally
    from pipelines.verdict import Times


class Spent(BaseModel):
    """What a run took.

    `engine_seconds` are those in which an engine started or had a request, `engine_hours` all that its worker
    lived; `expand_seconds` those in which a parser's worker worked, by the clock, `cpu_hours` all that such
    workers lived. What is lived is what is paid for. Tokens are those of the answers that were kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    output_bytes: int
    engine_seconds: float
    engine_hours: float
    expand_seconds: float
    cpu_hours: float
    cost: float | None = None
    currency: str | None = None


class Reckoning(BaseModel):
    """Both sides. The prediction is made from the run's own parts and answers, with the job's rates, and with
    the tokens that earlier records of the output had; it is null where the job has no rates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spent: Spent
    predicted: Prediction | None = None

    def table(self) -> RenderableType:
        """As a table of a terminal."""
        from rich.table import Table

        shown = Table("what", "predicted", "actual", title="what it took")
        for row in self.rows():
            shown.add_row(*row)
        return shown

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """What, what was expected, what it was."""
        spent, told = self.spent, self.predicted
        for what, name in (
            ("tokens in", "prompt_tokens"),
            ("of these, cached", "cached_tokens"),
            ("tokens out", "output_tokens"),
            ("bytes of records", "output_bytes"),
        ):
            yield what, f"{getattr(told, name):,}" if told else "-", f"{getattr(spent, name):,}"
        engines = sum(told.engine_seconds.values()) if told and told.engine_seconds is not None else None
        expand = told.expand_seconds if told else None
        yield "engines, starting and busy", _time(engines), _time(spent.engine_seconds)
        yield "engines, held", "-", _time(spent.engine_hours * HOUR)
        yield "expand, at work", _time(expand), _time(spent.expand_seconds)
        yield "CPUs of expand, held", "-", _time(spent.cpu_hours * HOUR)
        if spent.cost is not None:
            known = told is not None and told.cost is not None
            cost = f"{told.cost:,.4f} {told.currency}" if told and known else "-"
            yield "cost", cost, f"{spent.cost:,.4f} {spent.currency}"


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def reckon(
    plan: Plan,
    tally: Tally,
    times: Times,
    output_bytes: int,
    seen: dict[Key, Seen],
) -> Reckoning | None:
    """What the run took and what was to be expected; None for a job with neither rates nor prices.

    Args:
        plan: the run.
        tally: what it published.
        times: what its workers did with their time.
        output_bytes: what it wrote of records.
        seen: what records had taken before it began.
    """
    job = plan.job
    if job.rates is None and job.prices is None:
        return None
    spent = spent_by(plan, tally, times, output_bytes)
    predicted = None if job.rates is None else predict(plan, work_of(plan, tally), seen)
    return Reckoning(spent=spent, predicted=predicted)


def work_of(plan: Plan, tally: Tally) -> Work:
    """What a run's records say that there was to do. Of a kind of part there are as many as the most records
    that a task has of it."""
    parts: Counter[str] = Counter()
    drawn: Counter[str] = Counter()
    loads = []
    for lane in plan.lanes:
        for ask in (*lane.asks, *lane.wholes):
            whole = ask.room is not None
            found = {
                kind: tally.asked[ask.task.name, kind.value, whole] for kind in PartKind if ask.asks(kind)
            }
            mine = {kind: count for kind, count in found.items() if kind.value in lane.tasks_by_kind}
            loads.append(Load(lane, ask, sum(count["asked"] for count in mine.values())))
            if whole:
                continue
            for kind, count in mine.items():
                parts[kind] = max(parts[kind], count["records"])
                drawn[kind] = max(drawn[kind], count["drawn"])
    return Work(tuple(loads), parts, drawn)


def spent_by(plan: Plan, tally: Tally, times: Times, output_bytes: int) -> Spent:
    """What a run has taken so far."""
    total: Counter[str] = Counter()
    for task in tally.tasks.values():
        total.update({name: task[name] for name in ("prompt_tokens", "cached_tokens", "output_tokens")})

    def sums(stage: str, *states: str) -> float:
        return sum(spent for (_, name, state), spent in times.items() if name == stage and state in states)

    hosted = resolve(ENGINES, plan.job.engine.kind, "engine").hosts_model
    lived = sums("infer", "full", "partly", "empty", "loading", "unstarted") if hosted else 0.0
    engine_hours = lived / HOUR
    cpu_hours = sums("expand", "working", "fetching", "handing", "waiting") / HOUR
    prices, cost = plan.job.prices, None
    if prices is not None:
        served = (0, 0) if hosted else (total["prompt_tokens"], total["output_tokens"])
        cost = round(prices.cost(engine_hours, cpu_hours, *served), 6)
    return Spent(
        prompt_tokens=total["prompt_tokens"],
        cached_tokens=total["cached_tokens"],
        output_tokens=total["output_tokens"],
        output_bytes=output_bytes,
        engine_seconds=round(sums("infer", "loading", "full", "partly"), 3),
        engine_hours=round(engine_hours, 6),
        expand_seconds=round(sums("expand", "working"), 3),
        cpu_hours=round(cpu_hours, 6),
        cost=cost,
        currency=prices.currency if prices else None,
    )
