"""Muon in float32: orthogonalised momentum for the matrices of a transformer (Jordan et al., 2024).

torch.optim.Muon orthogonalises in bfloat16, for which a CPU without such instructions takes ten
times as long (0.63 s a step against 0.06 s for the same matrices), so the demo's own recipe, which
has to run on a laptop, carries these lines instead. The coefficients are the published ones.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
RMS = 0.2
"""Root mean square of an update per unit of rate: AdamW's, so that one rate suits both."""


class Muon(torch.optim.Optimizer):
    """Matrices of one shape are orthogonalised together, as one batched product.

    Args:
        params: matrices only.
        lr: rate; also the unit of the weight decay.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 2e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update from the gradients that are there."""
        for group in self.param_groups:
            wide: defaultdict[tuple[int, int], list[tuple[torch.nn.Parameter, torch.Tensor]]] = defaultdict(
                list
            )
            for weight in group["params"]:
                if weight.grad is not None:
                    update = self._nesterov(weight, group["momentum"])
                    update = update.T if weight.shape[0] > weight.shape[1] else update
                    wide[update.shape[0], update.shape[1]].append((weight, update))
            for (rows, columns), members in wide.items():
                updates = orthogonal(torch.stack([update for _, update in members]))
                scale = RMS * max(rows, columns) ** 0.5 * group["lr"]
                for (weight, _), update in zip(members, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    turned = update.T if weight.shape[0] > weight.shape[1] else update
                    weight.add_(turned, alpha=-scale)

    def _nesterov(self, weight: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        gradient: torch.Tensor = weight.grad
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest thing to an orthogonal matrix for each of `matrices` (batch, rows <= columns)."""
    first, second, third = QUINTIC
    matrices = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = matrices @ matrices.mT
        matrices = first * matrices + (second * square + third * (square @ square)) @ matrices
    return matrices
