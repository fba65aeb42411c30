"""`python -m tests.benchmarks`: run pairs, print one table of Markdown, keep the figures as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    against_daft,
    answering,
    contenders,
    expanding,
    listing,
    resuming,
    scaling,
    stage,
)
from tests.benchmarks.contest import Contest
from tests.benchmarks.limits import LIMITS
from tests.benchmarks.pair import SIDES, Pair, Result

MODULES = (expanding, resuming, listing, answering, stage, scaling, contenders, against_daft)
WIDTH = 200
PAIRS: dict[str, tuple[str, Pair | Contest]] = {
    name: (module.__name__, pair) for module in MODULES for name, pair in module.PAIRS.items()
}


def machine() -> str:
    """What it ran on, in words."""
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    cpu = models[0] if models else platform.machine()
    return f"{os.cpu_count()} x {cpu}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def table(results: list[Result]) -> Table:
    """One row a pair."""
    shown = Table(
        "pair",
        "units",
        "ours",
        "bare",
        "ratio",
        "target",
        "vLLM: cores, ms a unit",
        "CPU ms a unit",
        "peak MiB",
    )
    shown.box = MARKDOWN
    for row in (result.row() for result in results):
        missed = "" if row["ratio"] >= row["target"] else " missed"
        cores, spent = ([row.get(f"{side}_vllm_{fact}") for side in SIDES] for fact in ("cores", "ms"))
        shown.add_row(
            row["pair"],
            f"{row['units']:,} {row['unit']}s",
            f"{row['ours_per_second']:,}/s",
            f"{row['bare_per_second']:,}/s",
            f"{row['ratio']:.2f} ({row['ratio_least']:.2f} to {row['ratio_most']:.2f}){missed}",
            f"{row['target']:.2f}",
            "{:.2f} : {:.2f}, {:.0f} : {:.0f}".format(*cores, *spent) if all(cores) else "",
            f"{row['ours_cpu_ms']:.2f} : {row['bare_cpu_ms']:.2f}",
            f"{row['ours_peak_mib']:.0f} : {row['bare_peak_mib']:.0f}",
        )
    return shown


def explained(results: list[Result]) -> list[str]:
    """By how much each target that is missed is missed, and why."""
    missed = [row for row in (result.row() for result in results) if row["ratio"] < row["target"]]
    return [
        f"{row['pair']} misses its target by {1 - row['ratio'] / row['target']:.0%}: "
        f"{LIMITS.get(row['pair'], 'why is not known')}"
        for row in missed
    ]


def main(
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PAIRS)}; all if not given.")] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    scale: Annotated[float, typer.Option(min=0.001, help="Of the inputs.")] = 1.0,
    save: Annotated[Path | None, typer.Option(help="Where the figures go, as JSON.")] = None,
    documents: Annotated[
        Path | None,
        typer.Option(
            "--input",
            exists=True,
            file_okay=False,
            help=f"A folder of yours, instead of what is generated: for {', '.join(expanding.OPENS)}.",
        ),
    ] = None,
) -> None:
    """Measure us against the bare libraries, in turns."""
    pairs = PAIRS
    if documents is not None:
        pairs = {
            name: (expanding.__name__, expanding.named(expanding.PAIRS[name], documents))
            for name in expanding.OPENS
        }
    unknown = [name for name in only or () if name not in pairs]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(pairs)}", param_hint="--only")
    results: list[Result] = []
    failed = False
    for name in only or pairs:
        module, pair = pairs[name]
        missing = pair.missing(module)
        if missing is not None:
            typer.echo(f"{name}: not measured. {missing}", err=True)
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="gemstream-bench-") as folder:
            try:
                for result in pair.results(module, Path(folder), repetitions, scale):
                    results.append(result)
                    row = result.row()
                    typer.echo(f"{row['pair']}: {row['ratio']:.2f} of the rate of {row['against']}", err=True)
            except RuntimeError as error:  # of this pair; the others are measured all the same
                failed = True
                typer.echo(f"{name}: not measured. {error}", err=True)
        # What is to be cut where the whole table takes longer than half an hour.
        typer.echo(f"{name}: took {time.monotonic() - began:.0f} s", err=True)
    if save is not None:
        save.write_text(
            json.dumps({"machine": machine(), "rows": [result.row() for result in results]}, indent=1)
        )
    typer.echo(f"{machine()}; medians of about {repetitions} turns, ours : bare")
    # As wide as it is: what is to be quoted in a document is not to be folded.
    Console(width=WIDTH).print(table(results))
    for line in explained(results):
        typer.echo(line)
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
