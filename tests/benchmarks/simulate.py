"""`python -m tests.benchmarks.simulate`: a run on 1 to 512 engines, event by event, and what breaks first.

Nobody here has 512 GPUs. What is real are the service times: of expand and of the places that a run has only
once they are measured on this program's own parts (`costs`), of the engines they are those of a rates file
or derived from a data sheet. What is simulated is how they get in each other's way.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from pipelines.holdings import ROWS_AT_ONCE
from schemas.rates import Rates, find_rates
from tests.benchmarks import traffic
from tests.benchmarks.costs import MEASURED, Costs
from tests.benchmarks.lake import Cluster, Graph, Lake
from tests.benchmarks.stations import Pace
from tests.benchmarks.traffic import Run

MODEL = "google/gemma-3-4b-it"
ENGINES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
PROMPT_TOKENS = 320
"""Of a page: Gemma 3's 256 of its picture, and the instruction."""
LEAST_DOCUMENTS, DOCUMENTS_EACH = 2_400, 500
"""Of a run: an engine's share is twice what is in hand for it."""
EFFICIENT = 0.9
CPU_SLACK, LEAST_CPUS = 1.5, 2
"""Expand workers over what the engines would take on average: documents are not alike, and one on which a
parser is stuck must not be all that an engine waits for."""
OBJECT_GETS, OBJECT_PUTS = 5_500, 3_500
"""A second and prefix of S3 (its user guide, "Optimizing Amazon S3 performance")."""
FILE_GETS, FILES_AT_ONCE = 4, 8
"""`workers.sinks.reading`: requests for one part file above 1 MiB, and files read ahead."""
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Hardware:
    """A GPU and what an engine makes of it.

    Attributes:
        rates: its rates with every place taken.
        places: answers that fit its memory, at most `engine.max_num_seqs`.
        fixed_share: of a full step, the reading of the weights.
    """

    rates: Rates
    places: int
    fixed_share: float


HARDWARE = {
    # An L4 has room for 82 answers of 1,024 tokens; a step reads 7.8 GB of weights and 0.15 an answer
    # (`schemas.gpus`).
    "L4": Hardware(find_rates("L4"), 82, 0.39),
    "A100": Hardware(find_rates("A100"), 256, 0.17),
    "H100": Hardware(find_rates("H100"), 256, 0.17),
}


def cluster_of(hardware: Hardware, model: str, lake: Lake, engines: int, graph: Graph) -> Cluster:
    """So many engines, with the CPUs that they need."""
    rates, engine = hardware.rates, hardware.rates.engines[model]
    prefill = PROMPT_TOKENS / engine.prefill_tokens_per_second + engine.media_seconds.get("page", 0.0)
    pace = Pace(
        hardware.places,
        prefill,
        hardware.places / engine.decode_tokens_per_second,
        hardware.fixed_share,
        engine.start_seconds,
    )
    expand = rates.expand_seconds["page"]
    page = expand + lake.stuck * lake.stuck_seconds / lake.pages_mean
    return Cluster(
        engines=engines,
        pace=pace,
        expand_seconds=expand,
        cpus=max(LEAST_CPUS, math.ceil(CPU_SLACK * page * full_rate(pace, lake))),
        list_keys_per_second=rates.list_keys_per_second,
        get_bytes_per_second=rates.get_bytes_per_second,
        graph=graph,
    )


def full_rate(pace: Pace, lake: Lake) -> float:
    """Pages a second of one engine whose every place is always taken."""
    return 1 / (pace.prefill_seconds + lake.answer_mean * pace.full_step / pace.places)


