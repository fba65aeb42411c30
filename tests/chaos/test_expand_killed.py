"""Documents that crash, hang and bloat the parser's process: each costs itself, and nothing beside it."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from deploy.demo.objectstore import ObjectStore
from tests.chaos.compare import Bucket, Output, assert_same, read_output
from tests.chaos.lake import job_file
from tests.chaos.nasty import bloated_png, endless_pdf
from tests.chaos.process import Run, assert_gone, gone, started

PREFIX = "chaos/planted"
LIMITS = {"expand_seconds": 12, "expand_bytes": 256 * 1024 * 1024}
DEATHS = 2
"""A part that takes the parser down is tried again alone, and then it is an error."""
AT_WORK_SECONDS = 0.3
"""Of the parser over a document until it is past opening it, which takes a millisecond."""


def crasher(run: Run, content: bytes) -> Callable[[], bool]:
    """Segfaults the parser, by its own pid, whenever it is at work on a document of that content; to be
    asked again and again, and true once that has happened to it often enough.

    No code of the product knows of it: the parser has the document open, and the document is never done.
    """
    met: dict[psutil.Process, float] = {}
    killed: set[psutil.Process] = set()

    def strike() -> bool:
        for parser in [member for member in run.family() if member not in killed and _holds(member, content)]:
            if time.monotonic() - met.setdefault(parser, time.monotonic()) > AT_WORK_SECONDS:
                parser.send_signal(signal.SIGSEGV)
                killed.add(parser)
        return len(killed) >= DEATHS

    return strike


def _holds(process: psutil.Process, content: bytes) -> bool:
    """Whether a process is a parser that has a file of that content open."""
    try:
        return "workers.guard" in " ".join(process.cmdline()) and any(
            Path(file.path).read_bytes() == content for file in process.open_files()
        )
    except (psutil.Error, OSError):
        return False


def test_what_kills_its_parser_is_quarantined(
    object_store: ObjectStore, source: str, quiet: Output, tmp_path: Path
) -> None:
    crash = endless_pdf("after the crash")
    planted = {"crash.pdf": crash, "hang.pdf": endless_pdf("after the hang"), "bloat.png": bloated_png()}
    client = object_store.client()
    for name, content in planted.items():
        client.put_object(Bucket=object_store.bucket, Key=f"{PREFIX}/{name}", Body=content)
    url = object_store.url(PREFIX)
    place = Bucket(object_store, "chaos/parser")
    # Before the lake, so that everything else comes after them, or with them.
    job = job_file(tmp_path, source, place.url, input=[url, source], limits=LIMITS)
    with started(job, object_store.environment()) as run:
        assert run.until(crasher(run, crash)), f"the parser was never met at work:\n{run.said}"
        family = run.family()
        assert run.wait() == 0, run.said
    output = read_output(place)
    failed = {
        (f"{url}/crash.pdf", 0, None, "parser_crash"),
        (f"{url}/hang.pdf", 0, None, "parser_timeout"),
        (f"{url}/bloat.png", 0, None, "limit"),
    }
    errors = {error for error in output.errors if error[0].startswith(url)}
    assert {error for error in errors if error[2] is None} == failed, run.said
    beside = output.keys - quiet.keys
    # The other page of both was asked about; the engine may have refused to answer, as it does elsewhere.
    asked = [(index, task) for _, _, index, _, task in beside]
    asked += [(index, task) for _, index, task, kind in errors if kind == "request_refused"]
    assert Counter(asked) == {(1, "ocr"): 2, (1, "caption"): 2}, run.said
    rest = replace(
        output,
        keys=output.keys - beside,
        texts={key: text for key, text in output.texts.items() if key not in beside},
        errors=output.errors - errors,
        documents=Counter({row: n for row, n in output.documents.items() if not row[0].startswith(url)}),
    )
    assert_same(rest, quiet, run.said)
    assert_gone([member for member in family if not gone(member)])
