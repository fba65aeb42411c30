"""How the checkpoints are made: what is taught is what the pipeline asks, and a stopped run goes on."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.demo.pages import SIDE, Page, draw_page, make_page
from deploy.demo.training.loop import Batches, Recipe, train
from deploy.demo.training.muon import orthogonal
from deploy.demo.training.page_data import (
    CHARACTERS,
    PATCH,
    PATCHES,
    PageBatches,
    answer,
    frame,
    labels,
    make_subject,
    picture,
    questions,
    tokenizer,
)
from tests.fixtures.runs import GEMMA3


class Line:
    """The smallest thing that learns: a matrix and a bias."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Linear(3, 3)

    def modules_to_train(self) -> torch.nn.ModuleDict:
        return torch.nn.ModuleDict({"model": self.model})

    def is_matrix(self, name: str, weight: torch.nn.Parameter) -> bool:
        return weight.ndim == 2

    def loss(self, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        loss = (self.model(batch["x"]) - batch["x"].flip(1)).square().mean()
        return loss, {"loss": loss.item()}


class Points(Batches):
    """A step's points, from its number."""

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        return {"x": torch.from_numpy(np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32))}


class Stopped(Exception):
    """In place of a power cut."""


class StopsAt(Points):
    """Fails when a step is asked for."""

    def __init__(self, step: int) -> None:
        self._step = step

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        if step == self._step:
            raise Stopped
        return super().__getitem__(step)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(steps=12, batch=8, warmup=2)
    whole, stopped = Line(), Line()
    train(whole, Points(), recipe, tmp_path / "whole.pt", workers=0)
    monkeypatch.setattr("deploy.demo.training.loop.SAVE_SECONDS", -1.0)
    with pytest.raises(Stopped):
        train(stopped, StopsAt(7), recipe, tmp_path / "stopped.pt", workers=0)
    resumed = Line()
    train(resumed, Points(), recipe, tmp_path / "stopped.pt", workers=0)
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert torch.equal(resumed.model.bias, whole.model.bias)


def test_it_learns(tmp_path: Path) -> None:
    line = Line()
    before, _ = line.loss(Points()[0], 0)
    train(line, Points(), Recipe(steps=200, matrix_rate=0.05, other_rate=0.02), tmp_path / "s.pt", workers=0)
    after, _ = line.loss(Points()[0], 0)
    assert after < before / 10


def test_updates_are_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    for matrix in orthogonal(torch.randn(4, 8, 32)):
        values = torch.linalg.svdvals(matrix)
        assert 0.5 < values.min() and values.max() < 1.5


@pytest.mark.parametrize("seed", range(5))
def test_labels_lie_where_the_ink_is(seed: int) -> None:
    page = make_page(random.Random(seed), "invoice", white=True)
    grey = np.asarray(draw_page(page, 1).convert("L"))
    found = labels(page)
    text = page.text
    for patch in range(PATCHES):
        if found[0, patch]:
            assert CHARACTERS[found[0, patch]] == text[found[1, patch] - 1]
    # Row and column of each glyph's patch: around its middle there is ink of the line it belongs to.
    rows, columns = np.divmod(np.flatnonzero(found[0]), SIDE // PATCH)
    for row, column in zip(rows, columns, strict=True):
        top, left = max(0, row * PATCH - 6), max(0, column * PATCH - 6)
        assert grey[top : top + PATCH + 12, left : left + PATCH + 12].min() < 128
    assert (found[0] > 0).sum() == len(text.replace(" ", "").replace("\n", ""))


def test_every_answer_survives_its_tokens() -> None:
    words = tokenizer()
    rng = random.Random("tokens")
    for _ in range(50):
        truth = make_subject(rng).truth()
        for task in questions():
            ids = words.encode(answer(task, truth), add_special_tokens=False)
            assert words.decode(ids) == answer(task, truth)


def test_the_prompt_that_is_taught_is_the_one_the_processor_makes() -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(GEMMA3)
    words = tokenizer()
    rng = random.Random("prompt")
    subject = make_subject(rng)
    for question in questions().values():
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        ).removeprefix(words.bos_token)
        shown = processor(text=[text], images=[[picture(subject, rng)]])["input_ids"][0]
        before, behind = frame(words)
        image = words.convert_tokens_to_ids("<image_soft_token>")
        asked = words.encode(question + "<end_of_turn>\n<start_of_turn>model\n", add_special_tokens=False)
        assert list(shown) == before + [image] * PATCHES + behind + asked


def test_a_batch_follows_from_its_step_alone() -> None:
    one, other, next_ = PageBatches(2, 0)[3], PageBatches(2, 0)[3], PageBatches(2, 0)[4]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["pixels"], next_["pixels"])


def test_pictures_come_in_the_size_that_the_tower_sees() -> None:
    rng = random.Random(1)
    for _ in range(10):
        subject = make_subject(rng)
        shown = picture(subject, rng)
        assert shown.size == (SIDE, SIDE) and shown.mode == "RGB"
        buffer = io.BytesIO()
        shown.save(buffer, "JPEG")
        assert isinstance(subject, Page) or subject.truth()["ocr"] == ""
