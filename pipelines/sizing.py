"""What a run takes, from how much there is to do and how fast it goes: tokens, hours, bytes, money.

A prediction is a sum over parts and answers, for engines whose places are all taken and CPUs that never wait:
what a run takes beyond it is what it waited for, of which its report says more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from pipelines.expectation import expect
from schemas.rates import name_of
from workers.registry import ENGINES, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import RenderableType

    from pipelines.expectation import Expected, Key, Seen
    from pipelines.plan import Lane, Plan
    from schemas.rates import Rates
    from workers.prompt import Ask

HOUR = 3_600.0


@dataclass(frozen=True)
class Load:
    """Answers of one task that one engine pool owes; `extra_tokens` of all their prompts are of tiles."""

    lane: Lane
    ask: Ask
    answers: int
    extra_tokens: int = 0


@dataclass(frozen=True)
class Work:
    """What there is to do. `parts` by kind are expanded, `drawn` of them are put before a model as media."""

    loads: tuple[Load, ...]
    parts: Mapping[str, int]
    drawn: Mapping[str, int]


class Prediction(BaseModel):
    """What a run is expected to take, and what each figure was computed from. What no rates are there for is
    null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_tokens: int
    cached_tokens: int = Field(description="Of these, what the engines' caches are expected to have.")
    output_tokens: int
    output_bytes: int = Field(description="Of records/.")
    engine_seconds: dict[str, float] | None = Field(
        None, description="Model -> seconds of engines with all their places taken, their starts included."
    )
    expand_seconds: float | None = Field(None, description="CPU seconds.")
    cpu_seconds: float | None = Field(None, description="CPU seconds outside the engines' own processes.")
    rates: str | None = Field(None, description="What the rates are of, if there are any.")
    cost: float | None = None
    currency: str | None = None
    basis: dict[str, str] = Field(default_factory=dict, description="Figure -> what it was computed from.")

    @property
    def engine_hours(self) -> float | None:
        """Of all engines together."""
        return None if self.engine_seconds is None else sum(self.engine_seconds.values()) / HOUR

    def table(self) -> RenderableType:
        """As a table of a terminal."""
        from rich.table import Table

        shown = Table("what", "expected", "computed from", title="size of the run")
        for name, what, value in self._figures():
            shown.add_row(what, value, self.basis.get(name, ""))
        return shown

    def _figures(self) -> Iterable[tuple[str, str, str]]:
        yield "prompt_tokens", "tokens in", f"{self.prompt_tokens:,}"
        yield "cached_tokens", "of these, cached", f"{self.cached_tokens:,}"
        yield "output_tokens", "tokens out", f"{self.output_tokens:,}"
        for model, seconds in (self.engine_seconds or {}).items():
            yield f"engine_seconds/{model}", f"engines, {model}", duration(seconds)
        if self.engine_seconds is None:
            yield "engine_seconds", "engines", "not known"
        yield "expand_seconds", "CPU time of expand", duration(self.expand_seconds)
        yield "cpu_seconds", "CPU time in all", duration(self.cpu_seconds)
        yield "output_bytes", "bytes of records", f"{self.output_bytes:,}"
        if self.cost is not None:
            yield "cost", "cost", f"{self.cost:,.4g} {self.currency}"
        elif "cost" in self.basis:
            yield "cost", "cost", "not known"
        if self.rates is not None:
            yield "rates", "rates", self.rates


def duration(seconds: float | None) -> str:
    """Seconds, or hours where there are many."""
    if seconds is None:
        return "not known"
    return f"{seconds / HOUR:,.1f} h" if seconds >= HOUR else f"{seconds:,.1f} s"


def predict(plan: Plan, work: Work, seen: dict[Key, Seen]) -> Prediction:
    """Size a run.

    Args:
        plan: the run; its job has rates and prices, or not.
        work: what there is to do.
        seen: of each task, what its records took so far (`read_seen`).
    """
    expected = _expected(plan, work, seen)
    total: Counter[str] = Counter()
    read: defaultdict[str, float] = defaultdict(float)
    said: defaultdict[str, float] = defaultdict(float)
    for load, each in expected:
        prompt = load.answers * each.prompt_tokens + load.extra_tokens
        cached = load.answers * each.cached_tokens
        output = load.answers * each.output_tokens
        total.update(
            prompt=round(prompt),
            cached=round(cached),
            output=round(output),
            bytes=round(load.answers * each.output_bytes),
            answers=load.answers,
        )
        read[load.lane.pool] += prompt - cached
        said[load.lane.pool] += output
    asked = _told((load.ask.task.name, each.asked) for load, each in expected)
    told = _told((load.ask.task.name, each.answered) for load, each in expected)
    found = Prediction(
        prompt_tokens=total["prompt"],
        cached_tokens=total["cached"],
        output_tokens=total["output"],
        output_bytes=total["bytes"],
        basis={
            "prompt_tokens": f"{total['answers']:,} answers; {asked}" if asked else "nothing is to be asked",
            "cached_tokens": "the media of a part, for each question about it after the first; or as above",
            "output_tokens": told,
            "output_bytes": told,
        },
    )
    rates = plan.job.rates
    if rates is not None:
        found = _timed(found, plan, rates, work, total["answers"], read, said)
    return _priced(found, plan)


