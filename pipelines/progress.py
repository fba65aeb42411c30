"""How far a run is: one live line per stage on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

LOG_SECONDS = 10.0
STAGES = ("list", "expand", "infer", "write")


@dataclass
class Stage:
    """One stage so far. `total` is what it will have to do, where that is known."""

    done: int = 0
    failed: int = 0
    in_flight: int = 0
    total: int | None = None
    since: float | None = None
    """When its first work was done: its rate is not dragged down by an engine that loads for a minute."""
    latest: float = 0.0
    """When it last got on: a stage that has finished keeps the rate it had."""

    def advance(self, now: float, done: int, failed: int = 0) -> None:
        """Take in new counts."""
        if done + failed > self.done + self.failed:
            self.latest = now
            self.since = now if self.since is None else self.since
        self.done, self.failed = done, failed

    def rate(self) -> float:
        """Units a second, from its first to its last."""
        if self.since is None or self.latest <= self.since:
            return 0.0
        return (self.done + self.failed) / (self.latest - self.since)

    def eta(self) -> str:
        """Time to go, as minutes and seconds."""
        rate = self.rate()
        if self.total is None or not rate:
            return "-"
        left = max(0, self.total - self.done - self.failed) / rate
        return f"{int(left // 60)}:{int(left % 60):02d}"


class Progress:
    """The stages of one run and how they are shown."""

    def __init__(self, console: Console) -> None:
        self.stages = {name: Stage() for name in STAGES}
        self._console = console
        self._live: Live | None = None
        self._logged = time.monotonic()
        self._said: dict[str, str] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show while the run goes on; on a terminal the lines are replaced in place."""
        if not self._console.is_terminal:
            yield
            return
        with Live(self._table(), console=self._console, transient=True, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def update(
        self, counts: dict[tuple[str, str], int], *, listed: int, skipped: int, ended: bool, written: int
    ) -> None:
        """Take in the counts of all stages, and show them when it is time."""
        now = time.monotonic()
        stages = self.stages
        stages["list"].advance(now, listed)
        for name in ("expand", "infer"):
            stages[name].advance(now, counts.get((name, "done"), 0), counts.get((name, "failed"), 0))
        stages["expand"].total = listed - skipped if ended else None
        answered = stages["infer"].done + stages["infer"].failed
        asked = counts.get(("asked", "done"), 0)
        stages["infer"].in_flight = max(0, asked - answered)
        stages["write"].advance(now, written)
        stages["write"].in_flight = max(0, answered - written)
        finished = ended and stages["expand"].done + stages["expand"].failed >= listed - skipped
        stages["infer"].total = stages["write"].total = asked if finished else None
        self._show(now)

    def _show(self, now: float) -> None:
        if self._live is not None:
            self._live.update(self._table())
        elif now - self._logged >= LOG_SECONDS:
            self._logged = now
            for name, stage in self.stages.items():
                line = (
                    f"{name}: {stage.done} done, {stage.rate():.1f}/s, {stage.in_flight} in flight, "
                    f"{stage.failed} failed, ETA {stage.eta()}"
                )
                if self._said.get(name) != line:  # a log says what is new
                    self._said[name] = line
                    self._console.print(line, highlight=False)

    def _table(self) -> Table:
        table = Table("stage", "done", "rate", "in flight", "failed", "ETA", box=None)
        for name, stage in self.stages.items():
            table.add_row(
                name,
                str(stage.done),
                f"{stage.rate():.1f}/s",
                str(stage.in_flight),
                str(stage.failed),
                stage.eta(),
            )
        return table
