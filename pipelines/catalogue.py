"""`gemstream models`: the table of models, as a person reads it or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pipelines.flags import AsJson  # noqa: TC001  # typer reads annotations when it runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from schemas.models import Card

SPREADS = {"tensor": "TP", "pipeline": "PP"}


def models(as_json: AsJson = False) -> None:
    """Say which models there are, what they take and need, and which of them run here."""
    import json

    from pipelines.terminal import terminal
    from schemas.models import CARDS

    if as_json:
        cards = [{"name": card.name, **card.model_dump(mode="json")} for card in CARDS]
        typer.echo(json.dumps(cards, indent=2))
    else:
        terminal().print(_tables(CARDS))


def _tables(cards: tuple[Card, ...]) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table

    facts = Table(title="models", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    facts.add_column("model", no_wrap=True)
    for column in ("context", "image", "clip", "bf16", "fp8", "int4"):
        facts.add_column(column, no_wrap=True, justify="right")
    facts.add_column("vLLM can", no_wrap=True)
    weights = Table(title="weights", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    weights.add_column("model", no_wrap=True)
    weights.add_column("ids, licence", no_wrap=True)
    weights.add_column("takes; runs here")
    for card in cards:
        facts.add_row(card.name, *_figures(card), " ".join(_abilities(card)))
        sources = [source for source in card.weights.values() if source]
        pools = f"{card.pool}, audio" if card.hears_too else card.pool
        here = f"in {pools}" if card.pool else f"no: {card.why_not}"
        here += f", for {card.only} alone" if card.only else ""
        weights.add_row(card.name, "\n".join([*sources, card.licence]), f"{', '.join(card.takes)}; {here}")
    legend = (
        "context: tokens of prompt and answer; image, clip: tokens of one, a clip of 30 s; bf16, fp8, int4: "
        "GB of the weights, - where nobody says; TP, PP: one model spread over GPUs by tensors, by layers"
    )
    return Group(facts, legend, weights)


def _figures(card: Card) -> Iterator[str]:
    yield f"{card.context_tokens // 1024}K"
    for figure in (card.image_tokens, card.clip_tokens, *card.gigabytes.values()):
        yield "-" if figure is None else f"{figure:g}"


def _abilities(card: Card) -> Iterator[str]:
    if card.lora:
        yield "LoRA"
    yield from (SPREADS[way] for way in card.parallel)
