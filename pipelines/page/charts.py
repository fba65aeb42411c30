"""The page's charts: Vega-Lite specifications, drawn as SVG without a browser.

Colours are variables of the page's style sheet, so that they follow it into the dark. The only words from
outside that a chart has are names of tasks, which the library escapes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pipelines.page.model import Distribution, Page
    from pipelines.verdict import Bottleneck

WIDTH, HEIGHT = 330, 150
"""As wide as a phone shows without making its letters smaller."""
SLICES = 60
FEW = 8
"""Bars of which one is as wide as a bar should be at most."""
CONFIG: dict[str, Any] = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "titleFontWeight": "normal",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titlePadding": 6,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
}
_NAMES = re.compile(r'(\bid="|url\(#|href="#)')


@dataclass(frozen=True)
class Chart:
    """One drawing. `label` says what it shows to those who do not see it."""

    title: str
    label: str
    svg: str


class Draughtsman:
    """Draws, and gives each drawing names of its own."""

    def __init__(self) -> None:
        self._drawn = 0

    def draw(self, title: str, label: str, **spec: Any) -> Chart:
        """One chart.

        Args:
            title: over it.
            label: instead of it.
            **spec: Vega-Lite's, but for its size and looks.
        """
        import vl_convert

        whole = {
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "width": WIDTH,
            "height": HEIGHT,
            "autosize": {"type": "fit", "contains": "padding"},
            "padding": 2,
            "background": None,
            "config": CONFIG,
            **spec,
        }
        svg: str = vl_convert.vegalite_to_svg(whole)
        self._drawn += 1
        return Chart(title, label, _NAMES.sub(rf"\g<1>chart{self._drawn}-", svg))


def over_time(page: Page, draughtsman: Draughtsman) -> Iterator[Chart]:
    """How fast the run went on."""
    report, history = page.report, page.report.history
    unit, name = _unit(report.seconds)
    slices = min(SLICES, max(1, len(history.seconds) - 1))
    for title, what, counts in (
        ("Answers per second", "answers/s", history.answered),
        ("Documents per second", "documents/s", history.expanded),
    ):
        if not counts or not counts[-1]:
            continue
        rates = _rates(history.seconds, counts, report.seconds, slices)
        yield _steps(draughtsman, title, what, rates, report.seconds / unit, name)
    tokens = page.facts.tokens_over_time
    if any(tokens):
        wide = max(report.seconds, 1e-3) / len(tokens)
        rates = [count / wide for count in tokens]
        yield _steps(draughtsman, "Tokens written per second", "tokens/s", rates, report.seconds / unit, name)


def occupancy(pool: str, found: Bottleneck, seconds: float, draughtsman: Draughtsman) -> Chart:
    """How full a pool's engines were."""
    unit, name = _unit(seconds)
    first, apart = found.over_time[0][0], seconds / len(found.over_time)
    if len(found.over_time) > 1:
        apart = found.over_time[1][0] - first
    # Each point speaks for the time before it; of the first nobody knows for how much.
    points = [(max(0.0, first - apart), *found.over_time[0][1:]), *found.over_time]
    values = [{"t": at / unit, "taken": taken, "queued": min(queued, taken)} for at, taken, queued in points]
    mean = "-" if found.occupancy is None else f"{found.occupancy:.0%}"
    x = {"field": "t", "type": "quantitative", "title": name, "scale": {"domain": [0, seconds / unit]}}
    y = {"type": "quantitative", "title": "places taken"}
    steps = {"interpolate": "step-before"}
    return draughtsman.draw(
        f"Requests in the {pool} engines",
        f"Requests in the {pool} engines over their places, over time: {mean} on average.",
        data={"values": values},
        layer=[
            {
                "mark": {"type": "area", "color": "var(--c1)", **steps},
                "encoding": {"x": x, "y": {"field": "taken", **y, "axis": {"format": "%", "tickCount": 4}}},
            },
            {
                "mark": {"type": "line", "color": "var(--c2)", "strokeWidth": 1.5, **steps},
                "encoding": {"x": x, "y": {"field": "queued", **y}},
            },
            {
                "mark": {"type": "rule", "color": "var(--muted)", "strokeDash": [3, 3]},
                "encoding": {"y": {"datum": 1}},
            },
        ],
    )


