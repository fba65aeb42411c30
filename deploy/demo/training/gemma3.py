"""Gemma 3 for the demo: a vision tower and a decoder of 1.3 million parameters that read its pages.

What the tower sees of a page is taught directly, by heads that are thrown away afterwards: which
character lies in a patch, the how-manieth of the page it is, and which place of which field. The
decoder learns from the answers to the pipeline's own questions, all of them behind one image. Another
such head, on its first layer, says of a patch which place it is and of an answer which place comes
next, in the same terms, so that the layers above have but to match them.
"""

from __future__ import annotations

import copy
import math
import re
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from deploy.demo.pages import SIDE
from deploy.demo.training.loop import Recipe
from deploy.demo.training.page_data import (
    COLUMNS,
    CONTENTS,
    FIELDS,
    LONGEST,
    PATCH,
    PATCHES,
    PageBatches,
    frame,
    tokenizer,
)

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import Gemma3ForConditionalGeneration, PreTrainedTokenizerFast

RECIPE = Recipe(steps=2400)
HIDDEN = 128
FULL_SHARE = 0.25
"""Of the steps: with all patches. In the others most of the blank ones are left out, which halves the
decoder's work."""
KEPT = 64
VISION_STEPS = 300
"""The first ones: the tower alone, before the decoder has anything to look at."""
POINTING_HEADS = (0, 2)
"""Of the second layer, one of each group that shares its keys."""
POINTING_STEPS = 300
"""After the tower's: two heads are told where to look. Without it the share of right digits
stayed at a guess (0.33) for 300 steps; with it, it went to 0.87 within 140. Then they know, and attention
that need not be shown is half again as fast."""
AUXILIARY = 0.3
"""Weight of the heads beside the answers."""


