"""What a job or a flag says that no pod could do, told before anything is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines.located import addresses
from pipelines.submit import secret_in
from schemas.errors import JobError
from workers.storage.factory import scheme

if TYPE_CHECKING:
    from schemas.job import JobSpec

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
NAME_LENGTH = 36
"""Of a name. KubeRay takes 47 for a RayJob, of which a schedule adds eleven to each run's."""
NAMESPACE_LENGTH = 63
_IMAGE = re.compile(
    r"(?P<name>[a-z0-9]+([._-][a-z0-9]+)*(\.[a-z0-9-]+)*(:[0-9]+)?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+")
_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


def check_name(flag: str, name: str, length: int) -> str:
    """A name that Kubernetes takes (a label of DNS, RFC 1123).

    Raises:
        JobError: it is none.
    """
    if not _NAME.fullmatch(name) or len(name) > length:
        raise JobError(
            f"{flag} {name!r}: small letters, digits and dashes, a letter or digit at both ends, {length} at "
            "most",
            key=flag.lstrip("-"),
        )
    return name


def check_image(flag: str, image: str) -> str:
    """An image that is the same tomorrow: by its digest, or at least by a tag that says a version.

    Raises:
        JobError: it is none.
    """
    found = _IMAGE.fullmatch(image)
    how = (
        "name it by its digest, registry/gemstream@sha256:…, as `docker buildx imagetools inspect IMAGE:TAG` "
        "prints it"
    )
    if found is None:
        raise JobError(f"{flag} {image!r} is no image: {how}", key=flag.lstrip("-"))
    if found["digest"] is None and found["tag"] in (None, "latest"):
        raise JobError(f"{flag} {image!r} may be another image on each node: {how}", key=flag.lstrip("-"))
    return image


def check_role(role: str) -> str:
    """The address of a role of AWS.

    Raises:
        JobError: it is none.
    """
    if not _ROLE.fullmatch(role):
        raise JobError(f"--role {role!r}: write it as arn:aws:iam::111122223333:role/name", key="role")
    return role


def refuse_what_pods_cannot(job: JobSpec, target: str) -> None:
    """Refuse what is there on this machine and not on a cluster's, and secrets, which a manifest would show.

    Raises:
        JobError: the job has one of them.
    """
    for key, uri in addresses(job):
        if scheme(uri) == "file":
            raise JobError(
                f"{key}: {uri.removeprefix('file://')} is on this machine, and a pod cannot see it; put "
                "it into a bucket and name that, s3://bucket/prefix",
                key=key,
            )
    _refuse_secrets(job)
    host = urlsplit(job.storage.endpoint_url or "").hostname
    if host in _LOOPBACK:
        raise JobError(
            f"storage.endpoint_url: {job.storage.endpoint_url} is each pod's own loopback; name the store as "
            "the cluster knows it, such as http://seaweedfs:8333",
            key="storage.endpoint_url",
        )
    named = {f"models.{pool}": source for pool, source in _models(job).items()}
    named |= {f"models.adapters.{name}": source for name, source in job.models.adapters.items()}
    for key, source in named.items():
        if not Path(source).is_absolute() and (source.startswith((".", "~")) or Path(source).exists()):
            raise JobError(
                f"{key}: {source} is a folder of this machine; name a model of Hugging Face, or where the "
                "folder is mounted in the pods, from /",
                key=key,
            )


def _models(job: JobSpec) -> dict[str, str]:
    return {pool: source for pool in ("vision", "audio") if (source := getattr(job.models, pool))}


def _refuse_secrets(job: JobSpec) -> None:
    if job.expand.passwords:
        raise JobError(
            "expand.passwords: a ConfigMap would show them to whoever may look; put them into the Secret "
            "gemstream, one a line of one key, and name that key by expand.passwords_env",
            key="expand.passwords",
        )
    if key := secret_in(job):
        raise JobError(
            f"{key} looks like a secret, which a ConfigMap would show to whoever may look; name it by its "
            "variable of the environment (HF_TOKEN, or api_key_env), which the manifests take from the "
            "Secret gemstream",
            key=key,
        )
