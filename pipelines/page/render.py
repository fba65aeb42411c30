"""`Page` -> HTML. Every value goes through the template's escaping; no script is there, nothing is loaded."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from pipelines.page.charts import Chart, Draughtsman, distribution, occupancy, over_time
from pipelines.page.media import COLUMNS, HEIGHT
from pipelines.sizing import duration
from schemas.errors import PageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipelines.page.model import Page
    from pipelines.report import RunReport

TEMPLATE, STYLE = "page.html.jinja", "page.css"
OUTCOMES = ("ok", "partial", "failed", "filtered", "skipped")
MEANINGS = {
    "ok": "every answer is there",
    "partial": "some answers are there",
    "failed": "no answer is there",
    "filtered": "nothing is asked of it",
    "skipped": "answered by earlier runs",
}
STATES = {
    "expand": {
        "working": ("busy", "at work"),
        "fetching": ("starved", "waits for bytes"),
        "waiting": ("starved-2", "waits for documents"),
        "handing": ("blocked", "waits for room behind it"),
    },
    "infer": {
        "full": ("busy", "every place taken"),
        "partly": ("busy-2", "some places taken"),
        "empty": ("starved", "waits for requests"),
        "loading": ("start", "loads its model"),
        "unstarted": ("start-2", "waits for its worker"),
    },
}
"""Stage -> state -> its colour, and what it is called."""
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def render(page: Page) -> bytes:
    """The page.

    Raises:
        PageError: it cannot be drawn.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError

    environment = Environment(
        loader=PackageLoader("pipelines.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {
        "n": _number,
        "pct": _share,
        "duration": duration,
        "clock": _clock,
        "sig": _significant,
        "sh": shlex.quote,
    }
    try:
        style = environment.loader.get_source(environment, STYLE)[0] if environment.loader else ""
        values = {"page": page, "report": page.report, "style": style, **_values(page)}
        text = environment.get_template(TEMPLATE).render(values)
    except (TemplateError, ValueError) as error:
        raise PageError(f"the page cannot be drawn: {error}") from error
    return text.encode("utf-8", "replace")


def headline(report: RunReport) -> str:
    """The outcome as one sentence that needs nothing beside it."""
    counts = report.counts
    if report.exit_code or not counts.listed or counts.skipped == counts.listed:
        words = report.stopped or report.verdict
        return f"{words[:1].upper()}{words[1:]}."
    worked = counts.listed - counts.skipped - counts.filtered
    if not worked:
        return f"Nothing is asked of any of the {counts.filtered:,} documents that are new."
    documents = "document" if worked == 1 else "documents"
    if counts.ok == worked:
        return f"All {worked:,} {documents} are answered in full."
    rest = [
        f"{count:,} {name}"
        for name, count in (("partly", counts.partial), ("failed", counts.failed))
        if count
    ]
    return f"{counts.ok:,} of {worked:,} {documents} are answered in full, {' and '.join(rest)}."


def _values(page: Page) -> dict[str, Any]:
    draughtsman = Draughtsman()
    report = page.report
    return {
        "headline": headline(report),
        "outcomes": [(name, getattr(report.counts, name), MEANINGS[name]) for name in OUTCOMES],
        "over_time": list(over_time(page, draughtsman)),
        "occupancy": [
            occupancy(pool, found, report.seconds, draughtsman)
            for pool, found in report.bottlenecks.items()
            if found.over_time
        ],
        "stages": list(_stages(report)),
        "latencies": _distributions(page, draughtsman, "seconds", "seconds in the engine"),
        "lengths": _distributions(page, draughtsman, "tokens", "output tokens"),
        "confidence": _distributions(page, draughtsman, "confidence", "confidence"),
        "wave": (COLUMNS, HEIGHT),
        "tokens": {
            name: sum(getattr(task, name) for task in report.tasks.values())
            for name in ("prompt_tokens", "cached_tokens", "output_tokens")
        },
        "answers": sum(task.answers for task in report.tasks.values()),
        "invalid": sum(task.invalid for task in report.tasks.values()),
    }


def _stages(report: RunReport) -> Iterator[tuple[str, str, list[tuple[str, str, float]]]]:
    """Pool, stage, and of each state its colour, name and share of the workers' time."""
    for pool, found in report.bottlenecks.items():
        for stage, states in STATES.items():
            spent: Mapping[str, float] = getattr(found, stage)
            total = sum(spent.get(state, 0.0) for state in states)
            if total:
                shares = [(*states[state], spent.get(state, 0.0) / total) for state in states]
                yield pool, stage, [entry for entry in shares if entry[2] >= 0.001]


def _distributions(page: Page, draughtsman: Draughtsman, name: str, axis: str) -> list[Chart]:
    """Of each task, by the name of a field of `TaskFacts`."""
    return [
        distribution(task, found, draughtsman, axis)
        for task, facts in page.facts.tasks.items()
        if (found := getattr(facts, name)) is not None
    ]


def _printable(value: Any) -> Any:
    """Without what no page may hold. Marks that turn the direction of text stay: each value is isolated."""
    return _UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,}"


def _share(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}%}"


def _significant(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _clock(seconds: float) -> str:
    """As recordings tell their time: 1:02:03.4."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
