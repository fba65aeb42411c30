"""Trains the demo's checkpoints: `make checkpoints`, or `python -m deploy.demo.training NAME`.

A run that was stopped goes on from its state, which is written every two minutes; without one it
starts from nothing. The same recipe on the same machine gives the same weights; on another one the
figures differ by the margin that the model cards state.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from deploy.demo.training import gemma3, gemma3n
from deploy.demo.training.loop import restore, train

if TYPE_CHECKING:
    from types import ModuleType

RECIPES: dict[str, ModuleType] = {"gemma3-demo": gemma3, "gemma3n-demo": gemma3n}
"""Name of a checkpoint -> its RECIPE, make_trainee, make_batches and save."""
CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
STATES = Path("build/training")


def main(arguments: list[str] | None = None) -> int:
    """Command line: trains to the recipe's last step, then writes the checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.training", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *RECIPES], help="all of them if none is named")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on a CPU")
    parser.add_argument("--state", type=Path, default=STATES, help="folder of the runs' states")
    parser.add_argument("--out", type=Path, default=CHECKPOINTS, help="folder of the checkpoints")
    parser.add_argument("--export", action="store_true", help="train no further: write what the state holds")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.state.mkdir(parents=True, exist_ok=True)
    for name in options.names or RECIPES:
        recipe = RECIPES[name].RECIPE
        print(f"{name}: {recipe}", flush=True)
        torch.manual_seed(recipe.seed)
        trainee = RECIPES[name].make_trainee(recipe, options.device)
        state = options.state / f"{name}.pt"
        if options.export:
            print(f"{name}: step {restore(state, trainee.modules_to_train(), device=options.device)}")
        else:
            train(trainee, RECIPES[name].make_batches(recipe), recipe, state, options.device)
        RECIPES[name].save(trainee, options.out / name)
        print(f"{name}: written to {options.out / name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
