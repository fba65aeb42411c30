"""A page read by eye, held against its own text layer: how good the model is on these very documents."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from schemas.rows import TEXT_LAYER_CHECK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.prompt import Part

COST = [name for name in TEXT_LAYER_CHECK.names if name not in ("errors", "length")]


def as_it_looks(part: Part) -> Part:
    """A page that is shown as text, drawn. A part of its own, lest what it does to an engine be put down to
    the answer from the text; and without the text, which is no reading by eye."""
    return replace(
        part, identity=f"{part.identity}/by-eye", media=part.checked, text=None, checked=None, trusted=False
    )


async def held(said: Mapping[str, Any], text: str | None, *, besides: bool) -> dict[str, Any]:
    """The columns `text_layer_cer` and `text_layer_check` of a page.

    Args:
        said: the columns of the answer by eye. Of an error, or of one that was not the model's own words,
            there is no rate, and the report counts the page as not read.
        text: the page's text layer.
        besides: whether this was asked for the rate alone, so that its cost is in no other column.
    """
    check = {name: said.get(name) for name in COST} if besides else {}
    if said.get("text_source") != "model":
        return {"text_layer_check": check}
    # 0.8 ms a page in the median and 23 at most, of 45 real ones: the loop has others to look after.
    errors, length = await asyncio.to_thread(_apart, text or "", said["text"])
    return {
        "text_layer_cer": errors / max(1, length),
        "text_layer_check": check | {"errors": errors, "length": length},
    }


def _apart(text: str, said: str) -> tuple[int, int]:
    """Characters that are wrong and those of the text, as `gemstream evaluate` counts them."""
    from workers.metrics.edits import Edits

    metric = Edits(None, fold=False)
    counts = metric.characters(metric.expected(text), said)
    return counts["cer", "errors"], counts["cer", "length"]
