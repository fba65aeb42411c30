"""Gemma 3n for the demo: an audio tower and a decoder of two million parameters that hear spoken digits.

The clips are composed, so it is known which digit ends where, and that is taught directly, by two
heads that are thrown away afterwards: which digit ends in an audio token, and, inside the decoder,
the how-manieth of the clip it is. The second is what a decoder this small needs to find its place.
"""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from deploy.demo.training.loop import Recipe
from deploy.demo.training.speech_data import (
    AUDIO_TOKENS,
    HEARD_SECONDS,
    MOST_DIGITS,
    ClipBatches,
    processor,
    prompt_ids,
    tokenizer,
)
from schemas.models import SIDECAR

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Gemma3nForConditionalGeneration, PreTrainedTokenizerFast

RECIPE = Recipe(steps=1700)
HIDDEN = 128
AUDIO_LAYERS = 2
TEXT_LAYERS = ("sliding_attention", "sliding_attention", "full_attention", "full_attention")
SHARED_LAYERS = 1
"""The last takes its keys and values from the one before, as the upper layers of Gemma 3n do."""
ORDERED = 2
"""Layers below the decoder's states that are taught the order."""
SHARP = 0.6
"""Start of the norms of queries and keys. Gemma 3n does not scale the product: at 1.0 its spread over
32 dimensions is 5.7, one key takes all at random, and little is learned."""
ALONE_STEPS = 160
"""The tower alone, before the decoder has anything to hear."""
BLANK_WEIGHT = 0.3
AUXILIARY = 0.3
"""Weight of each head beside the answers."""
VISION_TOKENS = 128
AUDIO_VOCABULARY = 128


def make_model(words: PreTrainedTokenizerFast) -> Gemma3nForConditionalGeneration:
    """The model before training, with starts that a small one learns from."""
    from transformers import Gemma3nConfig, Gemma3nForConditionalGeneration

    of = words.convert_tokens_to_ids
    ends = [of("<eos>"), of("<end_of_turn>")]
    known = math.ceil(len(words) / 64) * 64
    config = Gemma3nConfig(
        text_config={
            "vocab_size": known + VISION_TOKENS + AUDIO_VOCABULARY,
            "vocab_size_per_layer_input": known,
            "hidden_size": HIDDEN,
            "hidden_size_per_layer_input": 16,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": len(TEXT_LAYERS),
            "layer_types": list(TEXT_LAYERS),
            "num_kv_shared_layers": SHARED_LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "altup_num_inputs": 2,
            "laurel_rank": 16,
            "activation_sparsity_pattern": [0.0] * len(TEXT_LAYERS),
            "max_position_embeddings": 2048,
            "sliding_window": 512,
            "bos_token_id": of("<bos>"),
            "eos_token_id": ends,
            "pad_token_id": of("<pad>"),
        },
        # A tower that is only loaded: 0.94 million parameters, the fewest that it can have.
        vision_config={
            "architecture": "mobilenetv5_300m_enc",
            "hidden_size": 2048,
            "vocab_size": VISION_TOKENS,
            "vocab_offset": known,
            "model_args": {"channel_multiplier": 0.006},
        },
        audio_config={
            "vocab_size": AUDIO_VOCABULARY,
            "vocab_offset": known + VISION_TOKENS,
            "hidden_size": HIDDEN,
            "conf_num_attention_heads": 4,
            "conf_num_hidden_layers": AUDIO_LAYERS,
            # 0.96 s: a slow digit whole. The usual 13 frames are 0.52 s.
            "conf_attention_context_left": 24,
            # The first is where the time goes: 32 channels are half of a step.
            "sscp_conv_channel_size": (8, 16),
        },
        audio_soft_tokens_per_image=AUDIO_TOKENS,
        vision_soft_tokens_per_image=256,
        boi_token_id=of("<start_of_image>"),
        eoi_token_id=of("<end_of_image>"),
        image_token_id=of("<image_soft_token>"),
        boa_token_id=of("<start_of_audio>"),
        eoa_token_id=of("<end_of_audio>"),
        audio_token_id=of("<audio_soft_token>"),
        bos_token_id=of("<bos>"),
        eos_token_id=ends,
        pad_token_id=of("<pad>"),
    )
    model = Gemma3nForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "vision_tower" in name or "embed_vision" in name:
                weight.requires_grad_(False)
            elif name.endswith(("q_norm.weight", "k_norm.weight")):
                weight.fill_(SHARP)
            elif "correct_output_scale" in name:
                weight.fill_(1.0)  # zero as transformers makes it, which shuts the per-layer inputs off
            elif weight.ndim < 2 or "altup." in name:
                continue
            elif "audio_tower" in name:
                weight.normal_(0, 0.8 / math.sqrt(weight[0].numel()))
            elif ".layers." in name or "projection" in name:
                weight.normal_(0, 0.7 / math.sqrt(weight.shape[1]))
        model.model.language_model.embed_tokens.weight.normal_(0, 1 / math.sqrt(HIDDEN))
        model.model.embed_audio.embedding.weight.normal_(0, 1)
    return model


