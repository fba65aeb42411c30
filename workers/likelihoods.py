"""How likely each of the choices was that an answer was held to, from what else might have been said."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LIKELIEST = 20
"""Tokens whose probability is asked for at each step: vLLM's own most, and OpenAI's."""

Step = tuple[tuple[str, float], "Sequence[tuple[str, float]]"]
"""What was said, and what else might have been: a token's text and its natural log-probability."""


def likelihoods(steps: Sequence[Step], choices: Sequence[str]) -> dict[str, float] | None:
    """A probability per choice; they sum to 1. None where the tokens spell no choice: then nobody can tell.

    Decoding is held to the choices, and an engine tells the probabilities that are left after that: at each
    step they are of the tokens that some choice goes on with. What leaves the path that was taken has its
    probability there and then; choices that leave it together by the same token share it equally, for
    nobody went on to tell them apart.

    Args:
        steps: one per token of the answer.
        choices: all there were, as the tokens spell them.
    """
    found = dict.fromkeys(choices, 0.0)
    said, reached = "", 0.0
    for (word, likely), others in steps:
        left = 1.0
        for other, odds in others:
            going = _going_on(said, other, choices)
            for choice in going:
                found[choice] += math.exp(reached + odds) / len(going)
            left -= math.exp(odds) if going else 0.0
        if _going_on(said, word, choices):
            reached += likely
            said += word
        else:  # the end of the turn, which several tokens may be
            rest = max(left, math.exp(likely))
            reached += math.log(rest) if rest else -math.inf
    if said not in found:
        return None
    found[said] += math.exp(reached)
    return _shares(found)


def first_token(steps: Sequence[Step], choices: Sequence[str]) -> dict[str, float] | None:
    """The same for a classifier, whose choices are a token each and whose answer is the first one: what else
    a choice might be spelled with (Y, Ye) is not counted."""
    first = [(said, *others) for said, others in steps[:1]]
    likely = {word: math.exp(odds) for words in first for word, odds in words if word in choices}
    return _shares({choice: likely.get(choice, 0.0) for choice in choices})


def _shares(found: dict[str, float]) -> dict[str, float] | None:
    """Of the whole; None where that is nothing."""
    whole = sum(found.values())
    return {choice: odds / whole for choice, odds in found.items()} if whole else None


def _going_on(said: str, word: str, choices: Sequence[str]) -> Sequence[str]:
    """The choices that what was said may still become when this follows."""
    return [choice for choice in choices if choice.startswith(said + word)] if word else []
