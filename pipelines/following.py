"""What a submitted job says: as it says it, and the report at its end."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pipelines.arrive import BEGUN
from pipelines.report import RunReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.jobserver import JobServer

QUIET_SECONDS = 15.0
"""After so long without a word it is asked whether the job, and its cluster, are still there: a connection
that is dead is as quiet. A run says something every ten seconds or so while it gets on."""
AGAIN_SECONDS = 1.0


def follow(server: JobServer, submission: str, say: Callable[[str], None]) -> None:
    """Hand on what a job says until it ends. A connection that breaks is made again, and goes on from there.

    Raises:
        ClusterUnavailable: the cluster has not answered for a minute.
    """
    said = 0

    def hear(text: str, begins: int) -> None:
        nonlocal said
        fresh = text[max(0, said - begins) :]
        said = max(said, begins + len(text))
        if fresh:
            say(fresh)

    while True:
        asyncio.run(_read(server, submission, hear))
        if server.patient()(server.details, submission).status.is_terminal():
            hear(server.patient()(server.get_job_logs, submission), 0)
            return
        time.sleep(AGAIN_SECONDS)


async def _read(server: JobServer, submission: str, hear: Callable[[str, int], None]) -> None:
    """One connection, from the log's first word on, until it ends or the job has."""
    import aiohttp

    begins = 0
    async with aclosing(server.tail_job_logs(submission)) as tail:
        while True:
            word = asyncio.ensure_future(anext(tail))
            while not (await asyncio.wait({word}, timeout=QUIET_SECONDS))[0]:
                details = await asyncio.to_thread(server.patient(), server.details, submission)
                if details.status.is_terminal():
                    word.cancel()
                    await asyncio.wait({word})
                    return
            try:
                text = word.result()
            except (StopAsyncIteration, RuntimeError, OSError, aiohttp.ClientError):
                return  # whether the job has ended is known from elsewhere
            hear(text, begins)
            begins += len(text)


def last_word(log: str) -> str:
    """The message that a run ended with, of one line or more; empty where it was not asked, or had none."""
    before, begun, after = log.partition(BEGUN)
    _, found, message = f"\n{after if begun else before}".rpartition("\ngemstream: ")
    return (found + message).strip() if found else ""


def report_in(log: str) -> RunReport | None:
    """The report that a submitted run prints at its end; None where it did not come to that."""
    begins = log.rfind("\n{\n")
    if begins < 0:
        return None
    try:
        values, _ = json.JSONDecoder().raw_decode(log, begins + 1)
        return RunReport.model_validate(values)
    except (ValueError, ValidationError):
        return None
