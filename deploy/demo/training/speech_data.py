"""What Gemma 3n learns from: clips of spoken digits, the digit that ends in each audio token, answers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from deploy.demo.speech import RATE, Speech, make_silence, make_speech
from deploy.demo.training.loop import Batches
from deploy.demo.training.tokenizer import clauses, make_tokenizer
from schemas.rows import Shown
from schemas.tasks import make_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import Gemma3nAudioFeatureExtractor, Gemma3nProcessor, PreTrainedTokenizerFast

CLIP_SECONDS = 8.0
HEARD_SECONDS = 6.0
"""What a segment may be. The pipeline cuts in pauses and leaves silence out, so that its segments hold more
digits than training's clips do: of 40 recordings by unseen voices 3.7 % of the digits were wrong in segments
of up to 8 s, where it goes round in circles now and then, and 1.2 % in segments of up to 6 s."""
AUDIO_TOKENS = 64
"""What 10.2 s become; vLLM cuts anything beyond without a word."""
TOKEN_SECONDS = 0.16
TOKEN_FRAMES = 16
HEARD_SECONDS = 0.14
"""An audio token that starts this long before a digit's end, or later, is taken to have heard it: its
convolutions reach 0.09 s on, and no cut of the pipeline is nearer to a digit than 0.07 s, so the
token is always inside the clip."""
MOST_DIGITS = 20

SILENT_SHARE = 0.08
NARROW_SHARE = 0.15
"""Of the clips: without what a telephone leaves out."""
MASKED_SHARE = 0.5
MASKED_BANDS = 14
MASKED_FRAMES = 8

LEVEL, SPREAD = -2.3, 2.0
"""Of the logarithmic mel spectrum over such clips; the processor takes them out."""

ANSWER_END = "<end_of_turn>"


def question() -> str:
    """The pipeline's, word for word."""
    return make_task("transcribe").question(Shown.AUDIO)


def tokenizer() -> PreTrainedTokenizerFast:
    """Characters, and as one token each: the clauses of the question, a digit with the space before it."""
    return make_tokenizer([*clauses(question()), *(f" {digit}" for digit in range(10))])


def processor(words: PreTrainedTokenizerFast) -> Gemma3nProcessor:
    """What vLLM and transformers turn a prompt and a clip into tensors with."""
    from transformers import Gemma3nAudioFeatureExtractor, Gemma3nProcessor, SiglipImageProcessor

    bands = 128
    return Gemma3nProcessor(
        feature_extractor=Gemma3nAudioFeatureExtractor(
            feature_size=bands, per_bin_mean=[LEVEL] * bands, per_bin_stddev=[SPREAD] * bands
        ),
        image_processor=SiglipImageProcessor(size={"height": 768, "width": 768}, do_normalize=False),
        tokenizer=words,
        chat_template=words.chat_template,
        audio_seq_length=AUDIO_TOKENS,
    )


def prompt_ids(words: PreTrainedTokenizerFast) -> list[int]:
    """The pipeline's whole prompt about a clip, as the processor writes it: the question, then the clip."""
    content = [{"type": "text", "text": question()}, {"type": "audio"}]
    text = words.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    text = text.removeprefix(words.bos_token)  # the tokenizer adds it
    ids: list[int] = processor(words)(text=[text], audio=[np.zeros(RATE, np.float32)])["input_ids"][0]
    return ids


class Spectrum:
    """The feature extractor's log-mel frames, at a fifth of its time.

    In float32, for it computes in float64; no value differs by more than 3e-5.
    """

    def __init__(self, extractor: Gemma3nAudioFeatureExtractor) -> None:
        self._window = torch.from_numpy(extractor.window)
        self._filters = torch.from_numpy(extractor.mel_filters).float()
        self._size, self._hop = extractor.frame_length, extractor.hop_length
        self._points, self._kept = extractor.fft_length, extractor.preemphasis
        self._floor = float(extractor.mel_floor)

    def __call__(self, samples: np.ndarray[Any, Any]) -> torch.Tensor:
        """(frames, bands)."""
        padded = np.pad(samples, (0, -len(samples) % 128))
        raw = torch.from_numpy(padded).unfold(0, self._size + 1, self._hop)
        frames = torch.cat([raw[:, :1] * (1 - self._kept), raw[:, 1:-1] - self._kept * raw[:, :-2]], dim=1)
        magnitudes = torch.fft.rfft(frames * self._window, self._points).abs()
        return ((magnitudes @ self._filters).clamp_min(self._floor).log() - LEVEL) / SPREAD


