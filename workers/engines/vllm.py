"""vLLM in process: one async engine, fed requests as they come."""

from __future__ import annotations

import asyncio
import io
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import TYPE_CHECKING, Any

from schemas.errors import EngineUnavailable, RequestRefused
from schemas.rows import PartKind
from workers import shieldgemma
from workers.adapters import local_adapters, lora_arguments
from workers.cpu_engine import cache_bytes, dtype_of
from workers.engines import EngineConfig, Media, Request, Response
from workers.likelihoods import LIKELIEST, first_token, likelihoods
from workers.stat_loggers import Steps, exported
from workers.tiles import processor_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import zmq
    from vllm.logprobs import Logprob
    from vllm.lora.request import LoRARequest
    from vllm.sampling_params import SamplingParams

    from workers.likelihoods import Step

MEDIA_THREADS = 2
"""Decoding a 896 px JPEG takes about 10 ms with the interpreter lock released; two threads feed
more than any engine measured here takes."""

QUESTION_PLACE = "\u2402question\u2403"
"""Stands for the question while the chat template is rendered."""
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""The model runs where it is scheduled, as on one GPU. On CPU vLLM would give it a process of its own, whose
messages the scheduler waits for by spinning on a core that expand could use: of 64 images and 64 tokens each,
31 ms of CPU an image in two processes, 20 in one, which starts 4 s sooner and takes 540 MiB less."""
SEVERAL_PROCESSES = {"tensor_parallel_size", "pipeline_parallel_size"}
REQUEST_ERRORS = 2
"""Tries of a request that fails by itself (`error`): one half of vLLM's cache of pictures may lack what the
other has, and both know it afterwards."""
CONTENT_ITEM = {PartKind.PAGE: "image", PartKind.IMAGE: "image", PartKind.AUDIO: "audio"}


class VllmEngine:
    """One `AsyncLLM` and the decoding of what it is shown."""

    hosts_model = True
    tiles = True

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._engine: Any = None
        self._template: Any = None
        self._around: dict[PartKind | None, tuple[str, str]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._steps: Steps | None = None
        self._adapters: dict[str, Path] = {}
        self._loading: dict[str, asyncio.Future[bool]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @staticmethod
    def environment(gpus: float) -> dict[str, str]:
        """What vLLM reads from its process's environment, and nowhere else."""
        shared = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        if gpus:
            return shared
        # 'auto' would reserve a core for the front end; on a two-core laptop that is half the machine.
        return {
            **shared,
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        }

    def start(self) -> None:
        """Load weights and start the engine's processes.

        Raises:
            EngineUnavailable: vLLM is not installed, or the model did not load.
        """
        try:
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as error:
            raise EngineUnavailable(
                f"vLLM does not import ({error}): install gemstream[gpu], or gemstream[cpu] without a GPU"
            ) from error
        try:
            steps = Steps()
            self._adapters, self._loading = local_adapters(self._config.adapters), {}
            loggers = [lambda config, index: steps, *(exported() if self._config.metrics else ())]
            self._engine = AsyncLLM.from_engine_args(
                AsyncEngineArgs(**self.arguments()), stat_loggers=loggers
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineUnavailable(f"{self._config.model.source} did not load: {error}") from error
        # The time that a first step has begins when the model is loaded.
        steps.last = time.monotonic()
        self._steps = steps
        self._template = self._engine.get_tokenizer()
        self._threads = ThreadPoolExecutor(MEDIA_THREADS, thread_name_prefix="media")

    def arguments(self) -> dict[str, Any]:
        """The engine arguments: ours, then the job's `engine.options` on top."""
        config = self._config
        sees = PartKind.IMAGE in config.model.parts
        limit = {"image": 1} if sees else {"image": 0, "audio": 1}
        dtype = dtype_of(config)
        arguments: dict[str, Any] = {
            "model": config.model.source,
            "dtype": dtype,
            "max_model_len": config.max_model_len,
            "max_num_seqs": config.max_num_seqs,
            # Under the async engine the default is 2,048 tokens a step, 8 images: a GPU's towers starve.
            "max_num_batched_tokens": max(config.max_model_len, 2_048 if not config.gpus else 16_384),
            "limit_mm_per_prompt": limit,
            # One backend per engine, and no whitespace: Gemma pads JSON with newlines without end
            # (vllm#40080), and only this engine-wide setting stops it.
            "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
            "seed": config.seed,
            "trust_remote_code": False,
            "load_format": "safetensors",
            "enforce_eager": not config.gpus,
            "disable_log_stats": True,
            # The audio tower is never profiled (images have more tokens), so it needs headroom.
            "gpu_memory_utilization": (0.92 if sees else 0.85) * min(1.0, config.gpus or 1.0),
        }
        if not config.gpus:
            arguments["kv_cache_memory_bytes"] = cache_bytes(config, dtype)
            if not SEVERAL_PROCESSES & config.options.keys():
                arguments["distributed_executor_backend"] = ONE_PROCESS
        if sees:
            arguments["worker_extension_cls"] = "workers.vllm_models.once.Once"
        if not config.model.is_folder:
            arguments["revision"] = config.model.revision
        if config.model.family == "gemma4":
            # It takes recordings and films as well, and the engine would make room for the largest.
            arguments["limit_mm_per_prompt"] = {"image": 0, "audio": 0, "video": 0} | limit
            if not config.gpus:
                arguments["worker_extension_cls"] = "workers.vllm_models.on_cpu.OnCpu"
        if self._shields:
            arguments["hf_overrides"] = shieldgemma.AsGemma3()
        return arguments | lora_arguments(self._adapters, config.gpus) | dict(config.options)

    async def generate(self, request: Request) -> Response:
        """See `Engine.generate`."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        engine, loop = self._engine, asyncio.get_running_loop()
        self._loop = loop
        prompt: dict[str, Any] = {"prompt": self._prompt(request)}
        if request.media is not None:
            item = CONTENT_ITEM[request.media.kind]
            media = await loop.run_in_executor(self._threads, _decode, request.media)
            prompt |= {
                "multi_modal_data": {item: [media]},
                "multi_modal_uuids": {item: [request.media.digest]},
            }
            if request.media.tiles:
                # Part of the key of vLLM's caches, beside the digest.
                prompt["mm_processor_kwargs"] = processor_arguments()
        try:
            self._is_there(engine, request)
            adapter = await self._adapter(request.adapter)
            for again in range(REQUEST_ERRORS):
                self._is_there(engine, request)
                last: Any = None
                async for output in engine.generate(
                    prompt,
                    _sampling(request, self._config),
                    f"{request.key}-{request.attempt}" + f"-{again}" * bool(again),
                    lora_request=adapter,
                ):
                    last = output
                answer = last.outputs[0]
                if answer.finish_reason != "error":
                    break
        except EngineDeadError as error:
            raise EngineUnavailable(f"the engine died: {error}", key=request.key) from error
        except (VLLMClientError, EngineGenerateError, ValueError) as error:
            raise RequestRefused(f"vLLM refused the request: {error or type(error).__name__}") from error
        if answer.finish_reason == "abort":
            # Its process was told to end, and hands out what it has of every answer.
            raise EngineUnavailable("the engine ended with the answer half said", key=request.key)
        if answer.finish_reason not in (None, "stop", "length"):
            raise RequestRefused(f"vLLM gave no whole answer ({answer.finish_reason})")
        return _response(last, request, _likely(answer, request, of_tokens=self._shields))

    def _is_there(self, engine: Any, request: Request) -> None:
        if engine is None or engine is not self._engine:
            raise EngineUnavailable("the engine was replaced meanwhile", key=request.key)

    @property
    def _shields(self) -> bool:
        return self._config.model.family == shieldgemma.FAMILY

    def pulse(self) -> float | None:
        """See `Engine.pulse`."""
        return None if self._steps is None else self._steps.last

    def close(self) -> None:
        """Stop the engine's processes, and give back what vLLM leaves to the collector: the context of its
        sockets, two threads and their files, which whoever still holds an exception of it keeps alive."""
        if self._threads is not None:
            # Who waits for a thread here hears of the end when it asks the engine.
            self._threads.shutdown(wait=False)
            self._threads = None
        # What an adapter that did not load leaves here is an exception, whose frames hold the engine.
        self._loading = {}
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.shutdown()
            self._end_context(engine.engine_core.resources.ctx)

    def _end_context(self, context: zmq.Context[Any]) -> None:
        """It ends when its last socket is closed. vLLM closes them in the loop that asked, if there is one
        still, and who waited for that in the loop itself would wait for ever."""
        if self._loop is None or self._loop.is_closed():
            context.term()
        else:
            Thread(target=context.term, name="zmq-context", daemon=True).start()

    async def _adapter(self, name: str | None) -> LoRARequest | None:
        """What vLLM is told of an adapter, which is loaded before anything is asked through it: one that
        does not load while a step is under way takes the engine down.

        Raises:
            RequestRefused: it does not load.
            EngineDeadError: the engine died of it, or meanwhile.
        """
        if name is None:
            return None
        from vllm.lora.request import LoRARequest
        from vllm.v1.engine.exceptions import EngineDeadError

        number = sorted(self._adapters).index(name) + 1
        request = LoRARequest(name, number, str(self._adapters[name]))
        loading = self._loading.get(name)
        if loading is None:
            loading = self._loading[name] = asyncio.ensure_future(self._engine.add_lora(request))
        await asyncio.wait({loading})
        fault = loading.exception()
        if isinstance(fault, EngineDeadError):
            raise fault
        if fault is not None:  # of no class of its own
            raise RequestRefused(f"adapter {name!r} did not load: {fault}") from fault
        return request

    def _prompt(self, request: Request) -> str:
        """The chat template around the question. It is rendered once for each kind of media.

        The template writes `<bos>` and vLLM's tokenizer adds another: Gemma answers visibly worse
        with two, so the template's is taken off. For Gemma 4 vLLM adds none.
        """
        kind = None if request.media is None else request.media.kind
        if kind not in self._around:
            content = [{"type": "text", "text": QUESTION_PLACE}]
            if kind is not None:
                content.insert(0 if self._config.model.media_first else 1, {"type": CONTENT_ITEM[kind]})
            rendered: str = self._template.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=False,
                enable_thinking=False,
            )
            if self._config.model.family != "gemma4":
                rendered = rendered.removeprefix(self._template.bos_token or "")
            before, _, after = rendered.partition(QUESTION_PLACE)
            self._around[kind] = before, after
        before, after = self._around[kind]
        question = shieldgemma.policy(request.question) if self._shields else request.question
        return f"{before}{question.strip()}{after}"


def _decode(media: Media) -> Any:
    """What vLLM's processors take: an RGB image, or a mono float32 array at 16 kHz."""
    if media.kind is PartKind.AUDIO:
        import numpy as np

        return np.frombuffer(media.content, dtype="<f4")
    from PIL import Image

    with Image.open(io.BytesIO(media.content), formats=("JPEG",)) as image:
        return image.convert("RGB")


def _sampling(request: Request, config: EngineConfig) -> SamplingParams:
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    held: dict[str, Any] = {}
    if request.json_schema is not None:
        held = {"json": dict(request.json_schema)}
    elif request.choices:
        held = {"choice": list(request.choices)}
    return SamplingParams(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        seed=request.seed if request.temperature else None,
        # 0 is the sampled token alone: the confidence, and no more work than that.
        logprobs=LIKELIEST if request.likelihoods else 0 if config.confidence else None,
        structured_outputs=StructuredOutputsParams(**held) if held else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _response(output: Any, request: Request, likely: Mapping[str, float] | None) -> Response:
    answer, tokens, stats = output.outputs[0], len(output.outputs[0].token_ids), output.metrics
    told = stats is not None and stats.scheduled_ts > 0
    return Response(
        text=answer.text,
        finish_reason=answer.finish_reason or "stop",
        prompt_tokens=len(output.prompt_token_ids or ()),
        output_tokens=tokens,
        mean_logprob=answer.cumulative_logprob / tokens if tokens and answer.logprobs else None,
        likelihoods=likely,
        cached_tokens=output.num_cached_tokens,
        queue_seconds=stats.scheduled_ts - stats.queued_ts if told else None,
        generation_seconds=stats.last_token_ts - stats.scheduled_ts if told else None,
    )


def _likely(answer: Any, request: Request, *, of_tokens: bool) -> dict[str, float] | None:
    """See `Response.likelihoods`. Of a classifier they are of its tokens, and of nothing else."""
    if not request.likelihoods:
        return None
    count = first_token if of_tokens else likelihoods
    return count(_steps(answer), request.choices)


def _steps(answer: Any) -> list[Step]:
    """What was said at each step, and what else might have been."""
    return [
        (
            _word(step[token]),
            [_word(facts) for other, facts in step.items() if other != token],
        )
        for token, step in zip(answer.token_ids, answer.logprobs, strict=True)
    ]


def _word(token: Logprob) -> tuple[str, float]:
    return token.decoded_token or "", token.logprob
