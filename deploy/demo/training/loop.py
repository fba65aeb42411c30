"""The loop that both recipes share: rates, a log line now and then, a state on disk to go on from."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from deploy.demo.training.muon import Muon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOG_SECONDS = 30.0
SAVE_SECONDS = 120.0
CLIP = 1.0


@dataclass(frozen=True)
class Recipe:
    """Everything a run follows from.

    Attributes:
        steps: optimiser steps.
        batch: examples a step.
        matrix_rate: Muon's rate, for the matrices inside the layers.
        other_rate: AdamW's rate, for all else.
        warmup: steps over which the rates rise.
        decay: share of the steps, at the end, over which they fall to nothing.
        seed: of weights and data; the data of a step follow from it and the step's number alone.
    """

    steps: int
    batch: int = 32
    matrix_rate: float = 4e-3
    other_rate: float = 2e-3
    warmup: int = 50
    decay: float = 0.5
    seed: int = 0

    def factor(self, step: int) -> float:
        """What the rates are multiplied by at a step."""
        rise = min(1.0, (step + 1) / self.warmup)
        fall = min(1.0, (self.steps - step) / (self.decay * self.steps))
        return rise * fall


class Trainee(Protocol):
    """A model with what surrounds it while it learns."""

    def modules_to_train(self) -> torch.nn.ModuleDict:
        """The model and its auxiliary heads: all that is optimised, saved and restored."""

    def is_matrix(self, name: str, weight: torch.nn.Parameter) -> bool:
        """Whether a weight is for Muon."""

    def loss(self, batch: Any, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a batch, and figures for the log."""


class Batches(Dataset[Any]):
    """Makes the batch of a step from the step's number. Lives in the loader's own process."""

    def __len__(self) -> int:
        raise TypeError("a step's batch is made when it is asked for")


def train(
    trainee: Trainee, batches: Batches, recipe: Recipe, state: Path, device: str = "cpu", workers: int = 1
) -> None:
    """Trains from where `state` left off, or from the start, to the recipe's last step.

    Args:
        trainee: what learns.
        batches: `batches[step]` is a step's data.
        recipe: how.
        state: file of the run's state, written every two minutes and at the end.
        device: of the trainee.
        workers: processes that make batches.
    """
    modules = trainee.modules_to_train()
    named = [(name, weight) for name, weight in modules.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if trainee.is_matrix(name, weight)]
    chosen = {id(weight) for weight in matrices}
    others = [weight for _, weight in named if id(weight) not in chosen]
    optimisers: list[tuple[torch.optim.Optimizer, float]] = [
        (Muon(matrices), recipe.matrix_rate),
        (torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0), recipe.other_rate),
    ]
    start = restore(state, modules, optimisers, device)
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, recipe.steps),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
    )
    log = _Log(recipe)
    saved = time.monotonic()
    for step, batch in enumerate(loader, start):
        for optimiser, rate in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * recipe.factor(step)
        # What chance decides in a step follows from its number, so that a resumed run goes the same way.
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        loss, figures = trainee.loss(_moved(batch, device), step)
        modules.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, CLIP)
        for optimiser, _ in optimisers:
            optimiser.step()
        log.add(step, figures)
        if time.monotonic() - saved > SAVE_SECONDS or step + 1 == recipe.steps:
            _save(state, modules, optimisers, step + 1)
            saved = time.monotonic()


def _save(
    state: Path, modules: torch.nn.Module, optimisers: list[tuple[torch.optim.Optimizer, float]], step: int
) -> None:
    aside = state.with_suffix(".new")
    values = {
        "step": step,
        "modules": modules.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser, _ in optimisers],
    }
    torch.save(values, aside)
    os.replace(aside, state)


def restore(
    state: Path,
    modules: torch.nn.Module,
    optimisers: Sequence[tuple[torch.optim.Optimizer, float]] = (),
    device: str = "cpu",
) -> int:
    """Puts back what `train` saved, and says how many steps that was after; 0 without a state."""
    if not state.is_file():
        return 0
    values = torch.load(state, map_location=device, weights_only=True)
    modules.load_state_dict(values["modules"])
    for (optimiser, _), saved in zip(optimisers, values["optimisers"][: len(optimisers)], strict=True):
        optimiser.load_state_dict(saved)
    step: int = values["step"]
    return step


def _moved(batch: Any, device: str) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: _moved(value, device) for name, value in batch.items()}
    return batch


class _Log:
    """Means of the figures since the last line."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._sums: defaultdict[str, list[float]] = defaultdict(list)
        self._began = self._said = time.monotonic()
        self._steps = 0

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._sums[name].append(value)
        self._steps += 1
        now = time.monotonic()
        if now - self._said < LOG_SECONDS and step + 1 < self._recipe.steps:
            return
        means = " ".join(f"{name} {sum(values) / len(values):.4f}" for name, values in self._sums.items())
        left = (now - self._began) / self._steps * (self._recipe.steps - step - 1) / 60
        print(f"step {step + 1} of {self._recipe.steps}, {left:.0f} min left: {means}", flush=True)
        self._sums.clear()
        self._said = now
