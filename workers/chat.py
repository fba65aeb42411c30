"""Chat completions as OpenAI-compatible servers speak them: what is sent, and what of the answer is read."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from schemas.rows import PartKind
from workers.likelihoods import LIKELIEST, likelihoods

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.engines import Media, Request

SAMPLE_RATE = 16_000
OURS = frozenset(
    "model messages max_tokens temperature seed logprobs top_logprobs response_format structured_outputs "
    "stream n".split()
)
"""Fields of a request that a job may not set beside us."""
BROKEN_OFF = frozenset({"abort", "error"})
"""What vLLM's server says of an answer when it is ended meanwhile, or fails by itself."""


def fields(request: Request, model: str, *, media_first: bool, logprobs: bool) -> dict[str, Any]:
    """One request, but for what holds its answer to labels.

    Args:
        request: what to ask.
        model: the server's name for it.
        media_first: the picture or clip stands before the question.
        logprobs: ask for the probability of each token that is said.
    """
    content: list[dict[str, Any]] = [{"type": "text", "text": request.question}]
    if request.media is not None:
        content.insert(0 if media_first else 1, _shown(request.media))
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.temperature:
        body["seed"] = request.seed
    if logprobs:
        body["logprobs"] = True
        if request.likelihoods:
            body["top_logprobs"] = LIKELIEST
    if request.json_schema is not None:
        body["response_format"] = _held(request.json_schema)
    return body


def labels_as_schema(labels: tuple[str, ...]) -> dict[str, Any]:
    """The field that holds an answer to one of the labels; it comes as a JSON string (`unquoted`)."""
    return {"response_format": _held({"type": "string", "enum": list(labels)})}


def labels_as_vllm(labels: tuple[str, ...]) -> dict[str, Any]:
    """The same in vLLM's own field: the answer is the label and nothing around it."""
    return {"structured_outputs": {"choice": list(labels)}}


def unquoted(text: str) -> str:
    """The label in a JSON string. What is none passes as it is, to be judged as the answer that it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text


def _held(schema: Mapping[str, Any]) -> dict[str, Any]:
    named = {"name": "answer", "schema": dict(schema), "strict": True}
    return {"type": "json_schema", "json_schema": named}


def _shown(media: Media) -> dict[str, Any]:
    """A JPEG as a data URL; 16 kHz mono float32 samples as the 16-bit WAV that all servers read."""
    if media.kind is not PartKind.AUDIO:
        data = b64encode(media.content).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
    import numpy as np
    import soundfile

    file = io.BytesIO()
    samples = np.frombuffer(media.content, dtype="<f4")
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    data = b64encode(file.getvalue()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


class Served(BaseModel):
    """One model that a server lists."""

    id: str


class ModelList(BaseModel):
    """What `GET /models` answers."""

    data: list[Served]


class Token(BaseModel):
    """One token that was said, and what else might have been."""

    token: str = ""
    logprob: float
    top_logprobs: list[Token] | None = None


class Logprobs(BaseModel):
    """All of them, where the server tells."""

    content: list[Token] | None = None


class Message(BaseModel):
    """What was said. Servers have two names for what was thought before."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Any] | None = None


class Choice(BaseModel):
    """One answer; one is asked for."""

    message: Message
    finish_reason: str | None = None
    logprobs: Logprobs | None = None

    @property
    def withheld(self) -> str:
        """Why this is no answer; empty for one that is."""
        finish, said = self.finish_reason or "stop", self.message
        if finish not in ("stop", "length") or said.refusal:
            return f"({finish}): {said.refusal or ''}"
        if (
            finish == "stop"
            and not said.content
            and (said.reasoning or said.reasoning_content or said.tool_calls)
        ):
            return ": it thought, or called tools, and said nothing; engine.options.extra_body may stop that"
        return ""

    @property
    def _said(self) -> list[Token]:
        return (self.logprobs and self.logprobs.content) or []

    @property
    def mean_logprob(self) -> float | None:
        """Mean natural log-probability of the tokens."""
        return sum(token.logprob for token in self._said) / len(self._said) if self._said else None

    def likelihoods(self, choices: tuple[str, ...], *, quoted: bool) -> dict[str, float] | None:
        """How likely each of the labels was, which came in JSON's quotes or bare: a server that holds no
        answer to a schema has none around it."""
        if not any(token.top_logprobs for token in self._said):
            return None
        quoted = quoted and (self.message.content or "").lstrip().startswith('"')
        spelled = {json.dumps(choice, ensure_ascii=False) if quoted else choice: choice for choice in choices}
        steps = [
            (
                (said.token, said.logprob),
                [(word.token, word.logprob) for word in said.top_logprobs or () if word.token != said.token],
            )
            for said in self._said
        ]
        found = likelihoods(steps, list(spelled))
        return found and {choice: found[word] for word, choice in spelled.items()}


class Usage(BaseModel):
    """Tokens, where the server counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(BaseModel):
    """Of a server's answer, what is used: servers differ in the rest."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
