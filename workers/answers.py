"""What became of a question -> the columns of its row."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from schemas.rows import Shown, Status, data_column
from schemas.tasks.base import Said

if TYPE_CHECKING:
    from workers.engines import Response
    from workers.prompt import Ask
    from workers.validate import Answer


def recorded(answer: Answer, response: Response, attempts: int) -> dict[str, Any]:
    """An answer, or what holds of one. `data` is not yet under its task's name."""
    return {
        "status": Status.RECORD,
        "text": answer.text,
        "data": answer.data,
        "text_source": "model",
        "finish_reason": response.finish_reason,
        "valid": None if answer.data is None else not answer.invalid,
        "invalid_fields": None if answer.data is None else list(answer.invalid),
        "attempts": attempts,
        **_figures(response),
    }


def _figures(response: Response) -> dict[str, Any]:
    """The columns of a record that are the engine's own."""
    likely = response.mean_logprob
    return {
        "prompt_tokens": response.prompt_tokens,
        "cached_tokens": response.cached_tokens,
        "output_tokens": response.output_tokens,
        "mean_logprob": likely,
        "confidence": None if likely is None else math.exp(likely),
        "seconds": response.seconds,
        "queue_seconds": response.queue_seconds,
        "generation_seconds": response.generation_seconds,
    }


def borrowed(text: str, response: Response | None, attempts: int) -> dict[str, Any]:
    """A page's own text in place of an answer."""
    return {
        "status": Status.RECORD,
        "text": text.strip(),
        "text_source": "text_layer",
        "finish_reason": "text_layer",
        "attempts": attempts,
        "prompt_tokens": response.prompt_tokens if response else None,
        "output_tokens": response.output_tokens if response else None,
    }


def silent(ask: Ask) -> dict[str, Any]:
    """Where nobody speaks a model would make up words, so none is asked. A task of words alone has typed
    data of no words; of a label or of fields there is none."""
    said = {"text": "", "text_source": "silence", "finish_reason": "silence", "attempts": 0}
    task, held = ask.task, bool(ask.task.choices()) or ask.task.json_schema() is not None
    if task.data_type() is None or held:
        return {"status": Status.RECORD, **said}
    data = task.data(Said("", Shown.AUDIO))
    return {
        "status": Status.RECORD,
        **said,
        data_column(task.name): data,
        "valid": True,
        "invalid_fields": [],
    }


def counted(answers: list[dict[str, Any]]) -> dict[str, int]:
    """How many there are, and how often their questions were asked again."""
    failed = sum(answer["status"] is Status.ERROR for answer in answers)
    retries = sum(max(0, answer.get("attempts", 1) - 1) for answer in answers)
    return {"done": len(answers) - failed, "failed": failed, "retries": retries}
