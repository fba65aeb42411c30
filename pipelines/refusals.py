"""What a plan refuses because the model or the engine that the job names cannot do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import JobError
from schemas.rows import Pages

if TYPE_CHECKING:
    from schemas.job import JobSpec, PartPool
    from schemas.models import Model
    from schemas.tasks.base import Task
    from workers.engines import Engine


SETTINGS_OF_OURS = {
    "model": "models.vision or models.audio",
    "max_model_len": "engine.max_model_len",
    "max_num_seqs": "engine.max_num_seqs",
    "seed": "seed",
}
"""Arguments of vLLM that a job says elsewhere: by that a run is planned, and its answers are known again."""


READ_SAFELY = frozenset(
    "safetensors fastsafetensors runai_streamer runai_streamer_sharded sharded_state dummy".split()
)
"""vLLM's ways to load weights that read safetensors alone; `auto` takes pickles where there are no others."""


def refuse_unsafe(job: JobSpec, engine: type[Engine]) -> None:
    """A model is weights and never a program.

    Raises:
        JobError: an option would have code run that came with one.
    """
    options = job.engine.options if engine.hosts_model else {}
    if options.get("trust_remote_code"):
        raise JobError(
            "engine.options.trust_remote_code: code that comes with a model is never run; take a model whose "
            "architecture vLLM has itself",
            key="engine.options.trust_remote_code",
        )
    if options.get("load_format", "safetensors") not in READ_SAFELY:
        raise JobError(
            f"engine.options.load_format: {options['load_format']!r} reads pickles, which are programs; "
            f"convert the weights to safetensors ({', '.join(sorted(READ_SAFELY))})",
            key="engine.options.load_format",
        )


def refuse_double(job: JobSpec, engine: type[Engine]) -> None:
    """An engine's own option would be what is done, and the setting what is written down.

    Raises:
        JobError: there is one.
    """
    for name in SETTINGS_OF_OURS.keys() & job.engine.options.keys() if engine.hosts_model else ():
        raise JobError(
            f"engine.options.{name}: set {SETTINGS_OF_OURS[name]} instead, by which the run is planned and "
            "its answers are known again",
            key=f"engine.options.{name}",
        )


def refuse_unfit(job: JobSpec, pool: PartPool, tasks: list[Task], model: Model, engine: type[Engine]) -> None:
    """A model that answers one kind of task is given that task's subject and a picture, and nothing else.

    Raises:
        JobError: the job has something else for it.
    """
    if model.only is None:
        return
    key, only = f"models.{pool}", f"{model.source} answers {model.only} alone"
    others = [task.name for task in tasks if task.kind != model.only]
    if others:
        raise JobError(
            f"{key}: {only}, and the job asks {', '.join(others)} of it; take those off, and ask "
            "them of another model in a job of their own",
            key=key,
        )
    if not engine.hosts_model:
        raise JobError(
            f"{key}: {only}, through a template that only the engine vllm knows to fill; set engine.kind to "
            "vllm, or name another model",
            key=key,
        )
    if prompted := [task.name for task in tasks if task.prompt]:
        raise JobError(
            f"tasks.{prompted[0]}.prompt: {only}, by its own template's question; take the prompt off, and "
            "put what must not be there into policy",
            key=f"tasks.{prompted[0]}.prompt",
        )
    if job.expand.pages is not Pages.IMAGE:
        raise JobError(
            f"expand.pages: {only}, of pictures and not of a page's text; set it to image", key="expand.pages"
        )


def refuse_adapters_elsewhere(job: JobSpec, tasks: list[Task], engine: type[Engine]) -> None:
    """A server loads its adapters itself: it cannot be sent one, and could have any under that name.

    Raises:
        JobError: a task names one.
    """
    through = [task for task in tasks if task.adapter]
    if engine.hosts_model or not through:
        return
    key = f"tasks.{through[0].name}.adapter"
    raise JobError(
        f"{key}: the engine {job.engine.kind} asks a server, which loads no adapter of ours; take it off, "
        "and where the server has it under a name, ask that by engine.options.model, in a job of its own",
        key=key,
    )


def refuse_tiles(job: JobSpec, model: Model, engine: type[Engine]) -> None:
    """Tiles are made by Gemma 3's own processor, where it is told so request by request.

    Raises:
        JobError: the engine cannot tell it, or the model has another.
    """
    key = "expand.tiling"
    if not engine.tiles:
        raise JobError(
            f"{key}: the {job.engine.kind} engine cannot ask for tiles picture by picture; set it to "
            "off. A server of vLLM makes them of every picture when it is started with "
            """--mm-processor-kwargs '{"do_pan_and_scan": true}', which costs their tokens each time""",
            key=key,
        )
    if model.family != "gemma3" or model.only is not None:
        raise JobError(f"{key}: {model.source} is shown pictures whole; set it to off", key=key)