def _told(sources: Iterable[tuple[str, str]]) -> str:
    """Sources, each once with the tasks that have it."""
    tasks: defaultdict[str, list[str]] = defaultdict(list)
    for task, source in sources:
        tasks[source].append(task)
    return "; ".join(f"{', '.join(dict.fromkeys(names))}: {source}" for source, names in tasks.items())


def _expected(plan: Plan, work: Work, seen: dict[Key, Seen]) -> list[tuple[Load, Expected]]:
    hosted = resolve(ENGINES, plan.job.engine.kind, "engine").hosts_model
    asked: set[str] = set()
    expected = []
    for load in work.loads:
        if load.answers:
            shares = hosted and load.lane.pool in asked
            expected.append((load, expect(load.lane, load.ask, seen, shares=shares)))
            asked.add(load.lane.pool)
    return expected


def _timed(
    found: Prediction,
    plan: Plan,
    rates: Rates,
    work: Work,
    answers: int,
    read: Mapping[str, float],
    said: Mapping[str, float],
) -> Prediction:
    """With the hours, of what there are rates for."""
    engines: dict[str, float] = {}
    basis = dict(found.basis)
    lacking = []
    if resolve(ENGINES, plan.job.engine.kind, "engine").hosts_model:
        for lane in plan.lanes:
            if not read.get(lane.pool):
                continue
            known, model = rates.of(lane.model), name_of(lane.model)
            if known is None:
                lacking.append(model)
                continue
            media = {kind: work.drawn.get(kind, 0) for kind in lane.tasks_by_kind}
            encoded = sum(count * known.media_seconds.get(kind, 0.0) for kind, count in media.items())
            # What is asked about whole documents is asked by engines that start anew.
            passes = 1 + any(load.answers and load.ask.room for load in work.loads if load.lane is lane)
            starts = passes * plan.job.engine.replicas
            prefill = read[lane.pool] / known.prefill_tokens_per_second
            decode = said[lane.pool] / known.decode_tokens_per_second
            engines[model] = round(
                engines.get(model, 0.0) + prefill + decode + encoded + starts * known.start_seconds, 3
            )
            basis[f"engine_seconds/{model}"] = (
                f"{prefill:,.1f} s of {read[lane.pool]:,.0f} prompt tokens, {encoded:,.1f} s of "
                f"{sum(media.values()):,} pictures and clips, {decode:,.1f} s of {said[lane.pool]:,.0f} "
                f"answer tokens, {starts} start(s) of {known.start_seconds:,.0f} s"
            )
    if lacking:
        basis["engine_seconds"] = (
            f"the rates of {rates.hardware} do not know {', '.join(sorted(set(lacking)))}"
        )
    unknown = [kind for kind, count in work.parts.items() if count and kind not in rates.expand_seconds]
    expand = sum(count * rates.expand_seconds.get(kind, 0.0) for kind, count in work.parts.items())
    parts = " + ".join(
        f"{count:,} {kind}s x {rates.expand_seconds.get(kind, 0.0):.4f} s"
        for kind, count in sorted(work.parts.items())
    )
    basis["expand_seconds"] = f"no rate of {unknown[0]}s" if unknown else parts or "no parts"
    basis["rates"] = rates.source
    basis["cpu_seconds"] = f"expand + {answers:,} records x {rates.record_seconds:.4f} s"
    return found.model_copy(
        update={
            "engine_seconds": None if lacking else engines,
            "expand_seconds": None if unknown else round(expand, 3),
            "cpu_seconds": None if unknown else round(expand + answers * rates.record_seconds, 3),
            "rates": rates.hardware,
            "basis": basis,
        }
    )


def _priced(found: Prediction, plan: Plan) -> Prediction:
    """With what it costs, if there are prices, and hours for those that are by the hour."""
    prices = plan.job.prices
    if prices is None:
        return found
    engines, cpus = found.engine_hours, found.cpu_seconds
    lacks = (prices.engine_hour and engines is None) or (prices.cpu_hour and cpus is None)
    if lacks:
        basis = found.basis | {"cost": "prices by the hour, and no rates to tell the hours by"}
        return found.model_copy(update={"basis": basis})
    hosted = resolve(ENGINES, plan.job.engine.kind, "engine").hosts_model
    served = (0, 0) if hosted else (found.prompt_tokens, found.output_tokens)
    cost = prices.cost(engines or 0.0, (cpus or 0.0) / HOUR, *served)
    told = [f"{name} {value:g}" for name, value in prices.model_dump(exclude={"currency"}).items() if value]
    basis = found.basis | {"cost": f"the job's prices: {', '.join(told)}; nothing for idle time"}
    return found.model_copy(update={"cost": round(cost, 6), "currency": prices.currency, "basis": basis})
