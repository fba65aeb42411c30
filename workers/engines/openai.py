"""Any OpenAI-compatible server: vLLM serve, Ollama, llama.cpp, NVIDIA NIM, Vertex AI, Google's own.

The key is read from the environment of the worker that asks, and so is in no job, recipe, record or report.
A Ray of our own inherits the environment of the command. On a cluster the workers need it in theirs, with
KubeRay as a Secret in the worker group's `env`; not in a `runtime_env`, which Ray writes down.

Three kinds of failure are told apart. What a server says of one request (400) costs that request. What it
fails on (500, a connection that breaks) may be that request's doing: it is `EngineUnavailable`, and the
supervisor asks again with nothing beside it. What concerns everybody, a rate limit or a restart, is no
request's fault: it is waited out here, as the server asks (Retry-After), and when nobody is answered for
`outage_seconds` it is `EngineAway`, which ends the run. The client's own retries are off: behind the refused
connections that follow they would hide that a server died of a request.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from schemas.errors import EngineAway, EngineUnavailable, GemstreamError, RequestRefused, RequestTimeout
from workers import chat
from workers.engines import EngineConfig, Request, Response
from workers.patience import PASSING, Patience, passes

CONNECT_SECONDS = 10.0
LIST_SECONDS = 30.0
KEEPALIVE_SECONDS = 2.0
"""uvicorn, on which most of these servers run, drops an idle one after 5 s, at times just as it is used."""
SHOWN = 300
"""Characters of a server's own words that an error row keeps."""

REFUSED = frozenset({400, 413, 415, 422})
NO_LIST = frozenset({404, 405, 501})
"""Of `GET /models`: there are servers without it (Vertex AI)."""

SECRETS = frozenset("apikey key authorization bearer accesstoken authtoken token secret password".split())