def labels(speech: Speech, frames: int) -> np.ndarray[Any, Any]:
    """Of each audio token of a clip: 1 + the digit that ends in it, 0, or -100 beyond the clip."""
    found = np.full(AUDIO_TOKENS, -100, np.int64)
    tokens = -(-frames // TOKEN_FRAMES)
    found[:tokens] = 0
    for digit in speech.digits:
        place = int(np.ceil((digit.end - HEARD_SECONDS) / TOKEN_SECONDS))
        found[min(place, tokens - 1)] = 1 + digit.value
    return found


class ClipBatches(Batches):
    """Clips of about one length, what is in them, and the answers."""

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self._words = tokenizer()
        self._spectrum = Spectrum(processor(self._words).feature_extractor)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{self._seed}/{step}")
        longest = rng.uniform(1.0, CLIP_SECONDS)
        clips = [_clip(rng, rng.uniform(max(0.3, 0.6 * longest), longest)) for _ in range(self._size)]
        spectra = [self._spectrum(clip.samples) for clip in clips]
        return self.pack(clips, [_masked(spectrum, rng) for spectrum in spectra])

    def pack(self, clips: Sequence[Speech], spectra: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors padded to the longest, as vLLM pads them: with zeros, and a mask."""
        frames = max(map(len, spectra))
        ids, targets = self._answers(clips)
        return {
            "features": torch.stack([functional.pad(s, (0, 0, 0, frames - len(s))) for s in spectra]),
            "heard": torch.stack([torch.arange(frames) < len(s) for s in spectra]),
            "labels": torch.from_numpy(
                np.stack([labels(clip, len(s)) for clip, s in zip(clips, spectra, strict=True)])
            ),
            "ids": ids,
            "targets": targets,
        }

    def _answers(self, clips: Sequence[Speech]) -> tuple[torch.Tensor, torch.Tensor]:
        """What is said so far, and what is wanted next: the first after the prompt's last token."""
        rows = [self._words.encode(clip.text + ANSWER_END, add_special_tokens=False) for clip in clips]
        longest = max(map(len, rows))
        ids = np.stack([np.pad(row[:-1], (0, longest - len(row))) for row in rows]).astype(np.int64)
        targets = np.stack([np.pad(row, (0, longest - len(row)), constant_values=-100) for row in rows])
        return torch.from_numpy(ids), torch.from_numpy(targets)


def _clip(rng: random.Random, seconds: float) -> Speech:
    if rng.random() < SILENT_SHARE:
        return make_silence(rng, seconds)
    speech = make_speech(rng, seconds=seconds)
    if rng.random() < NARROW_SHARE:
        import soxr

        narrow = soxr.resample(speech.samples, RATE, RATE // 2, quality="LQ")
        wide = soxr.resample(narrow, RATE // 2, RATE, quality="LQ")[: len(speech.samples)]
        return Speech(np.pad(wide, (0, len(speech.samples) - len(wide))), speech.digits)
    return speech


def _masked(spectrum: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A band and a moment blotted out, in some of the clips.

    Not with zeros: where a clip begins with them all of the tower's norms divide by nothing, and the
    gradient is not a number.
    """
    blot = spectrum.mean()
    if rng.random() < MASKED_SHARE:
        low = rng.randrange(spectrum.shape[1])
        spectrum[:, low : low + rng.randint(2, MASKED_BANDS)] = blot
    if rng.random() < MASKED_SHARE:
        start = rng.randrange(len(spectrum))
        spectrum[start : start + rng.randint(1, MASKED_FRAMES)] = blot
    return spectrum
