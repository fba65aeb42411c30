"""The same job in Daft. It asks a server, and so do we then: vLLM's own, with our engine's arguments."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import inputs
from tests.benchmarks.answering import ENGINE, _lane
from tests.benchmarks.contenders import text_job
from tests.benchmarks.contest import LONG, Contest, Turns, Work
from tests.benchmarks.portions import run_portions
from tests.fixtures.runs import GEMMA3

KEY = "GEMSTREAM_BENCH_SERVER"
DAFT = Path(sys.prefix) / "bench"
"""Where `make bench` puts it, and the client that it asks with: beside the environment, whose pyarrow and
tqdm it would turn back, and whose own client is of a later line."""


@contextmanager
def server(folder: Path) -> Iterator[None]:
    """vLLM's own server for both sides. Without its caches, which would know the second side's pictures."""
    from deploy.demo.ports import free_ports
    from schemas.models import find_model
    from tests.fixtures.served import flags, wait
    from workers.engines import EngineConfig
    from workers.engines.openai import OpenAIEngine
    from workers.engines.vllm import VllmEngine

    (port,) = free_ports(1)
    config = EngineConfig(find_model(str(GEMMA3)), **ENGINE, options={"mm_processor_cache_gb": 0})
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
    command += ["--port", str(port), *flags(VllmEngine(config).arguments())]
    command += ["--no-enable-prefix-caching"]
    url = f"http://127.0.0.1:{port}/v1"
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **VllmEngine.environment(0)}
        )
        try:
            wait(process, OpenAIEngine(EngineConfig(config.model, **ENGINE, options={"base_url": url})), log)
            os.environ[KEY] = url
            yield
        finally:
            process.terminate()
            process.wait(60)


def asking(folder: Path, turns: Turns) -> None:
    """Ours, on that server."""
    options = {"base_url": os.environ[KEY], "model": str(GEMMA3)}
    run_portions(text_job(folder, kind="openai", options=options), folder, turns)


def daft(folder: Path, turns: Turns) -> None:
    """Daft's own functions, on that server. Each portion in a process of its own, whose start is not counted:
    the third query of one process waits for answers that its client has, without end (0.7.26)."""
    (ask,) = _lane(text_job(folder)).asks
    (question,) = set(ask.questions.values())
    spawning = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawning, max_tasks_per_child=1) as processes:
        for portion in turns:
            out = folder / portion.parent.name / portion.name
            done = processes.submit(_asked_by_daft, portion, out, question, ask.max_tokens)
            count, seconds = done.result()
            turns.answered(count, seconds, 0)


def _asked_by_daft(portion: Path, out: Path, question: str, max_tokens: int) -> tuple[int, float]:
    sys.path.insert(0, str(DAFT))
    import daft as library
    from daft.ai.openai.provider import OpenAIProvider
    from daft.functions import download, prompt

    provider = OpenAIProvider(base_url=os.environ[KEY], api_key="none")
    began = time.perf_counter()
    rows = library.from_glob_path(f"{portion}/*")
    rows = rows.with_column("image", download(library.col("path")))
    rows = rows.with_column(
        "text",
        prompt(
            [library.col("image"), library.lit(question)],
            provider=provider,
            model=str(GEMMA3),
            use_chat_completions=True,
            temperature=0.0,
            max_tokens=max_tokens,
        ),
    )
    written = rows.select("path", "text").write_parquet(str(out)).to_pydict()
    seconds = time.perf_counter() - began
    assert written
    return len(library.read_parquet(f"{out}/*.parquet").to_pydict()["text"]), seconds


def installed() -> str | None:
    """What is missing for Daft."""
    if (DAFT / "daft").is_dir():
        return None
    return f"Daft is not there: pip install --no-deps --target {DAFT} -r tests/benchmarks/daft.lock"


PAIRS = {
    contest.name: contest
    for contest in (
        Contest(
            "daft",
            "asking",
            "daft",
            "Daft",
            (
                Work(
                    "daft",
                    "text of pictures of 384 px, against the same job in Daft (download, prompt); both ask "
                    "one local vLLM server, warm and without its caches",
                    "image",
                    1.1,
                    LONG,
                    inputs.pictures,
                    LONG,
                    turns=2,
                ),
            ),
            shared="server",
            needs="installed",
        ),
    )
}
