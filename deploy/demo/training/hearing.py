"""How well the trained Gemma 3n hears: `python -m deploy.demo.training.hearing CHECKPOINT`.

Fresh clips of the lengths that the pipeline cuts, by voices trained on and voices never trained on,
and of nobody at all, are given to vLLM through the pipeline's own engine and to transformers.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deploy.demo.speech import Speech, make_silence, make_speech
from deploy.demo.training.speech_data import CLIP_SECONDS, question
from schemas.ids import digest
from schemas.models import find_model
from schemas.rows import PartKind
from workers.engines import Media

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deploy.demo.speech import Voices

VOICES: tuple[Voices, ...] = ("training", "held-out", "held-out-flite")
SILENCE = "silence"
SHORTEST_SECONDS = 1.2
SILENT_SHARE = 0.25
"""As many silent clips as this share of the others of a kind."""
BATCH = 32
MAX_TOKENS = 32


def make_clips(seed: str, count: int) -> dict[str, list[Speech]]:
    """Kind of voice -> its clips."""
    found: dict[str, list[Speech]] = {}
    for voices in VOICES:
        rng = random.Random(f"{seed}/{voices}")
        found[voices] = [
            make_speech(rng, voices, seconds=rng.uniform(SHORTEST_SECONDS, CLIP_SECONDS))
            for _ in range(count)
        ]
    rng = random.Random(f"{seed}/{SILENCE}")
    silent = int(count * SILENT_SHARE)
    found[SILENCE] = [make_silence(rng, rng.uniform(0.3, CLIP_SECONDS)) for _ in range(silent)]
    return found


def by_transformers(folder: Path, clips: Sequence[Speech], dtype: torch.dtype) -> list[str]:
    """What transformers answers; every prompt has the same length, so they go in batches."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    network = AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).eval()
    content = [{"type": "text", "text": question()}, {"type": "audio"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    ).removeprefix(processor.tokenizer.bos_token)
    answers: list[str] = []
    for start in range(0, len(clips), BATCH):
        some = clips[start : start + BATCH]
        inputs = processor(
            text=[text] * len(some), audio=[clip.samples for clip in some], return_tensors="pt"
        ).to(dtype)
        with torch.inference_mode():
            ids = network.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        prompt = inputs["input_ids"].shape[1]
        answers += processor.tokenizer.batch_decode(ids[:, prompt:], skip_special_tokens=True)
    return answers


def by_vllm(folder: Path, clips: Iterable[Speech]) -> list[str]:
    """What the pipeline's engine answers."""
    from deploy.demo.training import agreement

    asked = []
    for clip in clips:
        content = clip.samples.astype("<f4").tobytes()
        asked.append((Media(PartKind.AUDIO, content, digest(content.hex())), question()))
    return agreement.by_vllm(find_model(str(folder)), asked)


def report(kind: str, clips: Sequence[Speech], answers: Sequence[str]) -> str:
    """One line of figures."""
    import jiwer

    whole = sum(clip.text == answer for clip, answer in zip(clips, answers, strict=True))
    spoken = [(clip.text, answer) for clip, answer in zip(clips, answers, strict=True) if clip.text]
    invented = sum(bool(a) for clip, a in zip(clips, answers, strict=True) if not clip.text)
    silent = len(clips) - len(spoken)
    line = f"{kind}: {whole} of {len(clips)} clips right, digits heard in {invented} of {silent} without any"
    if spoken:
        errors = jiwer.process_words([true for true, _ in spoken], [answer for _, answer in spoken])
        digits = errors.hits + errors.substitutions + errors.deletions
        line += (
            f"; digit error rate {errors.wer:.2%} of {digits} ({errors.substitutions} others, "
            f"{errors.deletions} missed, {errors.insertions} added)"
        )
    return line


def main(arguments: list[str] | None = None) -> int:
    """Command line: prints the figures of each engine, and how often the two agree."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.training.hearing", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--count", type=int, default=200, help="clips of each kind of voice")
    parser.add_argument("--seed", default="hearing")
    parser.add_argument("--no-vllm", action="store_true", help="transformers alone")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    clips = make_clips(options.seed, options.count)
    kinds = [kind for kind, some in clips.items() for _ in some]
    flat = [clip for some in clips.values() for clip in some]
    heard = {
        "transformers, float32": by_transformers(options.checkpoint, flat, torch.float32),
        "transformers, bfloat16": by_transformers(options.checkpoint, flat, torch.bfloat16),
    }
    if not options.no_vllm:
        heard["vLLM, bfloat16"] = by_vllm(options.checkpoint, flat)
    for engine, answers in heard.items():
        print(engine)
        for kind in clips:
            chosen = [answer for answer, own in zip(answers, kinds, strict=True) if own == kind]
            print(f"  {report(kind, clips[kind], chosen)}")
    names = list(heard)
    for first, second in zip(names, names[1:], strict=False):
        same = sum(one == other for one, other in zip(heard[first], heard[second], strict=True))
        print(f"{first} and {second}: the same text for {same} of {len(flat)} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
