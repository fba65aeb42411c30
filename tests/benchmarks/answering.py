"""Documents to records: the pipeline with one vLLM engine, against a bare loop over the same engine.

The loop is what vLLM's documentation shows for offline work: decode everything, one call of `LLM.generate`.
Its engine arguments, its prompts and its sampling are those that our engine makes of the same job.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.rows import PartKind
from tests.benchmarks import inputs
from tests.benchmarks.contest import Contest, Turns, Work
from tests.benchmarks.portions import job_for, run_portions, said
from tests.fixtures.runs import GEMMA3, GEMMA3N

if TYPE_CHECKING:
    from pipelines.plan import Lane
    from schemas.job import JobSpec

PICTURES, RECORDINGS = 240, 160
SECONDS = 20.0
"""Of one turn: for 1.0 s of it our engine has nothing to do yet, or nothing more; the loop's for 0.4 s."""
ANSWER_CHARACTERS = 246
ENGINE = {"max_num_seqs": 16, "max_model_len": 1024}


def vision_job(folder: Path) -> JobSpec:
    """Some 256 tokens about each picture, half of what is read on a page of print.

    The 25 of its own text take this engine 15 ms: what is around it would be compared, on its own cores.
    """
    tasks = [said("about", ANSWER_CHARACTERS)]
    return job_for(folder, tasks, models={"vision": str(GEMMA3)}, engine=ENGINE)


def audio_job(folder: Path, **engine: Any) -> JobSpec:
    """As many about each recording."""
    tasks = [said("about", ANSWER_CHARACTERS) | {"of": ["audio"]}]
    return job_for(folder, tasks, models={"audio": str(GEMMA3N)}, engine=ENGINE | engine)


def vision(folder: Path, turns: Turns) -> None:
    """Ours."""
    run_portions(vision_job(folder), folder, turns)


def audio(folder: Path, turns: Turns) -> None:
    """Ours."""
    run_portions(audio_job(folder), folder, turns)


def bare_vision(folder: Path, turns: Turns) -> None:
    """vLLM's own loop."""
    _bare(_lane(vision_job(folder)), PartKind.IMAGE, turns)


def bare_audio(folder: Path, turns: Turns) -> None:
    """vLLM's own loop."""
    _bare(_lane(audio_job(folder)), PartKind.AUDIO, turns)


def _lane(job: JobSpec) -> Lane:
    from pipelines.plan import make_plan

    (lane,) = make_plan(job, None, 0.0).lanes
    return lane


def _bare(lane: Lane, kind: PartKind, turns: Turns) -> None:
    from workers.engines import Media
    from workers.engines.vllm import VllmEngine, _sampling
    from workers.prompt import Part, Rung, build

    os.environ.update(VllmEngine.environment(0))
    from vllm import LLM

    engine = VllmEngine(lane.config)
    llm = LLM(**engine.arguments())
    engine._template = llm.get_tokenizer()
    (ask,) = lane.asks
    rung = Rung(0, ask.max_tokens, ask.task.temperature)
    request = build(ask, Part("", Media(kind, b"", ""), None, kind), rung)
    prompt, sampling = engine._prompt(request), _sampling(request, lane.config)
    item = "audio" if kind is PartKind.AUDIO else "image"

    def answer(portion: Path) -> tuple[int, int]:
        prompts = [
            {"prompt": prompt, "multi_modal_data": {item: decoded(path, lane.expand.image_size)}}
            for path in sorted(portion.iterdir())
        ]
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        return len(outputs), sum(len(output.outputs[0].token_ids) for output in outputs)

    turns.each(answer)


def decoded(path: Path, side: int | None) -> Any:
    """What vLLM is shown: a picture of the model's size, or samples at 16 kHz."""
    if path.suffix == ".flac":
        import soundfile
        import soxr

        sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return soxr.resample(sound.mean(1), rate, 16_000)
    from PIL import Image

    assert side is not None
    with Image.open(path) as picture:
        scale = side / max(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        picture.draft("RGB", size)
        return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).convert("RGB")


ENGINES = (
    "one vLLM engine of the same arguments on CPU, 16 requests at once, up and warm on both sides; from the "
    "first document listed to the last record published, against decoding all and one `LLM.generate`"
)
PAIRS = {
    contest.name: contest
    for contest in (
        Contest(
            "answer-images",
            "vision",
            "bare_vision",
            "vllm.LLM.generate",
            (
                Work(
                    "answer-images",
                    f"256 tokens about each of JPEG pictures of 384 px, Gemma 3, {ENGINES}",
                    "image",
                    0.95,
                    PICTURES,
                    inputs.pictures,
                    seconds=SECONDS,
                ),
            ),
        ),
        Contest(
            "answer-audio",
            "audio",
            "bare_audio",
            "vllm.LLM.generate",
            (
                Work(
                    "answer-audio",
                    f"256 tokens about each of recordings of 5 s, FLAC at 44.1 kHz, Gemma 3n, {ENGINES}",
                    "recording",
                    0.95,
                    RECORDINGS,
                    inputs.clips,
                ),
            ),
        ),
    )
}