class OpenAIOptions(BaseModel):
    """Where the server is and how it is asked. Never a key: `api_key_env` says where that is."""

    # A key that somebody puts here all the same is refused without being repeated.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str = Field(
        description="Of its API, as in http://host:8000/v1. The parts go there and nowhere else: redirects "
        "are not followed."
    )
    model: str | None = Field(None, description="The server's name for the model; the job's if not given.")
    api_key_env: str = Field(
        "OPENAI_API_KEY",
        pattern=r"^[A-Z][A-Z0-9_]{0,63}$",
        description="The environment variable that holds the key; where it is not set, none is sent.",
    )
    timeout_seconds: float | None = Field(
        None, gt=0, description="Seconds to wait for an answer; limits.request_seconds if not set."
    )
    outage_seconds: float = Field(
        300,
        ge=0,
        description="Seconds to wait for a server that answers nobody, for its rate limit or while it "
        "restarts; half of limits.request_seconds at most.",
    )
    logprobs: bool = Field(
        True,
        description="Ask for probabilities of tokens, where they are wanted; false for a server that refuses "
        "the question.",
    )
    choices: Literal["schema", "vllm"] = Field(
        "schema",
        description="How an answer is held to labels: by a JSON schema, which all servers know, or by vLLM's "
        "own field, whose answers are those of the vllm engine.",
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="Further fields of every request, as the server has them."
    )

    @field_validator("base_url")
    @classmethod
    def _plain(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be http://host or https://host and a path")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "must have no user, password, query or fragment; a key belongs in the environment"
            )
        return value

    @field_validator("extra_body")
    @classmethod
    def _public(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in _names(value):
            if name.lower().replace("_", "").replace("-", "") in SECRETS:
                raise ValueError(f"{name!r} looks like a key, which belongs in the environment (api_key_env)")
        if taken := sorted(chat.OURS & value.keys()):
            raise ValueError(f"{taken[0]!r} is what Gemstream sets itself")
        return value


class OpenAIEngine:
    """A client of one server. It hosts nothing: to start is to find the server there."""

    hosts_model = False
    tiles = False

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._options = OpenAIOptions.model_validate(dict(config.options))
        self._listed: list[str] = []
        self._started = False
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inside = 0
        # Before the supervisor takes the silence for the death of an engine, and looks for who killed it.
        self._outage = min(self._options.outage_seconds, config.request_seconds / 2)
        self._patience = Patience(self._outage)

    @staticmethod
    def environment(gpus: float) -> dict[str, str]:
        """None of ours; the key comes from the worker's own."""
        return {}

    def start(self) -> None:
        """Find the server there.

        After its first time there is nothing to do: the pool replaces broken connections itself, and whoever
        asks next waits for a server that restarts.

        Raises:
            EngineAway: nothing answers there, or it wants another key.
        """
        if self._started:
            return
        if not (self._key.isascii() and self._key.isprintable()):
            # The HTTP library would say so, and repeat it.
            raise EngineAway(f"{self._options.api_key_env} holds what is no key: set it again")
        from openai import APIError, APIStatusError, DefaultHttpxClient, OpenAI

        try:
            unled = DefaultHttpxClient(follow_redirects=False)
            with OpenAI(**self._access(), timeout=LIST_SECONDS, http_client=unled) as client:
                said = client.get("/models", cast_to=str)
            self._listed = [model.id for model in chat.ModelList.model_validate_json(said).data]
        except APIStatusError as error:
            if error.status_code not in NO_LIST | PASSING:
                raise self._away(error) from None
        except APIError as error:
            raise EngineAway(
                f"{self._options.base_url} cannot be reached ({_cause(error)}): start the server, or correct "
                "engine.options.base_url"
            ) from None
        except ValidationError:
            raise EngineAway(
                f"{self._options.base_url} does not list models as an OpenAI-compatible server does: correct "
                "engine.options.base_url, which most often ends in /v1"
            ) from None
        self._started = True

    async def generate(self, request: Request) -> Response:
        """See `Engine.generate`.

        Raises:
            RequestRefused: the server will never take this request, or withholds its answer.
            RequestTimeout: it was not answered within `timeout_seconds`, others were.
            EngineUnavailable: the server failed on it.
            EngineAway: the server answers nobody.
        """
        from openai import APIError

        body, extra = await asyncio.to_thread(self._body, request)
        began = time.monotonic()
        self._inside += 1
        try:
            said = await self._patience.ask(partial(self._sent, body, extra))
        except APIError as error:
            # Not chained: what the server says, and the request, may have the key in them.
            raise self._fault(error, request, began) from None
        finally:
            self._inside -= 1
        return self._response(said, request)

    def pulse(self) -> float | None:
        """A server's steps are not seen from here."""
        return None

    def close(self) -> None:
        """Give the connections back, unless requests are on their way: the supervisor replaces an engine for
        one request's sake, and the others are not to be lost by it."""
        if self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._give_back(), self._loop)

    async def _give_back(self) -> None:
        if self._client is not None and not self._inside:
            client, self._client = self._client, None
            await client.close()

    def _access(self) -> dict[str, Any]:
        """Server and key, as the client's constructors take them."""
        # The client insists on a key; "EMPTY" is vLLM's word for none.
        return {"base_url": self._options.base_url, "api_key": self._key or "EMPTY", "max_retries": 0}

    @property
    def _name(self) -> str:
        """The server's name for the model."""
        return self._options.model or self._config.model.source

    @property
    def _key(self) -> str:
        # A Secret made with `echo` ends in a newline.
        return os.environ.get(self._options.api_key_env, "").strip()

    def _connected(self) -> Any:
        """The client of the running loop."""
        if self._client is None:
            import httpx2
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient

            # The supervisor bounds how many ask at once; none of them waits for a connection here.
            limits = httpx2.Limits(
                max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_SECONDS
            )
            timeout = httpx2.Timeout(self._options.timeout_seconds, connect=CONNECT_SECONDS)
            self._client = AsyncOpenAI(
                **self._access(),
                timeout=timeout,
                http_client=DefaultAsyncHttpxClient(limits=limits, timeout=timeout, follow_redirects=False),
            )
            self._loop = asyncio.get_running_loop()
        return self._client

    async def _sent(self, body: dict[str, Any], extra: dict[str, Any]) -> bytes:
        """The body of the server's answer."""
        raw = await self._connected().chat.completions.with_raw_response.create(**body, extra_body=extra)
        content: bytes = raw.content
        return content

    def _body(self, request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """What is sent: fields that the client knows, and others."""
        options = self._options
        first, extra = self._config.model.media_first, dict(options.extra_body)
        logprobs = options.logprobs and (self._config.confidence or request.likelihoods)
        body = chat.fields(request, self._name, media_first=first, logprobs=logprobs)
        if request.choices and options.choices == "vllm":
            extra |= chat.labels_as_vllm(request.choices)
        elif request.choices:
            body |= chat.labels_as_schema(request.choices)
        return body, extra

    def _response(self, said: bytes, request: Request) -> Response:
        try:
            answer = chat.Completion.model_validate_json(said)
        except ValidationError:
            words = self._public(said.decode(errors="replace"))
            raise EngineUnavailable(
                f"{self._options.base_url} answered with no chat completion: {words}", key=request.key
            ) from None
        if not answer.choices:
            raise RequestRefused(f"the server gave no answer: {self._public(said.decode())}")
        choice = answer.choices[0]
        if choice.withheld:
            kind = EngineUnavailable if choice.finish_reason in chat.BROKEN_OFF else RequestRefused
            raise kind(f"the server withheld its answer {self._public(choice.withheld)}", key=request.key)
        text = choice.message.content or ""
        usage = answer.usage or chat.Usage()
        return Response(
            text=chat.unquoted(text) if request.choices else text,
            finish_reason=choice.finish_reason or "stop",
            prompt_tokens=usage.prompt_tokens or 0,
            output_tokens=usage.completion_tokens or 0,
            mean_logprob=choice.mean_logprob,
            likelihoods=choice.likelihoods(request.choices, quoted=self._options.choices == "schema")
            if request.likelihoods
            else None,
        )

    def _fault(self, error: Any, request: Request, began: float) -> GemstreamError:
        """The error of ours that the client's is."""
        from openai import APIStatusError, APITimeoutError

        server, waited = self._options.base_url, f"{self._options.timeout_seconds} s"
        if isinstance(error, APIStatusError):
            if error.status_code in REFUSED:
                return RequestRefused(f"the server refused the request: {self._words(error)}")
            if error.status_code >= 500 and error.status_code not in PASSING:
                return EngineUnavailable(f"{server} failed: {self._words(error)}", key=request.key)
            if error.status_code == 403 and self._patience.last_answer > -math.inf:
                return EngineUnavailable(f"{server} forbids it: {self._words(error)}", key=request.key)
            return self._away(error)
        if passes(error):
            return EngineAway(
                f"{server} cannot be reached ({_cause(error)}), and answered nobody for "
                f"{self._outage:g} s (engine.options.outage_seconds); what is written stays"
            )
        if isinstance(error, APITimeoutError):
            late = f"no answer in {waited} (engine.options.timeout_seconds)"
            if self._patience.last_answer >= began:
                return RequestTimeout(
                    f"{late} while others were answered", limit="engine.options.timeout_seconds"
                )
            return EngineUnavailable(late, key=request.key)
        return EngineUnavailable(f"the connection to {server} broke ({_cause(error)})", key=request.key)

    def _away(self, error: Any) -> EngineAway:
        """What a status means that is said to everybody, and what to do about it."""
        options, words = self._options, self._words(error)
        match error.status_code:
            case 401 | 403 if self._key:
                return EngineAway(f"{options.base_url} refuses the key in {options.api_key_env}: {words}")
            case 401 | 403:
                return EngineAway(
                    f"{options.base_url} wants a key, and {options.api_key_env} is not set: set it in the "
                    f"environment of the command, on a cluster in that of its workers ({words})"
                )
            case 404:
                listed = f"it lists {', '.join(self._listed)}" if self._listed else "it lists none"
                return EngineAway(
                    f"{options.base_url} has no model {self._name!r}, {listed}; correct "
                    f"engine.options.model or engine.options.base_url ({words})"
                )
            case status if status in PASSING:
                return EngineAway(
                    f"{options.base_url} answered nobody for {self._outage:g} s "
                    f"(engine.options.outage_seconds), or asks to wait longer: {words}"
                )
        return EngineAway(f"{options.base_url} is no server to ask: {words}; correct engine.options.base_url")

    def _words(self, error: Any) -> str:
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        words = message if isinstance(message, str) else error.response.text
        return f"{error.status_code}, {self._public(words)}"

    def _public(self, text: str) -> str:
        """A server's own words, short, and without the key: there are servers that repeat it."""
        if self._key:
            text = text.replace(self._key, f"({self._options.api_key_env})")
        return " ".join(text.split())[:SHOWN]


def _names(value: Any) -> list[str]:
    """The keys of a JSON value, at every depth."""
    if isinstance(value, dict):
        return [str(key) for key in value] + [name for child in value.values() for name in _names(child)]
    if isinstance(value, list | tuple):
        return [name for child in value for name in _names(child)]
    return []


def _cause(error: BaseException) -> str:
    """What the library below says of a connection."""
    below = error.__cause__ or error
    return str(below) or type(below).__name__
