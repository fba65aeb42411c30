"""The demo: `python -m deploy.demo`, which is what `make demo` runs once the environment is there.

Starts a real S3 server, uploads the example documents, runs the main job from s3:// to s3:// on the
real vLLM, and leaves a copy of everything it wrote in demo-output/.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.demo.documents import EXAMPLES, read_truth
from deploy.demo.evaluate import console, findings, show
from deploy.demo.objectstore import ObjectStore, ObjectStoreError, object_store

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
JOB = Path(__file__).with_name("job.yaml")
OUTPUT = ROOT / "demo-output"
INPUT_PREFIX = "examples/"
OUTPUT_PREFIX = "out/"

# The demo is the same on every machine: it takes nobody's cluster, keys, profile or proxy.
_NOT_INHERITED = ("AWS_", "RAY_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def main(arguments: list[str] | None = None) -> int:
    """Command line: runs the demo and ends with the job's exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the copy of the output goes")
    options = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with _timed("object store") as starting, object_store() as store:
            starting.done(store.endpoint)
            with _timed("upload") as uploading:
                uploading.done(f"{upload(store)} documents to {store.url(INPUT_PREFIX)}")
            with _timed("job"):
                status = run_job(store)
            with _timed("copy of the output") as copying:
                files = download(store, options.output)
                copying.done(f"{files} files")
    except ObjectStoreError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if files:
        show(findings(options.output, read_truth(), store.url(INPUT_PREFIX)), console())
        tell(options.output)
    if status:
        print(f"demo: the job ended with exit code {status}", file=sys.stderr)
    return status


def upload(store: ObjectStore, folder: Path = EXAMPLES, prefix: str = INPUT_PREFIX) -> int:
    """Puts a folder's documents into the store and says how many; truth.json stays behind."""
    client = store.client()
    names = sorted(read_truth(folder))
    for name in names:
        client.put_object(Bucket=store.bucket, Key=prefix + name, Body=(folder / name).read_bytes())
    return len(names)


def run_job(store: ObjectStore) -> int:
    """Runs `gemstream run` on the store, as anybody would on their own bucket, and gives its exit code."""
    command = [
        "gemstream",
        "run",
        str(JOB.relative_to(ROOT)),
        "--input",
        store.url(INPUT_PREFIX),
        "--output",
        store.url(OUTPUT_PREFIX),
    ]
    print(f"$ {shlex.join(command)}", flush=True)
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(_NOT_INHERITED) and key.upper() not in _PROXIES
    }
    program = Path(sys.executable).with_name("gemstream")
    return subprocess.run(
        [str(program), *command[1:]], cwd=ROOT, env=inherited | store.environment(), check=False
    ).returncode


def download(store: ObjectStore, folder: Path) -> int:
    """Copies everything the job wrote into a folder, which then holds that and nothing else.

    The copy is made aside and takes the old folder's place at the end, so that a stopped demo leaves
    the last one's output whole.

    Returns:
        How many files there are; with none, the folder is left as it is.
    """
    client = store.client()
    listing = client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=OUTPUT_PREFIX)
    files = 0
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        aside = Path(name) / "new"
        aside.mkdir()
        for page in listing:
            for entry in page.get("Contents", ()):
                target = aside / entry["Key"].removeprefix(OUTPUT_PREFIX)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(client.get_object(Bucket=store.bucket, Key=entry["Key"])["Body"], file)
                files += 1
        if files:
            if folder.exists():
                folder.rename(Path(name) / "old")
            aside.rename(folder)
    return files


def tell(folder: Path) -> None:
    """Says where things are, and what the demo does not show."""
    shown = os.path.relpath(folder)
    print(f"\nEverything is in {shown}/:")
    for path, what in (
        ("records", "one row per answer, a folder per task"),
        ("documents", "one row per document: its text, and what is missing of it"),
        ("errors", "one row per failure: two of the examples are broken on purpose"),
        ("_runs", "the job as it ran, its counts, its report and its page"),
    ):
        count = sum(1 for file in (folder / path).rglob("*") if file.is_file())
        print(f"  {path + '/':10} {count:3} files: {what}")
    for page in sorted(folder.glob("_runs/*/report.html")):
        print(f"To be looked at in a browser: {os.path.relpath(page)}")
    print(
        f"What each example holds is in {os.path.relpath(EXAMPLES)}/truth.json.\n"
        "The models are small checkpoints that read the pages and hear the digits of this demo's own\n"
        "generator, and nothing else. All besides is what runs in earnest."
    )


class _Step:
    """One step of the demo, which may say how it went before its block ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.started = time.monotonic()
        self.said = False

    def done(self, result: Any = "") -> None:
        """Prints the step's time and result, once."""
        if not self.said:
            self.said = True
            took = time.monotonic() - self.started
            print(f"[{took:6.1f} s] {self.name}{f': {result}' if result else ''}", flush=True)


@contextmanager
def _timed(name: str) -> Iterator[_Step]:
    step = _Step(name)
    yield step
    step.done()


if __name__ == "__main__":
    sys.exit(main())
