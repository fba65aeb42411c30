"""What goes to a cluster with a job: the job itself, whole and without a secret, and at most this program."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import yaml

from pipelines import arrive
from pipelines.located import addresses, located
from schemas.errors import JobError
from schemas.job import JobSpec, make_job
from schemas.secrets import masked
from workers.storage.factory import normalise, scheme

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Code = Literal["image", "local"]

SENT_BYTES = 50 * 1024 * 1024
"""Ray keeps what is sent in the memory of the head's GCS, and takes 500 MiB. The program is 1 MB."""
ROOT = Path(arrive.__file__).parents[1]
"""Where this program's packages are: a checkout, or an environment's site-packages among many others."""
ENTRY = "gemstream_job.py"
END_SECONDS = 40
"""Beside `limits.drain_seconds`: to publish what was answered, and to give back the lease. A store that is
away meanwhile is waited for by `storage.outage_seconds`, 45 at first, of which most are then over."""
STOP_VARIABLE = "RAY_JOB_STOP_WAIT_TIME_S"
"""Read by the very process that ends a job's driver, which has the job's runtime environment; so a job brings
its own time to drain to a cluster that was never told of it. Ray's own is 3 s, and then SIGKILL."""
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

KEYED = re.compile(r"(^|_)(key|token|secret|password|passwords|authorization|credentials?)$", re.IGNORECASE)
"""Names of settings whose value would be a secret. One that ends with `_env` names where it is."""
LOOKS_SECRET = re.compile(
    r"\b((AKIA|ASIA)[0-9A-Z]{16}|hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{36,})\b"
)


