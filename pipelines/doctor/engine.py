"""What answers: vLLM, which is imported to see that it can be, or a server, which is asked for its list."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pipelines.doctor import failed, ok, warning
from pipelines.doctor.child import NoAnswer, ask
from schemas.errors import GemstreamError

if TYPE_CHECKING:
    from pipelines.doctor import Finding, Findings, Patient

IMPORT_SECONDS = 42.0
"""Importing vLLM takes 10 s of CPU here, and as long again from a disk that has not read it before."""
INSTALL = "pip install 'gemstream[gpu]', or 'gemstream[cpu]' where there is no GPU"


def engine(patient: Patient) -> Findings:
    """Whether the job's engine can be started here, as far as that shows without weights."""
    kind = patient.job.engine.kind
    if kind == "openai":
        yield _server(patient)
    elif kind != "vllm":
        yield ok(kind, "this engine needs nothing")
    elif find_spec("vllm") is None:
        yield failed("vllm", "it is not installed", INSTALL)
    else:
        yield vllm(patient, IMPORT_SECONDS)


def vllm(patient: Patient, seconds: float) -> Finding:
    """Import what an engine imports, in a process of its own: a build for another CPU ends its interpreter.

    Args:
        patient: see `Check`.
        seconds: wall seconds it may take.
    """
    from workers.engines.vllm import VllmEngine

    try:
        said = ask("pipelines.doctor.engine:imported", [], seconds, VllmEngine.environment(0))
    except NoAnswer as error:
        todo = "install it again, built for this machine's CPU and CUDA; `python -c 'import vllm'` says more"
        return failed("vllm", f"it does not import: {error}", todo)
    told = f"{said['vllm']} imports, for {said['device'] or 'no device'}; torch {said['torch']}"
    if not said["device"]:
        todo = "it is built for GPUs and sees none: load the driver, or install gemstream[cpu]"
        return failed("vllm", told, todo)
    if said["device"] == "cpu" and os.path.exists("/proc/driver/nvidia/version"):
        return warning("vllm", told, "there is a GPU here: install gemstream[gpu] to use it")
    return ok("vllm", told)


def imported() -> dict[str, Any]:
    """In the child: what vLLM and torch say of themselves once they are there."""
    import torch
    import vllm
    from vllm import AsyncEngineArgs  # noqa: F401  # that it can be imported is the question
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: F401

    return {"vllm": vllm.__version__, "torch": torch.__version__, "device": current_platform.device_type}


def _server(patient: Patient) -> Finding:
    """The server of `engine.kind: openai`, as each worker finds it when it starts."""
    from pipelines.plan import make_plan
    from workers.engines.openai import OpenAIEngine, OpenAIOptions

    try:
        plan = make_plan(patient.job, None, 0.0)
        options = OpenAIOptions.model_validate(dict(patient.job.engine.options))
        for lane in plan.lanes:
            OpenAIEngine(lane.config).start()
    except GemstreamError as error:
        told, _, todo = error.message.partition("; ")
        return failed("server", told, todo or "correct engine.options")
    key = "a key" if os.environ.get(options.api_key_env) else "no key"
    return ok("server", f"{options.base_url} answers; {key} in {options.api_key_env}")
