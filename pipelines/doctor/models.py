"""Weights: folders that hold what vLLM loads, and ids of the hub that are in the cache or may be fetched."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.doctor import failed, ok, size, warning
from schemas.errors import JobError
from schemas.models import AUTO, find_model
from schemas.models.adapter import CONFIG, WEIGHTS, find_adapter
from schemas.models.cards import BY_ID, WIDTHS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.doctor import Finding, Findings, Patient

INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
EVERYWHERE = "; seen from here, and every node with an engine needs it"


def models(patient: Patient) -> Findings:
    """Every model and adapter that the job names."""
    if not patient.hosts_model:
        yield ok("weights", f"the engine {patient.job.engine.kind} loads none")
        return
    if not patient.models:
        yield ok("weights", "no task and no model was named")
        return
    elsewhere = EVERYWHERE if patient.address else ""
    for pool, source in patient.models.items():
        for finding in _model(f"models.{pool}", source):
            yield finding.model_copy(update={"told": finding.told + elsewhere})
    for name, source in patient.job.models.adapters.items():
        yield _adapter(f"models.adapters.{name}", source)


def _model(subject: str, source: str) -> Iterator[Finding]:
    if source == AUTO:
        told = "it is chosen by the memory of the GPU when a run starts"
        yield ok(subject, f"{told}; `gemstream plan` says which, and then name it here")
        return
    try:
        model = find_model(source)
    except (JobError, ValueError, KeyError, OSError) as error:
        told, todo = _split(error)
        yield failed(
            subject, told, todo or "name a folder with a config.json and safetensors, or an id of the hub"
        )
        return
    if model.is_folder:
        faults = list(folder_faults(Path(model.source)))
        yield from (failed(subject, told, todo) for told, todo in faults)
        if not faults:
            yield ok(subject, f"{source}: {_weight(Path(model.source))} of weights")
    else:
        yield _of_hub(subject, source, model.revision)


def _split(error: Exception) -> tuple[str, str]:
    if isinstance(error, JobError):
        told, _, todo = error.message.partition(", did you mean ")
        return told, f"did you mean {todo}" if todo else ""
    return f"its config.json does not hold ({type(error).__name__}: {error})", ""


def folder_faults(folder: Path) -> Iterator[tuple[str, str]]:
    """What keeps vLLM from loading a folder's weights, and what to do about each."""
    weights = sorted(folder.glob("*.safetensors"))
    again = "copy the folder again, whole (git lfs pull, where it is a clone)"
    if not weights:
        if pickles := [path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))]:
            told = f"{folder} holds pickles ({pickles[0]}), which can run anything when they are loaded"
            yield told, "convert them to safetensors: save_pretrained of transformers writes them"
        else:
            yield f"{folder} holds no *.safetensors", again
        return
    if missing := [name for name in _indexed(folder) if not (folder / name).is_file()]:
        yield f"{folder} lacks {len(missing)} of its files, {missing[0]} for one", again
    for path in weights:
        if fault := _header_fault(path):
            yield f"{path} is not whole ({fault})", again
    if not any((folder / name).is_file() for name in TOKENIZERS):
        yield (
            f"{folder} holds no {' and no '.join(TOKENIZERS)}",
            "save the model's tokenizer beside its weights",
        )


def _indexed(folder: Path) -> list[str]:
    index = folder / INDEX
    if not index.is_file():
        return []
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, OSError):
        return [INDEX + " that can be read"]


def _header_fault(path: Path) -> str:
    """Empty if its header fits its length: a copy that broke off and a pointer of git-lfs do not."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:  # comes with vLLM, whose absence is told
        return ""
    try:
        with safe_open(path, framework="numpy"):
            return ""
    except (SafetensorError, OSError) as error:
        return str(error)[:100]


def _weight(folder: Path) -> str:
    return size(sum(path.stat().st_size for path in folder.glob("*.safetensors")))


def _of_hub(subject: str, source: str, revision: str, config: str = "config.json") -> Finding:
    """An id of the hub: whole in the cache, or there for the token that is here."""
    try:
        from huggingface_hub import constants, get_token, try_to_load_from_cache
    except ImportError:
        todo = "pip install 'gemstream[gpu]', which brings huggingface_hub"
        return failed(subject, f"{source}: nothing here can fetch from the hub", todo)
    cached = try_to_load_from_cache(source, config, revision=revision)
    if isinstance(cached, str):
        folder = Path(cached).parent
        faults = [] if config == CONFIG else list(folder_faults(folder))
        if not faults:
            return ok(subject, f"{source} is in the cache, {_weight(folder)}")
    fetch = f"where there is a network: hf download {source}; or mount a cache that has it (HF_HOME)"
    if constants.HF_HUB_OFFLINE:
        told = f"{source} is not whole in the cache, and HF_HUB_OFFLINE keeps the hub from being asked"
        return failed(subject, told, f"unset it, or {fetch}")
    fault = _barred(source, get_token() is not None)
    if fault is not None:
        return failed(subject, fault[0], fault[1] or fetch)
    need, place = _bytes(source), Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free
    told = f"{source} may be fetched, {size(need) if need else 'some GB'}; {size(free)} free at {place}"
    if need > free:
        return failed(subject, told, "make room, or set HF_HOME to a larger disk")
    return warning(
        subject,
        told,
        f"every machine fetches it once, while its GPU waits; before that: hf download {source}",
    )


def _barred(source: str, has_token: bool) -> tuple[str, str] | None:
    """Why the hub does not give it, and what to do; None if it does."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    site = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    token = "the token here may not" if has_token else "no token is here"
    try:
        HfApi(endpoint=site).auth_check(source)
    except GatedRepoError:
        todo = f"accept its terms at {site}/{source}, and set HF_TOKEN to a token of that account"
        return f"{source} is gated, and {token}", todo
    except RepositoryNotFoundError:
        return f"the hub shows no {source}, or {token}", "check the id; of a private one set HF_TOKEN"
    except HfHubHTTPError as error:
        status = error.response.status_code
        todo = "set HF_TOKEN again: it has expired or was revoked" if status in (401, 403) else ""
        return f"the hub answers {status} about {source}", todo
    except (httpx2.HTTPError, OSError) as error:
        return f"the hub is not reached ({type(error).__name__}), and {source} is not in the cache", ""
    return None


def _bytes(source: str) -> float:
    """Of the weights, by the table; 0 where it does not say."""
    card = BY_ID.get(source)
    if card is None:
        return 0.0
    width = next(width for width in WIDTHS if card.weights[width] == source)
    return (card.gigabytes[width] or 0.0) * 1e9


def _adapter(subject: str, source: str) -> Finding:
    try:
        adapter = find_adapter(subject.rpartition(".")[2], source)
    except JobError as error:
        told, _, todo = error.message.partition("; ")
        return failed(subject, told, todo or "name a folder as PEFT saves it, or an id of the hub")
    folder = Path(adapter.source)
    if not folder.is_absolute():
        return _of_hub(subject, source, adapter.revision, CONFIG)
    if fault := _header_fault(folder / WEIGHTS):
        return failed(subject, f"{folder / WEIGHTS} is not whole ({fault})", "copy it again")
    return ok(subject, f"{source}: {_weight(folder)}")