@dataclass(frozen=True)
class Parcel:
    """A job as it is sent: `entrypoint` is run in a copy of `folder`."""

    submission: str
    folder: Path
    entrypoint: str
    metadata: dict[str, str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Terms:
    """How a job is sent.

    Args:
        code: `image` where the cluster's image has gemstream, `local` to send this one.
        secrets: environment variables that have to be set on the cluster.
        cluster_paths: paths in the job are the cluster's own, the same on every node.
        submission: its id; made up if not given.
        name: what a person calls the job.
        flags: of `gemstream run`, which the job's file cannot say.
    """

    code: Code = "image"
    secrets: Sequence[str] = ()
    cluster_paths: bool = False
    submission: str | None = None
    name: str = "job"
    flags: Sequence[str] = ()


def pack(job: JobSpec, terms: Terms, folder: Path) -> Parcel:
    """Lay out what is sent, in an empty folder.

    Raises:
        JobError: the job holds a secret, or is too large to send, or a name is none.
    """
    refuse_secrets(job)
    submission = terms.submission or new_id()
    if not ID.fullmatch(submission):
        raise JobError(f"submission id {submission!r}: letters, digits, - _ and . alone", key="submission")
    if bad := [name for name in terms.secrets if not SECRET_NAME.fullmatch(name)]:
        raise JobError(
            f"--secret {bad[0].partition('=')[0]}…: the name of an environment variable of the cluster, and "
            "never its value",
            key="secret",
        )
    values, paths, flags = _elsewhere(job, folder)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    (folder / arrive.JOB).write_text(text)
    shutil.copyfile(arrive.__file__, folder / ENTRY)
    sent = _facts(terms, [] if terms.cluster_paths else paths, [*flags, *terms.flags])
    if terms.code == "local":
        _copy_code(folder)
    (folder / arrive.SENT).write_text(json.dumps(sent, indent=1))
    _refuse_large(folder)
    return Parcel(
        submission=submission,
        folder=folder,
        # exec: no shell between the cluster and the driver, which would end before it.
        entrypoint=f"exec python {ENTRY}",
        metadata={
            "gemstream": str(arrive.versions()["gemstream"]),
            "name": terms.name,
            "output": values["output"],
            "fingerprint": hashlib.sha256(f"{text}{json.dumps(sent)}".encode()).hexdigest()[:16],
        },
        environment={STOP_VARIABLE: str(math.ceil(job.limits.drain_seconds) + END_SECONDS)},
    )


def _facts(terms: Terms, paths: list[str], flags: list[str]) -> dict[str, Any]:
    """What `arrive` holds the cluster against."""
    return {
        "versions": arrive.versions(),
        "python": arrive.python(),
        "code": terms.code,
        "digest": arrive.code_of(ROOT),
        "needs": _needs() if terms.code == "local" else [],
        "secrets": list(terms.secrets),
        "paths": paths,
        # Without paths it is one job, from wherever a scheduler's second try comes.
        "machine": arrive.machine() if paths else "",
        "flags": flags,
    }


def _copy_code(folder: Path) -> None:
    for path in arrive.code_files(ROOT):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def new_id() -> str:
    """In the order of time, and nobody else's."""
    return f"gemstream-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def refuse_secrets(job: JobSpec) -> None:
    """A job's file lies on the head, and in the dashboard for all to see.

    Raises:
        JobError: something in it is one, by its setting's name or its own looks. It is not repeated.
    """
    if job.expand.passwords:
        raise JobError(
            "expand.passwords: a submitted job takes no secrets along; put them into an environment variable "
            "of the cluster, one a line, name it by expand.passwords_env, and take them out here",
            key="expand.passwords",
        )
    if key := secret_in(job):
        raise JobError(
            f"{key} looks like a secret, and a submitted job takes none along; put it into the "
            "environment of the cluster's nodes, and name it by --secret to have it looked for",
            key=key,
        )


def secret_in(job: JobSpec) -> str | None:
    """The first setting that is one, by its name or its own looks."""
    for key, value in _leaves(job.plain(), ()):
        name = key.rpartition(".")[2]
        keyed = KEYED.search(name) and key.startswith("engine.options.")
        user = "://" in value and _has_password(value)
        # As a run itself would not write it down.
        hidden = key.startswith(("engine.", "storage.")) and masked(value, name) != value
        if keyed or user or hidden or LOOKS_SECRET.search(value):
            return key
    return None


def _has_password(value: str) -> bool:
    try:
        return urlsplit(value).password is not None
    except ValueError:  # no address after all
        return False


def _elsewhere(job: JobSpec, folder: Path) -> tuple[dict[str, Any], list[str], list[str]]:
    """The job's values as they are to be read in another folder, maybe on another machine; the paths of this
    one that are in them; and flags for what comes along as a file."""
    values, flags = located(job).plain(), []
    values["manifest"] = job.manifest  # which is sent, if it is here
    paths = [uri for key, uri in addresses(job) if key != "manifest" and scheme(uri) == "file"]
    if job.manifest and scheme(job.manifest) == "file":
        source = Path(normalise(job.manifest).removeprefix("file://"))
        if not source.is_file():
            raise JobError(f"manifest {job.manifest}: no such file here", key="manifest")
        (folder / "manifest").mkdir()
        shutil.copyfile(source, folder / "manifest" / source.name)
        flags += ["--manifest", f"@manifest/{source.name}"]
    models = values["models"]
    named = [models["vision"], models["audio"], *models["adapters"].values()]
    paths += [source for source in named if source and Path(source).is_dir()]
    make_job(values)  # what is read there is a job again
    return values, paths, flags


def _leaves(value: Any, key: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*key, str(name)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, key)
    elif isinstance(value, str):
        yield ".".join(key), value


def _needs() -> list[str]:
    """The packages that gemstream needs wherever it runs."""
    found = metadata.requires("gemstream") or []
    return [re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0] for line in found if "extra ==" not in line]


def _refuse_large(folder: Path) -> None:
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    if sum(sizes.values()) > SENT_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise JobError(
            f"what is to be sent is {sum(sizes.values()) / 1e6:.0f} MB, most of it "
            f"{largest.relative_to(folder)}, and no more than {SENT_BYTES / 1e6:.0f} MB are; put it into the "
            "object store and name it there",
            key="job",
        )
