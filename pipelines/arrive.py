"""What a submitted job does first, on the cluster: sees that it came to the right place, then runs.

`gemstream submit` sends this file beside the job, so that it is the client's own: only the standard library
is certain to be there until it has looked.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("pipelines", "schemas", "workers")
SENT = "sent.json"
JOB = "job.yaml"
BEGUN = "gemstream: this cluster has what the job needs"
"""The line from which on a submission has begun; whoever sent it waits for it."""
BAD_JOB = 2
"""Exit code: nothing was started."""


def main() -> None:
    """Look, and run `gemstream run` in this process: a signal to the job is one to the run."""
    here = Path(__file__).resolve().parent
    sent = json.loads((here / SENT).read_text())
    fault = _misplaced(sent) or _unlike(sent) or _lacking(sent)
    if fault:
        print(f"gemstream: {fault}; nothing was started", file=sys.stderr)
        sys.exit(BAD_JOB)
    for line in _notes(sent):
        print(f"gemstream: {line}", file=sys.stderr)
    print(BEGUN, file=sys.stderr)
    # Ray's core prints advice about its own actors as errors, in this process; what is fatal still shows.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    from pipelines import cli

    flags = [str(here / flag[1:]) if flag.startswith("@") else flag for flag in sent["flags"]]
    sys.argv = ["gemstream", "run", str(here / JOB), "--json", *flags]
    cli.main()


def versions() -> dict[str, str | None]:
    """Of what has to be the same at both ends, without importing any of it."""
    return {name: _version(name) for name in ("gemstream", "ray")}


def python() -> str:
    """As packages tell it apart."""
    return ".".join(platform.python_version_tuple()[:2])


def code_of(root: Path) -> str:
    """The program's own files below a folder, as one hash."""
    found = hashlib.sha256()
    for path in code_files(root):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def code_files(root: Path) -> list[Path]:
    """The program's own files below a folder: its packages, without what Python compiles beside them."""
    return sorted(
        path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    )


def machine() -> str:
    """Tells machines apart, and containers of one machine, whose paths mean different things."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{boot.read_text().strip() if boot.is_file() else ''}/{platform.node()}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _misplaced(sent: dict[str, Any]) -> str:
    paths = sent["paths"]
    if not paths or sent["machine"] == machine():
        return ""
    return (
        f"{paths[0]} is a path on the machine that sent this job, and {platform.node()} is another; name an "
        "s3:// address or a hub's id, or submit with --cluster-paths where every node has that path"
    )


def _unlike(sent: dict[str, Any]) -> str:
    """What of the program is missing here, or is another than the client's."""
    theirs, ours = sent["versions"], versions()
    if theirs["ray"] != ours["ray"]:
        return f"it was sent by Ray {theirs['ray']}, and this cluster runs {ours['ray']}; install one of them"
    if sent["code"] == "local":
        lacking = [name for name in sent["needs"] if _version(name) is None]
        names = ", ".join(lacking[:5]) + (" and more" if len(lacking) > 5 else "")
        return f"this cluster's image lacks {names}, which gemstream needs" if lacking else ""
    if ours["gemstream"] is None:
        return (
            "this cluster's image has no gemstream; build one with deploy/Dockerfile, or, if it has "
            "gemstream's dependencies, submit with --code local"
        )
    if theirs["gemstream"] != ours["gemstream"]:
        return (
            f"it was sent by gemstream {theirs['gemstream']}, and this cluster's image has "
            f"{ours['gemstream']}; install that one where you submit, or submit with --code local"
        )
    return ""


def _lacking(sent: dict[str, Any]) -> str:
    missing = [name for name in sent["secrets"] if not os.environ.get(name)]
    if not missing:
        return ""
    return (
        f"{', '.join(missing)} is not set on {platform.node()}; put it into the environment of the cluster's "
        "nodes (in Kubernetes from a Secret), since values never travel with a job"
    )


def _notes(sent: dict[str, Any]) -> list[str]:
    notes = []
    if sent["python"] != python():
        # Between the two nothing travels but text.
        notes.append(f"Python {python()} here, {sent['python']} where it was sent")
    if sent["code"] == "image":
        from importlib.util import find_spec

        spec = find_spec("pipelines")
        root = Path(spec.origin).parents[1] if spec and spec.origin else Path()
        if code_of(root) != sent["digest"]:
            notes.append(
                "the image's code is not the sender's, though of the same version; --code local sends that"
            )
    return notes


if __name__ == "__main__":
    main()
