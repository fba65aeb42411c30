"""What Gemma 4's class in vLLM 0.32 takes for granted and a CPU has not got."""

from __future__ import annotations

from typing import Any

import psutil
import torch
from vllm.model_executor.layers import utils

from workers.vllm_models.once import Once


class OnCpu(Once):
    """A `worker_extension_cls` as `Once` is, where one is all that vLLM takes.

    The class sizes its batches of pictures by `torch.accelerator.get_memory_info`, which raises where there
    is no accelerator (vLLM's CPU worker makes no-ops of others itself), and its audio tower hands transposed
    tensors to products whose CPU kernels refuse them.
    """


def _memory(device: Any = None) -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _product(layer: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
    return layer.cpu_linear(x.contiguous(), weight, bias)


if not torch.accelerator.is_available():
    torch.accelerator.get_memory_info = _memory
    utils.cpu_unquantized_gemm = _product