def demands(costs: Costs, cluster: Cluster, lake: Lake) -> dict[str, tuple[float, float]]:
    """What each single place spends on a page, and on an engine a second, whatever the number of engines."""
    task_pages = traffic.TASK_DOCUMENTS * lake.pages_mean
    blocks = 1 / lake.block_pages
    graph, looks = cluster.graph, blocks * cluster.graph.looks_by_block
    calls = traffic.EXPAND_CALLS / task_pages + blocks * traffic.INFER_CALLS + looks * traffic.LOOK_CALLS
    listeners = graph.at_once if graph.listens_by_block else 1
    listening = listeners * traffic.LISTEN_CALLS / traffic.LISTEN_SECONDS
    driver = costs.driver_task / task_pages + blocks * costs.driver_block + looks * costs.driver_look
    return {
        "driver": (driver, 0.0),
        "meter": (calls * costs.meter_call, listening * costs.meter_call),
        "journal": (2 * (blocks + 1 / task_pages) * costs.journal_call, 0.0),
        "feed": (costs.feed_document / lake.pages_mean, 0.0),
        "list": (1 / cluster.list_keys_per_second / lake.pages_mean, 0.0),
        "S3 GET": (1 / OBJECT_GETS / lake.pages_mean, 0.0),
    }


@dataclass(frozen=True)
class Scale:
    """One line of the table; `used` are shares of time."""

    engines: int
    pages_per_second: float
    efficiency: float
    used: dict[str, float]
    block_bytes: int
    losses: int

    @property
    def busiest(self) -> tuple[str, float]:
        """Of the places that there is one of."""
        single = {name: share for name, share in self.used.items() if name not in ("expand", "places")}
        return max(single.items(), key=lambda item: item[1])


def series(hardware: Hardware, model: str, lake: Lake, costs: Costs, **how: Any) -> list[Scale]:
    """Runs on growing clusters; the first one's rate is what the others are held against.

    Args:
        hardware: of every engine.
        model: of its rates.
        lake: of which a part is run, in proportion to the engines.
        costs: of the single places.
        **how: `engines` (how many, run by run), `graph`, `seed`.
    """
    found: list[Scale] = []
    for engines in how["engines"]:
        cluster = cluster_of(hardware, model, lake, engines, how["graph"])
        documents = max(LEAST_DOCUMENTS, DOCUMENTS_EACH * engines)
        run = Run(lake, cluster, costs, documents, how["seed"]).to_the_end()
        rate = run.rate()
        alone = found[0].pages_per_second / found[0].engines if found else rate / engines
        held = run.peak_blocks * MIB
        found.append(Scale(engines, rate, rate / (engines * alone), run.used, held, run.counts["losses"]))
        typer.echo(f"{engines} engines: {rate:.1f} pages/s", err=True)
    return found


def verdict(found: list[Scale]) -> str:
    """What breaks first, in a sentence."""
    for scale in found:
        if scale.efficiency < EFFICIENT:
            name, share = scale.busiest
            return (
                f"breaks first: the {name}, {share:.0%} of its time at {scale.engines} engines, where "
                f"{scale.efficiency:.0%} of the linear rate is left"
            )
    return f"nothing breaks up to {found[-1].engines} engines: {found[-1].efficiency:.0%} of the linear rate"


def scale_table(found: list[Scale]) -> Table:
    """A line per number of engines."""
    single = ("driver", "meter", "journal", "feed", "list")
    shown = Table("engines", "pages/s", "of linear", "places taken", "expand", *single, "GiB in blocks")
    for scale in found:
        shares = (scale.used[name] for name in ("places", "expand", *single))
        shown.add_row(
            str(scale.engines),
            f"{scale.pages_per_second:,.1f}",
            f"{scale.efficiency:.2f}",
            *(f"{share:.1%}" for share in shares),
            f"{scale.block_bytes / GIB:.1f}",
        )
    return shown


def limits_table(costs: Costs, cluster: Cluster, lake: Lake, each: float) -> Table:
    """What each single place takes at most, by its own service time."""
    shown = Table("there is one", "ms a page", "ms a second and engine", "at most pages/s", "engines")
    for name, (page, engine) in demands(costs, cluster, lake).items():
        # n engines of `each` pages a second fill it where n (page each + engine) = 1.
        engines = 1 / (page * each + engine)
        row = (f"{1_000 * page:.4f}", f"{1_000 * engine:.2f}", f"{engines * each:,.0f}", f"{engines:,.0f}")
        shown.add_row(name, *row)
    return shown


