"""What generates. One file per engine; the registry is `ENGINES`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.models import Model
    from schemas.models.adapter import Adapter
    from schemas.rows import PartKind


@dataclass(frozen=True, slots=True)
class Media:
    """What the model is shown: JPEG bytes, or 16 kHz mono float32 samples.

    `digest` names the content, so that an engine's caches encode it once however many tasks ask. With `tiles`
    the picture is shown in so many tiles besides the whole.
    """

    kind: PartKind
    content: bytes
    digest: str
    tiles: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one part.

    `key` names (document, version, part, task) and is the same in every run; `attempt` counts the
    rungs of the ladder from 0; `adapter` names one of the engine's. Without `media` the question holds all
    there is to see. With `likelihoods` the answer says how likely each of the `choices` was.
    """

    key: str
    question: str
    media: Media | None
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    json_schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    likelihoods: bool = False
    attempt: int = 0
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What the engine said. `finish_reason` is "stop" or "length".

    `mean_logprob` is the mean natural log-probability of the output tokens; `likelihoods` has the choices'
    probabilities, which sum to 1; `cached_tokens` counts those of the prompt that a cache had. All three,
    `queue_seconds` and `generation_seconds` are None where the engine does not tell. `seconds` is measured
    by the supervisor, from the request's entry into the engine.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    mean_logprob: float | None = None
    likelihoods: Mapping[str, float] | None = None
    cached_tokens: int | None = None
    queue_seconds: float | None = None
    generation_seconds: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The recipe of an engine: made on the driver, cooked on the worker.

    `request_seconds` is after how long the supervisor gives a request up. With `metrics`, an engine that has
    some of its own hands them to the agent of its node, which exports them. Without `confidence` nobody wants
    to know how likely its tokens were, but for requests with `likelihoods`.
    """

    model: Model
    max_num_seqs: int
    max_model_len: int
    gpus: float = 0.0
    seed: int = 0
    request_seconds: float = math.inf
    options: Mapping[str, Any] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    metrics: bool = False
    confidence: bool = True


class Engine(Protocol):
    """One hosted model. Constructed with an `EngineConfig`, on the driver too, where its options are checked;
    holds nothing until `start`."""

    hosts_model: ClassVar[bool]
    """Whether the model is loaded here: then it takes a GPU where there are any, and is one of `MODELS` or a
    folder. A server's model may be any that the server knows."""
    tiles: ClassVar[bool]
    """Whether it can be told, picture by picture, to show tiles."""

    def __init__(self, config: EngineConfig) -> None: ...

    @staticmethod
    def environment(gpus: float) -> dict[str, str]:
        """Variables its process needs before anything of the engine is imported."""
        ...

    def start(self) -> None:
        """Load the model. Called in a thread of its own; may take minutes.

        Raises:
            EngineUnavailable: it did not come up.
        """
        ...

    async def generate(self, request: Request) -> Response:
        """Answer one request, among many at once.

        Raises:
            RequestRefused: this request will never be taken.
            EngineUnavailable: the engine died; everything in flight is lost with it.
            EngineAway: it answers nobody, which is no request's fault.
        """
        ...

    def pulse(self) -> float | None:
        """`time.monotonic()` of the last step it took; None where it cannot tell, or has taken none."""
        ...

    def close(self) -> None:
        """End it and its processes; closing twice is fine."""
        ...