def distribution(task: str, found: Distribution, draughtsman: Draughtsman, axis: str) -> Chart:
    """How often a task's answers took, or were, so much."""
    edges, domain = found.edges, (found.edges[0], found.edges[-1])
    ticks: dict[str, Any] = {"format": "~s", "tickCount": 6, "tickMinStep": 1}
    if found.log:
        ticks = {"format": "~g", "values": _round_numbers(*domain)}
    elif edges[-1] <= 1:
        domain = (0.0, 1.0)
        ticks = {"format": "~%", "tickCount": 6}
    elif edges[1] - edges[0] == 1:
        # The bar of a number stands over it, and a few bars do not fill the chart.
        edges = tuple(edge - 0.5 for edge in edges)
        room = max(0, FEW - len(found.counts)) / 2
        domain = (max(-0.5, edges[0] - room), edges[-1] + room)
    scale = {"domain": domain, "nice": False, "type": "log" if found.log else "linear"}
    values = [{"a": a, "b": b, "n": n} for a, b, n in zip(edges[:-1], edges[1:], found.counts, strict=True)]
    x = {"field": "a", "type": "quantitative", "bin": "binned", "title": axis, "scale": scale, "axis": ticks}
    y = {"field": "n", "type": "quantitative", "title": "answers"}
    return draughtsman.draw(
        task,
        f"{axis} of {found.total} answers to {task}: half of them up to {found.median:.4g}, 95% up to "
        f"{found.p95:.4g}, the most {found.most:.4g}.",
        data={"values": values},
        mark={"type": "bar", "color": "var(--c1)", "binSpacing": 1},
        encoding={
            "x": x,
            "x2": {"field": "b"},
            "y": {**y, "axis": {"tickCount": 4, "tickMinStep": 1, "format": "~s"}},
        },
    )


def _steps(
    draughtsman: Draughtsman, title: str, what: str, rates: Sequence[float], end: float, unit: str
) -> Chart:
    wide = end / len(rates)
    values = [{"a": i * wide, "b": (i + 1) * wide, "y": rate} for i, rate in enumerate(rates)]
    mean = sum(rates) / len(rates)
    return draughtsman.draw(
        title,
        f"{title} over the run: {mean:.4g} on average, {max(rates):.4g} at most.",
        data={"values": values},
        layer=[
            {
                "mark": {"type": "bar", "color": "var(--c1)", "binSpacing": 0},
                "encoding": {
                    "x": {
                        **{"field": "a", "type": "quantitative", "bin": "binned", "title": unit},
                        "scale": {"domain": [0, end], "nice": False},
                        "axis": {"tickCount": 6},
                    },
                    "x2": {"field": "b"},
                    "y": {
                        **{"field": "y", "type": "quantitative", "title": what},
                        "axis": {"tickCount": 4, "format": "~s"},
                    },
                },
            },
            {
                "mark": {"type": "rule", "color": "var(--c2)", "strokeDash": [4, 3]},
                "encoding": {"y": {"datum": mean}},
            },
        ],
    )


def _rates(seconds: Sequence[float], counts: Sequence[int], end: float, slices: int) -> list[float]:
    """What was done a second in equal shares of the time, from counts so far at some moments of it."""
    edges = np.linspace(0, max(end, 1e-3), slices + 1)
    rates: list[float] = (np.diff(np.interp(edges, seconds, counts)) / np.diff(edges)).tolist()
    return rates


def _unit(seconds: float) -> tuple[float, str]:
    """In what a run's time is told."""
    if seconds > 3 * 3600:
        return 3600.0, "hours since the start"
    return (60.0, "minutes since the start") if seconds > 300 else (1.0, "seconds since the start")


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade between two numbers; without the 2 and 5 where there are many decades."""
    wide = high / max(low, 1e-6) > 200
    found: Iterable[float] = (
        step * 10.0**power for power in range(-3, 5) for step in ((1,) if wide else (1, 2, 5))
    )
    return [round(number, 6) for number in found if low <= number <= high]