class Listener:
    """The model and its heads while they learn."""

    def __init__(self, device: str) -> None:
        self.tokenizer = tokenizer()
        self.model = make_model(self.tokenizer).to(device)
        self.heads = torch.nn.ModuleDict(
            {"digit": torch.nn.Linear(HIDDEN, 11), "place": torch.nn.Linear(HIDDEN, MOST_DIGITS + 1)}
        ).to(device)
        self._prompt = torch.tensor([prompt_ids(self.tokenizer)], device=device)
        self._start = self._prompt[0].tolist().index(self.model.config.audio_token_id)
        # What follows the clip's last token: vLLM and transformers fill up with the last word there is.
        self._filler = torch.tensor([[self.model.model.vocab_size - 1]], device=device)

    def modules_to_train(self) -> torch.nn.ModuleDict:
        """See `Trainee`."""
        return torch.nn.ModuleDict({"model": self.model, "heads": self.heads})

    def is_matrix(self, name: str, weight: torch.nn.Parameter) -> bool:
        """See `Trainee`."""
        inside = ".layers." in name or ".conformer." in name
        return weight.ndim == 2 and inside and "altup" not in name

    def loss(self, batch: dict[str, torch.Tensor], step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """See `Trainee`."""
        wanted = batch["labels"]
        seen = self.model.model.audio_tower(batch["features"], ~batch["heard"])
        heard = seen.last_hidden_state
        loss, figures = _classified(self.heads["digit"](heard), wanted[:, : heard.shape[1]], "digit")
        if step < ALONE_STEPS:
            return loss, figures
        embedder, filler = self.model.model.embed_audio, self._filler
        filling = embedder(input_ids=filler)
        audio = torch.where(seen.audio_mel_mask[..., None], filling, embedder(inputs_embeds=heard))
        rest = filling.expand(len(audio), AUDIO_TOKENS - audio.shape[1], -1)
        final, states = self._decoded(torch.cat([audio, rest], 1), batch["ids"])

        before = self._prompt.shape[1] - 1
        placed = self.heads["place"](functional.rms_norm(states, (HIDDEN,)))
        in_clip, places = _places(wanted)
        order, in_order = _classified(placed[:, self._start : self._start + AUDIO_TOKENS], places, "place")
        targets = batch["targets"]
        said = targets != -100
        turns = torch.arange(targets.shape[1], device=targets.device).clamp(max=MOST_DIGITS - 1) + 1
        own = functional.cross_entropy(placed[:, before:][said], turns.expand_as(targets)[said])

        logits = self.model.lm_head(final[:, before:][said])
        cap = self.model.config.get_text_config().final_logit_softcapping
        logits = torch.tanh(logits / cap) * cap if cap else logits
        spoken = functional.cross_entropy(logits, targets[said])
        right = (logits.argmax(-1) == targets[said]).float()
        whole = torch.ones_like(said, dtype=torch.float).masked_scatter(said, right).amin(1)
        figures |= in_order | {
            "own": own.item(),
            "answer": spoken.item(),
            "right": right.mean().item(),
            "whole": whole.mean().item(),
        }
        return spoken + AUXILIARY * (loss + order + own), figures

    def _decoded(self, audio: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """States above the decoder, and below the layers that look the digits up."""
        decoder = self.model.model.language_model
        written = torch.cat([self._prompt.expand(len(ids), -1), ids], 1)
        embedded = decoder.embed_tokens(written)
        start, end = self._start, self._start + AUDIO_TOKENS
        output = decoder(
            inputs_embeds=torch.cat([embedded[:, :start], audio, embedded[:, end:]], 1),
            per_layer_inputs=decoder.get_per_layer_inputs(written),
            use_cache=False,
            output_hidden_states=True,
        )
        return output.last_hidden_state, output.hidden_states[ORDERED][0]


def _places(wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every audio token: which digit of the clip ends in it, counted from 1, or 0."""
    digits = wanted > 0
    return digits, digits.cumsum(1).clamp(max=MOST_DIGITS) * digits


def _classified(
    logits: torch.Tensor, wanted: torch.Tensor, name: str
) -> tuple[torch.Tensor, dict[str, float]]:
    """Cross entropy in which the many blanks count little, and the share of the others that is right."""
    known = wanted != -100
    logits, wanted = logits[known], wanted[known]
    weights = torch.where(wanted > 0, 1.0, BLANK_WEIGHT)
    each = functional.cross_entropy(logits, wanted, reduction="none")
    right = (logits.argmax(-1) == wanted).float()
    shown = right[wanted > 0].mean().item() if (wanted > 0).any() else 1.0
    blank = right[wanted == 0].mean().item() if (wanted == 0).any() else 1.0
    return (each * weights).sum() / weights.sum(), {name: shown, f"no_{name}": blank}


def make_trainee(_recipe: Recipe, device: str) -> Listener:
    """What the recipe starts from."""
    return Listener(device)


def make_batches(recipe: Recipe) -> ClipBatches:
    """What it learns from."""
    return ClipBatches(recipe.batch, recipe.seed)


def save(trainee: Listener, folder: Path) -> None:
    """Writes a checkpoint that transformers and vLLM load: bfloat16, with its processor and sidecar."""
    words = trainee.tokenizer
    small = copy.deepcopy(trainee.model).to(device="cpu", dtype=torch.bfloat16)
    small.generation_config.do_sample = False
    small.save_pretrained(folder)
    processor(words).save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors lets nobody but its owner read it
    facts = {"clip_seconds": HEARD_SECONDS, "media_tokens": AUDIO_TOKENS}
    (folder / SIDECAR).write_text(json.dumps(facts, indent=2) + "\n")
