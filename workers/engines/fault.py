"""For tests: an engine that fails on demand, deterministically.

Which request fails how is decided by a hash of its key and the seed, so a run can be repeated
and a failing row named. It answers at once, with words that mean nothing, in the right shape.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import EngineUnavailable, RequestRefused
from schemas.ids import digest
from workers.engines import EngineConfig, Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping


FREEZE_SECONDS = 3_600
TRANSLATED = re.compile(r"output the string '([^']+)'")
"""In the question about speech: what stands before its translation."""


class FaultOptions(BaseModel):
    """Shares of requests, each between 0 and 1, that meet a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bad_json: float = Field(0, ge=0, le=1, description="Answers that are no JSON, of those asked for JSON.")
    truncate: float = Field(0, ge=0, le=1, description="Answers cut at their token budget.")
    loop: float = Field(0, ge=0, le=1, description="Answers that repeat themselves to the end of the budget.")
    refuse: float = Field(0, ge=0, le=1, description="Requests refused.")
    hang: float = Field(0, ge=0, le=1, description="Requests never answered.")
    die: float = Field(0, ge=0, le=1, description="Requests that take the engine's process down.")
    crash: float = Field(0, ge=0, le=1, description="Requests that take the worker down, engine and all.")
    freeze: float = Field(0, ge=0, le=1, description="Requests that hold the worker's interpreter.")
    attempts: int = Field(1_000, ge=1, description="Tries that meet the fault; later ones are healthy.")
    seconds: float = Field(0, ge=0, description="Time of a healthy answer.")


class FaultEngine:
    """Answers in the shape asked for, or fails as told. A child process stands for the model's."""

    hosts_model = True
    tiles = True

    def __init__(self, config: EngineConfig) -> None:
        self._options = FaultOptions.model_validate(dict(config.options))
        self._seed = config.seed
        self._child: ProcessPoolExecutor | None = None
        self._tries: dict[str, int] = {}

    @staticmethod
    def environment(gpus: float) -> dict[str, str]:
        """None needed."""
        return {}

    def start(self) -> None:
        """Start the child, if any fault needs one."""
        if self._options.die:
            self._child = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    async def generate(self, request: Request) -> Response:
        """See `Engine.generate`."""
        options = self._options
        tries = self._tries[request.key] = self._tries.get(request.key, 0) + 1
        broken = tries <= options.attempts
        if broken and self._meets("crash", request):
            os._exit(139)
        if broken and self._meets("freeze", request):
            ctypes.PyDLL(None).sleep(FREEZE_SECONDS)  # with the interpreter's lock in hand
        if broken and self._meets("die", request):
            await self._die(request)
        if broken and self._meets("hang", request):
            await asyncio.Event().wait()
        if broken and self._meets("refuse", request):
            raise RequestRefused("the fault engine refused this request, as told")
        if options.seconds:
            await asyncio.sleep(options.seconds)
        text, finish = _healthy(request), "stop"
        if broken and request.json_schema is not None and self._meets("bad_json", request):
            text = text[: len(text) // 2] + " and so on"
        elif broken and self._meets("loop", request):
            text, finish = "again and " * request.max_tokens, "length"
        elif broken and self._meets("truncate", request):
            text, finish = text[: max(1, len(text) // 2)], "length"
        return Response(
            text,
            finish,
            prompt_tokens=len(request.question.split()),
            output_tokens=len(text.split()),
            likelihoods={choice: float(choice == text) for choice in request.choices}
            if request.likelihoods
            else None,
        )

    def pulse(self) -> float | None:
        """It takes no steps."""
        return None

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.shutdown(wait=False, cancel_futures=True)
            self._child = None

    def _meets(self, fault: str, request: Request) -> bool:
        draw = int(digest(fault, str(self._seed), request.key)[:8], 16) / 0xFFFFFFFF
        share: float = getattr(self._options, fault)
        return draw < share

    async def _die(self, request: Request) -> None:
        if self._child is None:
            raise EngineUnavailable("the engine is dead already", key=request.key)
        try:
            await asyncio.wrap_future(self._child.submit(os._exit, 139))
        except (BrokenProcessPool, RuntimeError) as error:
            raise EngineUnavailable("the fault engine died, as told", key=request.key) from error


def _healthy(request: Request) -> str:
    if request.json_schema is not None:
        return json.dumps(_instance(request.json_schema), separators=(",", ":"))
    if request.choices:
        return request.choices[0]
    words = f"answer {digest(request.key)[:8]} to {request.media.kind.value if request.media else 'text'}"
    translated = TRANSLATED.search(request.question)
    return f"{words}\n{translated[1]}{words}" if translated else words


def _instance(schema: Mapping[str, Any]) -> Any:
    """The smallest value that a bounded schema allows."""
    if "anyOf" in schema:
        options = schema["anyOf"]
        return None if {"type": "null"} in options else _instance(options[0])
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    formats = {"date": "2024-02-29", "date-time": "2024-02-29T12:00:00Z"}
    match schema["type"]:
        case "object":
            return {name: _instance(child) for name, child in schema["properties"].items()}
        case "array":
            return [_instance(schema["items"])] * schema.get("minItems", 0)
        case "boolean":
            return False
        case "integer" | "number":
            return schema.get("minimum", 0)
        case _:
            return formats.get(schema.get("format", ""), "1" * max(1, schema.get("minLength", 1)))