def make_model(words: PreTrainedTokenizerFast) -> Gemma3ForConditionalGeneration:
    """The model before training, with starts that a small one learns from."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    of = words.convert_tokens_to_ids
    ends = [of("<eos>"), of("<end_of_turn>")]
    config = Gemma3Config(
        text_config={
            "vocab_size": math.ceil(len(words) / 64) * 64,
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": 3,
            # Two that see everything with slowly turning positions, which is what matching by content needs.
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            # Queries and keys are normalised, so a logit is at most 32 / sqrt(this): with the usual 32 that
            # is 5.7, too little to pick one patch of 144.
            "query_pre_attn_scalar": 4,
            "max_position_embeddings": 2048,
            "sliding_window": 512,
            "bos_token_id": of("<bos>"),
            "eos_token_id": ends,
            "pad_token_id": of("<pad>"),
        },
        vision_config={
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        mm_tokens_per_image=PATCHES,
        image_token_index=of("<image_soft_token>"),
        boi_token_index=of("<start_of_image>"),
        eoi_token_index=of("<end_of_image>"),
        eos_token_id=ends,
    )
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and ".layers." in name:
                weight.normal_(0, 0.7 / math.sqrt(weight.shape[1]))
            elif "patch_embedding.weight" in name:
                weight.normal_(0, 1 / math.sqrt(weight[0].numel()))
            elif "position_embedding" in name:
                weight.normal_(0, 0.3)
        model.model.language_model.embed_tokens.weight.normal_(0, 1 / math.sqrt(HIDDEN))
        # Zero as transformers makes it, and then no picture reaches the decoder.
        model.model.multi_modal_projector.mm_input_projection_weight.normal_(0, 0.3 / math.sqrt(HIDDEN))
    return model


class PageReader:
    """The model and its heads while they learn."""

    def __init__(self, device: str) -> None:
        self.tokenizer = tokenizer()
        self.model = make_model(self.tokenizer).to(device)
        self.heads = torch.nn.Linear(HIDDEN, CONTENTS + LONGEST + FIELDS * COLUMNS).to(device)
        self.pointer = torch.nn.Linear(HIDDEN, LONGEST + FIELDS * COLUMNS).to(device)
        before, behind = frame(self.tokenizer)
        self._before = len(before)
        self._prefix = torch.tensor([before + [0] * PATCHES + behind], device=device)
        self._digits = torch.tensor(self.tokenizer.convert_tokens_to_ids(list("0123456789")), device=device)

    def modules_to_train(self) -> torch.nn.ModuleDict:
        """See `Trainee`."""
        return torch.nn.ModuleDict({"model": self.model, "heads": self.heads, "pointer": self.pointer})

    def is_matrix(self, name: str, weight: torch.nn.Parameter) -> bool:
        """See `Trainee`."""
        return weight.ndim == 2 and ".layers." in name

    def loss(self, batch: dict[str, torch.Tensor], step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """See `Trainee`."""
        pixels = batch["pixels"].float() / 127.5 - 1
        seen = self.model.model.vision_tower(pixel_values=pixels).last_hidden_state
        loss, figures = self._patches(seen, batch["labels"])
        if step < VISION_STEPS:
            return loss, figures
        # The decoder of transformers sees the whole image from each of its tokens, that of vLLM on a
        # CPU only what comes before: both are in the training, turn by turn.
        logits, targets, pointed = self._answers(
            seen, batch, both_ways=step % 2 == 0, pointing=step < VISION_STEPS + POINTING_STEPS
        )
        spoken = functional.cross_entropy(logits, targets)
        right = (logits.argmax(-1) == targets).float()
        digits = torch.isin(targets, self._digits)
        figures |= {
            "answer": spoken.item(),
            "right": right.mean().item(),
            "digits": right[digits].mean().item(),
            "pointer": pointed.item(),
        }
        return spoken + AUXILIARY * (loss + pointed), figures

    def _patches(self, seen: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        sizes = (CONTENTS, LONGEST, FIELDS * COLUMNS)
        total, figures = seen.new_zeros(()), {}
        glyphs = wanted[:, 0] > 0
        weights = torch.where(glyphs, 1.0, 0.15).flatten()
        for name, logits, target in zip(
            ("character", "place", "field"), self.heads(seen).split(sizes, -1), wanted.unbind(1), strict=True
        ):
            each = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
            total = total + (each * weights).sum() / weights.sum()
            figures[name] = (logits.argmax(-1) == target)[glyphs].float().mean().item()
        return total, figures

    def _answers(
        self, seen: torch.Tensor, batch: dict[str, torch.Tensor], both_ways: bool, pointing: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits and targets of every token that an answer has, and the pointer's loss."""
        decoder = self.model.model.language_model
        image = self.model.model.multi_modal_projector(seen)
        fixed = decoder.embed_tokens(self._prefix).expand(len(image), -1, -1)
        start, end = self._before, self._before + PATCHES
        positions = torch.arange(fixed.shape[1], device=image.device).expand(len(image), -1)
        patches = batch["labels"][:, 1:]
        if torch.rand(()) >= FULL_SHARE:
            kept = self._kept(batch)
            patches = patches.gather(2, kept[:, None].expand(-1, 2, -1))
            image = image.gather(1, kept[..., None].expand(-1, -1, HIDDEN))
            positions = torch.cat([positions[:, :start], kept + start, positions[:, end:]], 1)
        embedded = torch.cat([fixed[:, :start], image, fixed[:, end:], decoder.embed_tokens(batch["ids"])], 1)
        mask = _mask(batch["segments"], start, image.shape[1], positions.shape[1], both_ways)
        # "eager" is the only attention that shows where it looks.
        decoder.config._attn_implementation = "eager" if pointing else "sdpa"
        hidden = decoder(
            inputs_embeds=embedded,
            attention_mask={"full_attention": mask, "sliding_attention": mask},
            position_ids=torch.cat([positions, batch["positions"]], 1),
            use_cache=False,
            output_hidden_states=True,
            output_attentions=pointing,
        )
        first, last, prefix = hidden.hidden_states[1], hidden.last_hidden_state, positions.shape[1]
        shown = slice(start, start + image.shape[1])
        wanted = torch.stack([batch["place"], batch["field"]], 1)
        pointed = self._pointed(first[:, shown], patches) + self._pointed(first[:, prefix:], wanted)
        if pointing:
            pointed = pointed + _looked(hidden.attentions[1][:, :, prefix:, shown], patches, wanted)
        said = batch["targets"] != -100
        return self.model.lm_head(last[:, prefix:][said]), batch["targets"][said], pointed

    def _pointed(self, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """How far the first layer is from saying which place a position stands for, where it does."""
        total = states.new_zeros(())
        sizes = (LONGEST, FIELDS * COLUMNS)
        for logits, target in zip(self.pointer(states).split(sizes, -1), wanted.unbind(1), strict=True):
            meant = target > 0
            total = total + functional.cross_entropy(logits[meant], target[meant])
        return total

    def _kept(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """The patches that the decoder is shown: those with ink, then any. They keep their positions."""
        light = functional.avg_pool2d(batch["pixels"].float().mean(1), PATCH).flatten(1)
        ink = (light - light.median(1, keepdim=True).values).abs() > 25
        score = ink.float() + 2 * (batch["labels"][:, 0] > 0) + torch.rand_like(light)
        return score.topk(KEPT, 1).indices.sort(1).values


def _looked(attention: torch.Tensor, patches: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far two heads of the second layer are from looking at the patch that comes next, one at its
    place on the page, one at its place in the field. `attention` is (batch, heads, answer, patches)."""
    total = attention.new_zeros(())
    for head, here, next_ in zip(POINTING_HEADS, patches.unbind(1), wanted.unbind(1), strict=True):
        there = (here[:, None] == next_[..., None]) & (next_[..., None] > 0)
        mass = (attention[:, head] * there).sum(-1)[there.any(-1)]
        total = total - torch.log(mass + 1e-6).mean()
    return total


def _mask(segments: torch.Tensor, start: int, image: int, prefix: int, both_ways: bool) -> torch.Tensor:
    """Who sees whom, (batch, 1, length, length), 0 or a large negative number."""
    batch, own = segments.shape
    length = prefix + own
    seen = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    if both_ways:
        seen[start : start + image, start : start + image] = True
    seen = seen.repeat(batch, 1, 1)
    seen[:, prefix:, prefix:] &= segments[:, :, None] == segments[:, None, :]
    return torch.where(seen, 0.0, -1e9)[:, None]


def make_trainee(_recipe: Recipe, device: str) -> PageReader:
    """What the recipe starts from."""
    return PageReader(device)


def make_batches(recipe: Recipe) -> PageBatches:
    """What it learns from."""
    return PageBatches(recipe.batch, recipe.seed)


def save(trainee: PageReader, folder: Path) -> None:
    """Writes a checkpoint that transformers and vLLM load: bfloat16, with its processor."""
    from safetensors.torch import load_file, save_file
    from transformers import Gemma3ImageProcessor, Gemma3Processor

    words = trainee.tokenizer
    small = copy.deepcopy(trainee.model).to(device="cpu", dtype=torch.bfloat16)
    small.generation_config.do_sample = False
    small.save_pretrained(folder)
    mean = [0.5, 0.5, 0.5]
    images = Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=mean, image_std=mean)
    Gemma3Processor(
        image_processor=images, tokenizer=words, image_seq_length=PATCHES, chat_template=words.chat_template
    ).save_pretrained(folder)
    words.save_pretrained(folder)
    weights = folder / "model.safetensors"
    # transformers 5 leaves out a level that vLLM's loader expects.
    renamed = {
        re.sub(r"vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name): value
        for name, value in load_file(weights).items()
    }
    save_file(renamed, weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # safetensors lets nobody but its owner read it
