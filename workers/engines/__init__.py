"""What generates. One file per engine; the registry is `ENGINES`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.models import Model
    from schemas.models.adapter import Adapter
    from schemas.rows import PartKind


@dataclass(frozen=True, slots=True)
class Media:
    """What the model is shown: JPEG bytes, or 16 kHz mono float32 samples.

    `digest` names the content, so that an engine's caches encode it once however many tasks ask.
    """

    kind: PartKind
    content: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question about one part.

    `key` names (document, version, part, task) and is the same in every run; `attempt` counts the
    rungs of the ladder from 0; `adapter` names one of the engine's.
    """

    key: str
    question: str
    media: Media
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    json_schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = ()
    attempt: int = 0
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """What the engine said. `finish_reason` is "stop" or "length"; `confidence` the geometric mean
    probability of the output tokens, None where the engine does not tell; `seconds` is measured by the
    supervisor, from the request's entry into the engine."""

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    confidence: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The recipe of an engine: made on the driver, cooked on the worker."""

    model: Model
    max_num_seqs: int
    max_model_len: int
    gpus: float = 0.0
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    adapters: Mapping[str, Adapter] = field(default_factory=dict)


class Engine(Protocol):
    """One hosted model. Constructed with an `EngineConfig`; holds nothing until `start`."""

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
        """
        ...

    def pulse(self) -> float | None:
        """`time.monotonic()` of the last step it took; None where it cannot tell, or has taken none."""
        ...

    def close(self) -> None:
        """End it and its processes; closing twice is fine."""
        ...
