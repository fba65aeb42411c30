"""LoRA adapters on an engine's machine: their files, and what vLLM is told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import EngineUnavailable
from schemas.models.adapter import CONFIG, WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.models.adapter import Adapter

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks that vLLM can be told to make room for."""


def local_adapters(adapters: Mapping[str, Adapter]) -> dict[str, Path]:
    """The folder of each adapter, by its name; those of the hub are fetched.

    Of the hub nothing but the configuration and safetensors is fetched, so there is nothing to unpickle.

    Raises:
        OSError: the hub does not have it, or does not answer.
        ValueError: no id that the hub could have.
    """
    return {name: _local(adapter) for name, adapter in adapters.items()}


def _local(adapter: Adapter) -> Path:
    folder = Path(adapter.source)
    if folder.is_absolute():
        return folder
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(adapter.source, revision=adapter.revision, allow_patterns=[CONFIG, WEIGHTS])
    )


def lora_arguments(folders: Mapping[str, Path], gpus: float) -> dict[str, Any]:
    """vLLM's engine arguments for these adapters, all of them loaded side by side; none for none.

    Args:
        folders: of each adapter, by its name.
        gpus: GPUs of the engine.

    Raises:
        EngineUnavailable: one has no rank, or a rank that vLLM has no room for.
    """
    if not folders:
        return {}
    most = max(_rank(name, folder) for name, folder in folders.items())
    room = next((rank for rank in RANKS if rank >= most), None)
    if room is None:
        raise EngineUnavailable(f"an adapter of rank {most}: vLLM takes {RANKS[-1]} at most")
    # vLLM's kernels for CPUs read "no adapter", which is slot -1, as the last slot: it has to stay empty, or
    # every request is answered through the adapter that lies there.
    slots = len(folders) + (not gpus)
    return {"enable_lora": True, "max_loras": slots, "max_lora_rank": room}


def _rank(name: str, folder: Path) -> int:
    rank = json.loads((folder / CONFIG).read_text()).get("r")
    if not isinstance(rank, int) or rank < 1:
        raise EngineUnavailable(f"adapter {name!r}: {CONFIG} says no rank (r): it is no LoRA adapter")
    return rank