def lake_table(found: list[Scale], costs: Costs, pages: float, shards: int, cluster: Cluster) -> Table:
    """What one run takes, of a lake in so many shards with an output and a cluster each: the engines are one
    shard's."""
    shown = Table(
        "engines", "hours", "rows a file", "files", "ledger GB", "settle GB", "settle read h", "settle h"
    )
    pages /= shards
    for scale in found:
        rows = min(traffic.SINK_ROWS, scale.pages_per_second * traffic.SINK_SECONDS)
        files = pages / rows
        # Once to count, then once for each share of the documents.
        passes = math.ceil(pages / ROWS_AT_ONCE)
        read = passes * costs.settle_read_seconds * pages
        read += (1 + passes) * files * FILE_GETS * 0.05 / FILES_AT_ONCE
        assembled = costs.assemble_seconds * pages / (cluster.cpus * scale.engines)
        settled = read + costs.settle_seconds * pages + assembled
        shown.add_row(
            str(scale.engines),
            f"{pages / scale.pages_per_second / 3_600:,.1f}",
            f"{rows:,.0f}",
            f"{files:,.0f}",
            f"{costs.ledger_bytes * pages / 1e9:,.0f}",
            f"{costs.settle_bytes * min(pages, ROWS_AT_ONCE) / 1e9:,.0f}",
            f"{read / 3_600:.1f}",
            f"{settled / 3_600:.1f}",
        )
    return shown


def main(
    hardware: Annotated[str, typer.Option(help=f"Of {', '.join(HARDWARE)}.")] = "L4",
    rates: Annotated[Path | None, typer.Option(help="Of `gemstream bench`, in place of it.")] = None,
    model: Annotated[str, typer.Option(help="Of the rates.")] = MODEL,
    costs: Annotated[Path | None, typer.Option(help="Of `python -m tests.benchmarks.costs`.")] = None,
    engines: Annotated[list[int] | None, typer.Option(help="How many, run by run.")] = None,
    at_once: Annotated[int | None, typer.Option(help="Blocks in work in an engine.")] = None,
    pages_mean: Annotated[float, typer.Option(help="Pages a document.")] = Lake.pages_mean,
    lake_pages: Annotated[float, typer.Option(help="Of the whole lake.")] = 1e8,
    shards: Annotated[int, typer.Option(help="It is divided in, with an output each.")] = 1,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    save: Annotated[Path | None, typer.Option(help="Where the figures go, as JSON.")] = None,
) -> None:
    """Simulate a run on growing clusters, and say what breaks first."""
    if hardware not in HARDWARE:
        raise typer.BadParameter(f"{hardware!r} is none of {', '.join(HARDWARE)}", param_hint="--hardware")
    chosen = HARDWARE[hardware]
    if rates is not None:
        chosen = replace(chosen, rates=find_rates(str(rates)))
    if model not in chosen.rates.engines:
        known = ", ".join(chosen.rates.engines)
        raise typer.BadParameter(f"{model!r} is not in the rates, which have {known}", param_hint="--model")
    spent = MEASURED if costs is None else Costs(**json.loads(costs.read_text()))
    lake = Lake(pages_mean=pages_mean)
    graph = replace(Graph(), at_once=at_once or Graph.at_once)
    found = series(chosen, model, lake, spent, engines=engines or ENGINES, graph=graph, seed=seed)
    cluster = cluster_of(chosen, model, lake, 1, graph)
    each = found[0].pages_per_second / found[0].engines
    console = Console(width=160)
    typer.echo(f"engines: {chosen.rates.hardware}, {chosen.rates.source}; single places: {spent.source}")
    typer.echo(
        f"a page: {PROMPT_TOKENS} tokens in, {lake.answer_mean:.0f} out; an engine with all {chosen.places} "
        f"places taken: {full_rate(cluster.pace, lake):.2f} pages/s; {cluster.cpus} CPUs each to expand"
    )
    tables = [scale_table(found), limits_table(spent, cluster, lake, each)]
    tables.append(lake_table(found, spent, lake_pages, shards, cluster))
    for table in tables:
        table.box = MARKDOWN
        console.print(table)
    typer.echo(verdict(found))
    if save is not None:
        save.write_text(json.dumps([asdict(scale) for scale in found], indent=1))


if __name__ == "__main__":
    typer.run(main)
